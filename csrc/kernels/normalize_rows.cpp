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

// y = (x - mean) * scale + bias with one mean, scale and bias for all.
void affine_row(const float* x, float* y, int64_t n, float mean, float scale, float bias) {
  for_vectors(n, [&](int64_t i, int64_t count) {
    store(y + i, fma(load(x + i, count, 0) - mean, set(scale), set(bias)), count);
  });
}

// Rows that are normalized side by side: the latencies of their sums overlap.
constexpr int rows_at_once = lanes == 16 ? 4 : 2;

// Some rows from `first` on. With several rows, scale and bias are the same for all.
template <int rows>
void layer_group(const LayerRows<float>& g, int64_t first) {
  const int64_t n = g.n;
  const float* x = g.x + first * n;
  float mean[rows] = {}, factor[rows];
  if (g.centered) {
    sums_of<rows>(
        n, [&](int r, int64_t i, int64_t count) { return load(x + r * n + i, count, 0); }, mean);
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) mean[r] /= static_cast<float>(n);
  }
  sums_of<rows>(
      n,
      [&](int r, int64_t i, int64_t count) {
        const F32 d = load(x + r * n + i, count, mean[r]) - set(mean[r]);
        return d * d;
      },
      factor);
#pragma GCC unroll 4
  for (int r = 0; r < rows; ++r) {
    factor[r] = 1 / __builtin_sqrtf(factor[r] / static_cast<float>(n) + g.epsilon);
    if (g.means != nullptr) g.means[first + r] = mean[r];
    if (g.factors != nullptr) g.factors[first + r] = factor[r];
  }
  const float* scale = g.scale + first * g.scale_stride;
  const float* bias = g.bias != nullptr ? g.bias + first * g.bias_stride : nullptr;
  float* y = g.y + first * n;
  const auto finish = [&](int64_t i, int64_t count, auto&& scaled) __attribute__((always_inline)) {
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) {
      const F32 part = (load(x + r * n + i, count, 0) - mean[r]) * factor[r];
      store(y + r * n + i, scaled(part), count);
    }
  };
  if (bias == nullptr) {
    for_vectors(n, [&](int64_t i, int64_t count) {
      const F32 by = load(scale + i, count, 0);
      finish(i, count, [&](F32 part) { return part * by; });
    });
  } else {
    for_vectors(n, [&](int64_t i, int64_t count) {
      const F32 by = load(scale + i, count, 0);
      const F32 plus = load(bias + i, count, 0);
      finish(i, count, [&](F32 part) { return fma(part, by, plus); });
    });
  }
}

void layer_rows(const LayerRows<float>& g, int64_t begin, int64_t end) {
  // Longer ones would not stay in the first cache together.
  constexpr int64_t longest = 2048;
  if (g.n <= longest && g.scale_stride == 0 && (g.bias == nullptr || g.bias_stride == 0)) {
    for (; begin + rows_at_once <= end; begin += rows_at_once) layer_group<rows_at_once>(g, begin);
  }
  for (; begin < end; ++begin) layer_group<1>(g, begin);
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
  return {moments, affine_row, layer_rows, affine_columns, column_sums, add_row, divide_by_power};
}

}  // namespace bascule::BASCULE_ISA
