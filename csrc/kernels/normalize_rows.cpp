// SPDX-License-Identifier: Apache-2.0
// instruction sets: base avx2 avx512
// The loops of the normalizations, on rows (contiguous) and on columns (a stride apart). Variance
// is the mean of (x - mean)^2 in a second pass, never E[x^2] - mean^2.
#include "kernels/normalize_rows.h"
#include "simd/math.h"
#include "simd/sums.h"

namespace bascule::BASCULE_ISA {
namespace {

RowMoments<float> moments(const float* x, int64_t n) {
  const float mean = sum_of(n, [&](int64_t i, int64_t count) { return load(x + i, count, 0); }) /
                     static_cast<float>(n);
  const F32 center = set(mean);
  const float squares = sum_of(n, [&](int64_t i, int64_t count) {
    const F32 d = load(x + i, count, mean) - center;
    return d * d;
  });
  return {mean, squares / static_cast<float>(n)};
}

float mean_square(const float* x, int64_t n) {
  return sum_of(n,
                [&](int64_t i, int64_t count) {
                  const F32 v = load(x + i, count, 0);
                  return v * v;
                }) /
         static_cast<float>(n);
}

// y = (x - mean) * scale + bias with one mean, scale and bias for all.
void affine_row(const float* x, float* y, int64_t n, float mean, float scale, float bias) {
  for_vectors(n, [&](int64_t i, int64_t count) {
    store(y + i, fma(load(x + i, count, 0) - mean, set(scale), set(bias)), count);
  });
}

// y = (x - mean) * factor * scale[i] + bias[i]; without bias y = (x - mean) * factor * scale[i].
void scaled_row(const float* x, float* y, int64_t n, float mean, float factor, const float* scale,
                const float* bias) {
  if (bias == nullptr) {
    for_vectors(n, [&](int64_t i, int64_t count) {
      store(y + i, (load(x + i, count, 0) - mean) * factor * load(scale + i, count, 0), count);
    });
    return;
  }
  for_vectors(n, [&](int64_t i, int64_t count) {
    store(y + i,
          fma((load(x + i, count, 0) - mean) * factor, load(scale + i, count, 0),
              load(bias + i, count, 0)),
          count);
  });
}

// y = (x - mean[i]) * scale[i] + bias[i].
void affine_columns(const float* x, float* y, int64_t n, const float* mean, const float* scale,
                    const float* bias) {
  for_vectors(n, [&](int64_t i, int64_t count) {
    store(y + i,
          fma(load(x + i, count, 0) - load(mean + i, count, 0), load(scale + i, count, 0),
              load(bias + i, count, 0)),
          count);
  });
}

// sums[j] = sum over the rows of x[row][j], or of (x[row][j] - mean[j])^2 where mean is given.
void column_sums(const float* x, int64_t rows, int64_t stride, int64_t columns, const float* mean,
                 float* sums) {
  for_vectors(columns, [&](int64_t j, int64_t count) { store(sums + j, set(0), count); });
  const auto add = [](F32 a, F32 b) { return a + b; };
  if (mean == nullptr) {
    fold_columns(x, rows, stride, columns, 0, sums, [](F32 v, int64_t, int64_t) { return v; }, add);
    return;
  }
  fold_columns(
      x, rows, stride, columns, 0, sums,
      [&](F32 v, int64_t j, int64_t count) {
        const F32 d = v - load(mean + j, count, 0);
        return d * d;
      },
      add);
}

void add_row(const float* a, const float* b, float* y, int64_t n) {
  for_vectors(n, [&](int64_t i, int64_t count) {
    store(y + i, load(a + i, count, 0) + load(b + i, count, 0), count);
  });
}

// y = x / (bias + alpha * sum)^beta for the sums of squares at `sums`.
void divide_by_power(const float* x, const float* sums, float* y, int64_t n, float alpha,
                     float beta, float bias) {
  for_vectors(n, [&](int64_t i, int64_t count) {
    const F32 base = fma(load(sums + i, count, 0), set(alpha), set(bias));
    const F32 divisor = beta == 0.5f    ? sqrt(base)
                        : beta == 0.75f ? sqrt(base) * sqrt(sqrt(base))
                        : beta == 1.0f  ? base
                                        : exp(log(base) * beta);
    store(y + i, load(x + i, count, 0) / divisor, count);
  });
}

}  // namespace

NormalizeRows<float> normalize_rows() {
  return {moments,        mean_square, affine_row, scaled_row,
          affine_columns, column_sums, add_row,    divide_by_power};
}

}  // namespace bascule::BASCULE_ISA
