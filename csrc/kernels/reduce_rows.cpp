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

template <int... lane>
struct Lanes {};
#if defined(__AVX512F__)
using EveryLane = Lanes<0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15>;
#elif defined(__AVX2__)
using EveryLane = Lanes<0, 1, 2, 3, 4, 5, 6, 7>;
#else
using EveryLane = Lanes<0, 1, 2, 3>;
#endif

// The segments of 2 * half lanes in u, then those in v, each joined by halves.
template <int half, class Combine, int... lane>
BASCULE_INLINE F32 join_halves(F32 u, F32 v, Combine&& combine, Lanes<lane...>) {
  return combine(__builtin_shufflevector(u, v, (lane / half * 2 * half + lane % half)...),
                 __builtin_shufflevector(u, v, (lane / half * 2 * half + half + lane % half)...));
}

// Folds of `lanes` segments of `width` lanes, which lie in vector(0), vector(1), ...: down to
// segments of `left` lanes, of which this is vector `i`.
template <int width, int left, class Vector, class Combine>
BASCULE_INLINE F32 fold_segments(int64_t i, Vector&& vector, Combine&& combine) {
  if constexpr (left >= width) {
    return vector(i);
  } else {
    return join_halves<left>(fold_segments<width, 2 * left>(2 * i, vector, combine),
                             fold_segments<width, 2 * left>(2 * i + 1, vector, combine), combine,
                             EveryLane{});
  }
}

// The folds of `lanes` rows of `width` or, for width = lanes, less than so many elements.
template <int width, class Map, class Combine>
BASCULE_INLINE F32 fold_segment_rows(const float* x, int64_t n, float neutral, Map&& map,
                                     Combine&& combine) {
  const auto vector = [&](int64_t i) {
    return map(width == lanes ? load(x + i * n, n, neutral) : load(x + i * lanes));
  };
  return fold_segments<width, 1>(0, vector, combine);
}

// The folds of `rows` <= lanes rows of n <= lanes elements, which are read column by column.
template <class Map, class Combine>
BASCULE_INLINE F32 fold_row_columns(const float* x, int64_t rows, int64_t n, float neutral,
                                    Map&& map, Combine&& combine) {
  F32 v[lanes];
  int64_t width = 1;
  while (width < n) width *= 2;
  for (int64_t j = 0; j < n; ++j) {
    F32 column = set(neutral);
    if (rows == lanes) {
#pragma GCC unroll 16
      for (int i = 0; i < lanes; ++i) column[i] = x[i * n + j];
    } else {
      for (int64_t i = 0; i < rows; ++i) column[i] = x[i * n + j];
    }
    v[j] = map(column);
  }
  for (int64_t j = n; j < width; ++j) v[j] = set(neutral);
  for (int64_t half = width / 2; half > 0; half /= 2) {
    for (int64_t j = 0; j < half; ++j) v[j] = combine(v[j], v[j + half]);
  }
  return v[0];
}

// Rows of 0 < n <= lanes elements, a vector of rows at a time. The elements of a row are joined by
// halves, as reduce() joins the lanes of one.
template <class Map, class Combine>
BASCULE_INLINE void short_rows(const float* x, int64_t count, int64_t n, float neutral, float* out,
                               Map&& map, Combine&& combine) {
  for_vectors(count, [&](int64_t k, int64_t rows) {
    const float* from = x + k * n;
    F32 y;
    if (rows == lanes && n > lanes / 2) {
      y = fold_segment_rows<lanes>(from, n, neutral, map, combine);
    } else if (rows == lanes && n == 8 && n < lanes) {
      y = fold_segment_rows<8>(from, n, neutral, map, combine);
    } else if (rows == lanes && n == 4 && n < lanes) {
      y = fold_segment_rows<4>(from, n, neutral, map, combine);
    } else if (rows == lanes && n == 2) {
      y = fold_segment_rows<2>(from, n, neutral, map, combine);
    } else {
      y = fold_row_columns(from, rows, n, neutral, map, combine);
    }
    store(out + k, combine(set(neutral), y), rows);
  });
}

void rows(Fold fold, const float* x, int64_t count, int64_t n, const float* shift, float* out) {
  if (n > lanes || n == 0) {
    for (int64_t k = 0; k < count; ++k) {
      out[k] = row(fold, x + k * n, n, shift != nullptr ? shift[k] : 0);
    }
    return;
  }
  const auto same = [](F32 v) { return v; };
  switch (fold) {
    case Fold::sum:
      return short_rows(x, count, n, 0, out, same, Plus{});
    case Fold::sum_abs:
      return short_rows(x, count, n, 0, out, [](F32 v) { return abs(v); }, Plus{});
    case Fold::sum_squares:
      return short_rows(x, count, n, 0, out, [](F32 v) { return v * v; }, Plus{});
    case Fold::sum_exp:
      return for_vectors(count, [&](int64_t k, int64_t some) {
        const F32 by = load(shift + k, some, 0);
        const auto shifted = [&](F32 v) { return exp(v - by); };
        store(out + k, fold_row_columns(x + k * n, some, n, 0, shifted, Plus{}), some);
      });
    case Fold::product:
      return short_rows(x, count, n, 1, out, same, Times{});
    case Fold::max:
      return short_rows(x, count, n, -infinity, out, same, Larger{});
    case Fold::min:
      return short_rows(x, count, n, infinity, out, same, Smaller{});
  }
}

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

ReduceLoops<float> reduce_loops() { return {row, rows, columns}; }

}  // namespace bascule::BASCULE_ISA
