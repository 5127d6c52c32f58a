// SPDX-License-Identifier: Apache-2.0
// Sums over runs of floats. The order of additions depends on the length (and the instruction set)
// alone: four interleaved partial sums per block of vectors, blocks added one after the other.
#pragma once

#include "simd/vec.h"

namespace bascule::BASCULE_ISA {
namespace {

// Vectors whose sum is carried on its own before it joins the total: keeps long sums accurate.
constexpr int64_t sum_block = 256;

// sums[r] = the sum of value(r, i, count) over vectors that begin at i = 0, lanes, ... below n, for
// each of `rows` rows side by side; `count` <= lanes of them count, the others must be zero.
template <int rows, class Value>
BASCULE_INLINE void sums_of(int64_t n, Value&& value, float* sums) {
  F32 total[rows] = {};
  int64_t i = 0;
  while (i + lanes <= n) {
    const int64_t left = (n - i) / lanes;
    const int64_t end = i + (left < sum_block ? left : sum_block) * lanes;
    F32 part[rows][4] = {};
    for (; i + 4 * lanes <= end; i += 4 * lanes) {
#pragma GCC unroll 4
      for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 4
        for (int v = 0; v < 4; ++v) part[r][v] += value(r, i + v * lanes, int64_t{lanes});
      }
    }
    for (; i < end; i += lanes) {
#pragma GCC unroll 4
      for (int r = 0; r < rows; ++r) part[r][0] += value(r, i, int64_t{lanes});
    }
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) {
      total[r] += (part[r][0] + part[r][1]) + (part[r][2] + part[r][3]);
    }
  }
  if (i < n) {
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) total[r] += value(r, i, n - i);
  }
#pragma GCC unroll 4
  for (int r = 0; r < rows; ++r) sums[r] = reduce_add(total[r]);
}

// The sum of value(i, count) alone.
template <class Value>
BASCULE_INLINE float sum_of(int64_t n, Value&& value) {
  float sum;
  sums_of<1>(n, [&](int, int64_t i, int64_t count) { return value(i, count); }, &sum);
  return sum;
}

// The same sum for a value() that costs far more than an addition: one copy of its code.
template <class Value>
BASCULE_INLINE float sum_of_costly(int64_t n, Value&& value) {
  F32 total = set(0);
  for (int64_t i = 0; i < n;) {
    const int64_t end = n - i < sum_block * lanes ? n : i + sum_block * lanes;
    F32 part = set(0);
    for (; i < end; i += lanes) part += value(i, n - i < lanes ? n - i : int64_t{lanes});
    total += part;
  }
  return reduce_add(total);
}

// The largest of n > 0 floats; NaN may or may not be passed on.
BASCULE_INLINE float largest_of(const float* x, int64_t n) {
  F32 a = set(-infinity), b = a, c = a, d = a;
  int64_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
    a = at_least(a, load(x + i));
    b = at_least(b, load(x + i + lanes));
    c = at_least(c, load(x + i + 2 * lanes));
    d = at_least(d, load(x + i + 3 * lanes));
  }
  for (; i < n; i += lanes) a = at_least(a, load(x + i, n - i, -infinity));
  return reduce_max(max(max(a, b), max(c, d)));
}

// total[j] = combine(total[j], combine over the rows of map(x[r * stride + j], j, count)). Blocks
// of rows are folded on their own, then joined to the total in order, the same for every column.
// Unrolled: the partial results stay in registers.
template <int vectors, class Map, class Combine>
BASCULE_INLINE void fold_column_group(const float* x, int64_t rows, int64_t stride, int64_t j,
                                      int64_t count, float neutral, float* total, Map&& map,
                                      Combine&& combine) {
  for (int64_t r = 0; r < rows;) {
    const int64_t end = rows - r < sum_block ? rows : r + sum_block;
    F32 a[vectors], b[vectors];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) a[v] = b[v] = set(neutral);
    for (; r + 2 <= end; r += 2) {
      const float* row = x + r * stride + j;
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) {
        a[v] = combine(a[v], map(load(row + v * lanes, count, 0), j + v * lanes, count));
      }
      row += stride;
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) {
        b[v] = combine(b[v], map(load(row + v * lanes, count, 0), j + v * lanes, count));
      }
    }
    if (r < end) {
      const float* row = x + r++ * stride + j;
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) {
        a[v] = combine(a[v], map(load(row + v * lanes, count, 0), j + v * lanes, count));
      }
    }
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) {
      float* at = total + j + v * lanes;
      store(at, combine(load(at, count, 0), combine(a[v], b[v])), count);
    }
  }
}

template <class Map, class Combine>
BASCULE_INLINE void fold_columns(const float* x, int64_t rows, int64_t stride, int64_t columns,
                                 float neutral, float* total, Map&& map, Combine&& combine) {
  int64_t j = 0;
  for (; j + 4 * lanes <= columns; j += 4 * lanes) {
    fold_column_group<4>(x, rows, stride, j, int64_t{lanes}, neutral, total, map, combine);
  }
  if (j + 2 * lanes <= columns) {
    fold_column_group<2>(x, rows, stride, j, int64_t{lanes}, neutral, total, map, combine);
    j += 2 * lanes;
  }
  for (; j < columns; j += lanes) {
    fold_column_group<1>(x, rows, stride, j, columns - j, neutral, total, map, combine);
  }
}

}  // namespace
}  // namespace bascule::BASCULE_ISA
