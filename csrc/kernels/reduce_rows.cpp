// SPDX-License-Identifier: Apache-2.0
// instruction sets: base avx2 avx512
// Reductions of float32 rows and columns.
#include "kernels/reduce_loops.h"
#include "simd/math.h"
#include "simd/sums.h"

namespace bascule::BASCULE_ISA {
namespace {

// Two interleaved partial results, for folds where blocks bring no accuracy.
template <class Combine>
BASCULE_INLINE float fold_row(const float* x, int64_t n, float neutral, Combine&& combine) {
  F32 a = set(neutral), b = a;
  int64_t i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes) {
    a = combine(a, load(x + i));
    b = combine(b, load(x + i + lanes));
  }
  for (; i < n; i += lanes) a = combine(a, load(x + i, n - i, neutral));
  return reduce(combine(a, b), combine);
}

struct Larger {
  F32 operator()(F32 a, F32 b) const { return max(a, b); }
};
struct Smaller {
  F32 operator()(F32 a, F32 b) const { return min(a, b); }
};
struct Times {
  F32 operator()(F32 a, F32 b) const { return a * b; }
};

float row(Fold fold, const float* x, int64_t n, float shift) {
  switch (fold) {
    case Fold::sum:
      return sum_of(n, [&](int64_t i, int64_t count) { return load(x + i, count, 0); });
    case Fold::sum_abs:
      return sum_of(n, [&](int64_t i, int64_t count) { return abs(load(x + i, count, 0)); });
    case Fold::sum_squares:
      return sum_of(n, [&](int64_t i, int64_t count) {
        const F32 v = load(x + i, count, 0);
        return v * v;
      });
    case Fold::sum_exp:
      return sum_of_costly(
          n, [&](int64_t i, int64_t count) { return exp(load(x + i, count, -infinity) - shift); });
    case Fold::product:
      return fold_row(x, n, 1, Times{});
    case Fold::max:
      return fold_row(x, n, -infinity, Larger{});
    case Fold::min:
      return fold_row(x, n, infinity, Smaller{});
  }
  return 0;
}

struct Plus {
  F32 operator()(F32 a, F32 b) const { return a + b; }
};

void columns(Fold fold, const float* x, int64_t rows, int64_t stride, int64_t columns,
             const float* shift, float* total) {
  const auto same = [](F32 v, int64_t, int64_t) { return v; };
  switch (fold) {
    case Fold::sum:
      return fold_columns(x, rows, stride, columns, 0, total, same, Plus{});
    case Fold::sum_abs:
      return fold_columns(
          x, rows, stride, columns, 0, total, [](F32 v, int64_t, int64_t) { return abs(v); },
          Plus{});
    case Fold::sum_squares:
      return fold_columns(
          x, rows, stride, columns, 0, total, [](F32 v, int64_t, int64_t) { return v * v; },
          Plus{});
    case Fold::sum_exp:
      return fold_columns(
          x, rows, stride, columns, 0, total,
          [&](F32 v, int64_t j, int64_t count) { return exp(v - load(shift + j, count, 0)); },
          Plus{});
    case Fold::product:
      return fold_columns(x, rows, stride, columns, 1, total, same, Times{});
    case Fold::max:
      return fold_columns(x, rows, stride, columns, -infinity, total, same, Larger{});
    case Fold::min:
      return fold_columns(x, rows, stride, columns, infinity, total, same, Smaller{});
  }
}

}  // namespace

ReduceLoops<float> reduce_loops() { return {row, columns}; }

}  // namespace bascule::BASCULE_ISA
