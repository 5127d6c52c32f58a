// SPDX-License-Identifier: Apache-2.0
// Queries times keys, turned into weights while the scores are in registers. The sums run over the
// head in rising order, as in the matrix product. Included by sources that are compiled per
// instruction set.
#pragma once

#include "kernels/attention/weights.h"

namespace bascule::BASCULE_ISA {
namespace {

// Two accumulators a row, two vectors of the panel and a broadcast fit the registers.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int most_score_rows = 14;
#else
constexpr int most_score_rows = 6;
#endif

// Some rows of a block times one panel of keys.
struct ScoreTile {
  const float* q;  // of the first row; rows are `size` apart
  const float* k;  // the panel
  int64_t size;
  const char* next;  // what to fetch into the second cache meanwhile, a line per element
  const WeightBlock<float>* block;
  int64_t row;
  int64_t column;
  bool started;  // every row has a top
};

template <int rows>
BASCULE_INLINE void multiply_tile(const ScoreTile& t, F32 (&sum)[rows][2]) {
#pragma GCC unroll 14
  for (int r = 0; r < rows; ++r) sum[r][0] = sum[r][1] = set(0);
  // A pointer for every third row: the others are one or two strides away, which is an addressing
  // mode. The empty asm keeps the compiler from making a pointer of each.
  constexpr int pointers = (rows + 2) / 3;
  int64_t stride = t.size * static_cast<int64_t>(sizeof(float));
  const char* q[pointers];
#pragma GCC unroll 5
  for (int i = 0; i < pointers; ++i) q[i] = reinterpret_cast<const char*>(t.q) + 3 * i * stride;
  const float* k = t.k;
  const char* next = t.next;
  for (int64_t i = 0; i < t.size; ++i) {
#pragma GCC unroll 5
    for (int p = 0; p < pointers; ++p) __asm__("" : "+r"(q[p]));
    __asm__("" : "+r"(stride));
    const F32 one = load(k), other = load(k + lanes);
    __builtin_prefetch(next, 0, 2);
    next += 64;
#pragma GCC unroll 14
    for (int r = 0; r < rows; ++r) {
      const F32 value = set(*reinterpret_cast<const float*>(q[r / 3] + (r % 3) * stride));
      sum[r][0] = fma(value, one, sum[r][0]);
      sum[r][1] = fma(value, other, sum[r][1]);
    }
#pragma GCC unroll 5
    for (int p = 0; p < pointers; ++p) q[p] += sizeof(float);
    k += key_panel;
  }
}

// Adds the mask, and hides what is in the panel behind the last key.
template <int rows>
BASCULE_INLINE void mask_tile(const ScoreTile& t, F32 (&sum)[rows][2]) {
  const WeightBlock<float>& b = *t.block;
  const int64_t count = b.keys - t.column;
#pragma GCC unroll 2
  for (int v = 0; v < 2; ++v) {
    const int64_t part = count - v * lanes;
    const int64_t offset = t.row * b.mask_stride + t.column + v * lanes;
#pragma GCC unroll 14
    for (int r = 0; r < rows; ++r) {
      if (part <= 0) {
        sum[r][v] = set(-infinity);
        continue;
      }
      if (b.mask != nullptr) sum[r][v] += load(b.mask + offset + r * b.mask_stride, part, 0);
      if (part < lanes) {
        float scores[lanes];
        store(scores, sum[r][v]);
        sum[r][v] = load(scores, part, -infinity);
      }
    }
  }
}

// The first tops of rows that have none; false if a row sees nothing yet.
template <int rows>
BASCULE_INLINE bool start_rows(float* tops, const F32 (&sum)[rows][2]) {
  bool started = true;
#pragma GCC unroll 14
  for (int r = 0; r < rows; ++r) {
    const float most = reduce(larger(sum[r][0], sum[r][1]),
                              [](F32 one, F32 other) { return at_least(one, other); });
    if (tops[r] == -infinity) tops[r] = most;
    started &= tops[r] != -infinity;
  }
  return started;
}

// False where a row's top has to rise: then the block holds scores instead, with the mask added.
template <int rows>
bool score_tile(const ScoreTile& t) {
  const WeightBlock<float>& b = *t.block;
  F32 sum[rows][2];
  multiply_tile<rows>(t, sum);
  if (b.mask != nullptr || b.keys - t.column < key_panel) mask_tile<rows>(t, sum);
  float* x = b.x + t.row * b.stride + t.column;
  float* tops = b.tops + t.row;
  const bool started = t.started || start_rows<rows>(tops, sum);
  F32 above = set(-infinity);
#pragma GCC unroll 14
  for (int r = 0; r < rows; ++r) {
    above = at_least(larger(sum[r][0], sum[r][1]) - set(tops[r]), above);
  }
  if (!started || any(above > most_above_top)) {
#pragma GCC unroll 14
    for (int r = 0; r < rows; ++r) {
      store(x + r * b.stride, sum[r][0]);
      store(x + r * b.stride + lanes, sum[r][1]);
    }
    return false;
  }
  float* sums = b.sums + t.row * attention_sum_lanes;
#pragma GCC unroll 14
  for (int r = 0; r < rows; ++r) {
    const F32 top = set(tops[r]);
    const F32 one = weight_of(sum[r][0] - top);
    const F32 other = weight_of(sum[r][1] - top);
    store(x + r * b.stride, one);
    store(x + r * b.stride + lanes, other);
    F32 total = load(sums + r * attention_sum_lanes);
    total += one;
    total += other;
    store(sums + r * attention_sum_lanes, total);
  }
  return true;
}

// The tile of a given height: all are template instances, so no row is computed twice or padded.
BASCULE_INLINE bool score_some_rows(int64_t height, const ScoreTile& t) {
  constexpr int m = most_score_rows;
  static constexpr bool (*functions[14])(const ScoreTile&) = {
      score_tile<1>,
      score_tile<2>,
      score_tile<3>,
      score_tile<4>,
      score_tile<5>,
      score_tile<6>,
      score_tile<(7 < m ? 7 : m)>,
      score_tile<(8 < m ? 8 : m)>,
      score_tile<(9 < m ? 9 : m)>,
      score_tile<(10 < m ? 10 : m)>,
      score_tile<(11 < m ? 11 : m)>,
      score_tile<(12 < m ? 12 : m)>,
      score_tile<(13 < m ? 13 : m)>,
      score_tile<m>,
  };
  return functions[height - 1](t);
}

bool have_tops(const WeightBlock<float>& b, int64_t first, int64_t last) {
  for (int64_t r = first; r < last; ++r) {
    if (b.tops[r] == -infinity) return false;
  }
  return true;
}

// Rows of queries, `size` elements one after the other, with keys in panels.
void score_rows(const float* q, const float* keys, int64_t size, const WeightBlock<float>& b) {
  const int64_t tiles = (b.rows + most_score_rows - 1) / most_score_rows;
  bool started[attention_tile_rows];
  for (int64_t i = 0; i < tiles; ++i) {
    started[i] = have_tops(b, b.rows * i / tiles, b.rows * (i + 1) / tiles);
  }
  // The block as weigh_rows is to see it where scores are stored with the mask.
  WeightBlock<float> masked = b;
  masked.mask = nullptr;
  ScoreTile t{q, keys, size, nullptr, &b, 0, 0, false};
  for (t.column = 0; t.column < b.keys; t.column += key_panel, t.k += key_panel * size) {
    const int64_t end = t.column + key_panel < b.keys ? t.column + key_panel : b.keys;
    for (int64_t i = 0; i < tiles; ++i) {
      t.row = b.rows * i / tiles;
      const int64_t last = b.rows * (i + 1) / tiles;
      t.q = q + t.row * size;
      t.next = reinterpret_cast<const char*>(t.k + key_panel * size + key_panel * size * i / tiles);
      t.started = started[i];
      started[i] = score_some_rows(last - t.row, t);
      if (started[i]) continue;
      weigh_rows(masked, t.row, last, t.column, end);
      started[i] = have_tops(b, t.row, last);
    }
  }
}

}  // namespace
}  // namespace bascule::BASCULE_ISA
