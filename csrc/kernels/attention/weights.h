// SPDX-License-Identifier: Apache-2.0
// Scores of attention become weights: e^(score - top), where a row's top follows its largest score
// so far at some distance. A row is gone through in panels of keys, and what happens to it depends
// on its own scores alone. Included by sources that are compiled per instruction set.
#pragma once

#include "kernels/attention/attention_rows.h"
#include "simd/math.h"

namespace bascule::BASCULE_ISA {
namespace {

constexpr int key_panel = 2 * lanes;

// e^x for x <= 60, within 3e-7 of it and what rounding x * log2(e) makes of that; zero where it is
// below the smallest normal number.
BASCULE_INLINE F32 weight_of(F32 x) {
  // Adding this rounds to a whole number, which stands in the low bits as the exponent of a float.
  const F32 whole = set(12582912.0f + 127);
  const F32 n = fma(x, set(log2_e), whole);
  const F32 rest = fma(x, set(log2_e), whole - n);
  const F32 p =
      polynomial(rest, set(1.3253462966531515e-3f), 9.672367945313454e-3f, 5.5507998913526535e-2f,
                 2.4022223055362701e-1f, 6.931468844413757e-1f, 1.0f);
  const F32 power = reinterpret_cast<F32>(reinterpret_cast<I32>(n) << 23);
  return x < -87.0f ? set(0.0f) : p * power;
}

BASCULE_INLINE void scale_row(const float* x, int64_t n, float factor, float* to) {
  for_vectors(n, [&](int64_t i, int64_t count) {
    store(to + i, load(x + i, count, 0) * set(factor), count);
  });
}

// Weights of e^11 are far from overflow.
constexpr float most_above_top = 11;

// Brings the row's weights of the keys before `column`, its sums and y to a new top.
__attribute__((noinline)) void raise_top(const WeightBlock<float>& b, int64_t r, int64_t column,
                                         F32 scores) {
  const float top = reduce(scores, [](F32 one, F32 other) { return at_least(one, other); });
  if (b.tops[r] != -infinity) {
    const float factor = weight_of(set(b.tops[r] - top))[0];
    float* sums = b.sums + r * attention_sum_lanes;
    scale_row(sums, attention_sum_lanes, factor, sums);
    scale_row(b.x + r * b.stride, column, factor, b.x + r * b.stride);
    if (b.y != nullptr) {
      float* y = b.y + r * b.y_stride;
      scale_row(y, b.y_size, factor, y);
    }
  }
  b.tops[r] = top;
}

// One vector of a row's scores.
BASCULE_INLINE F32 score(const WeightBlock<float>& b, int64_t r, int64_t column, int64_t count) {
  const F32 x = load(b.x + r * b.stride + column, count, -infinity);
  return b.mask == nullptr ? x : x + load(b.mask + r * b.mask_stride + column, count, 0);
}

// The larger of a panel's two vectors; NaN is passed over.
BASCULE_INLINE F32 larger(F32 one, F32 other) {
  return at_least(one, at_least(other, set(-infinity)));
}

BASCULE_INLINE void weigh_panel(const WeightBlock<float>& b, int64_t r, int64_t column, F32 one,
                                F32 other, int64_t count, F32& top, F32& sum) {
  const F32 most = larger(one, other);
  if (__builtin_expect(any(most - top > most_above_top), 0)) {
    store(b.sums + r * attention_sum_lanes, sum);
    raise_top(b, r, column, most);
    sum = load(b.sums + r * attention_sum_lanes);
    top = set(b.tops[r]);
  }
  float* x = b.x + r * b.stride + column;
  one = weight_of(one - top);
  store(x, one, count);
  sum += one;
  if (count <= lanes) return;
  other = weight_of(other - top);
  store(x + lanes, other, count - lanes);
  sum += other;
}

// Scores of the rows [first, last) for the keys [from, to) of the block, from whole panels on.
void weigh_rows(const WeightBlock<float>& b, int64_t first, int64_t last, int64_t from,
                int64_t to) {
  // The first tops of some rows first: these are long chains of short steps, which run side by
  // side.
  constexpr int64_t together = 8;
  for (int64_t start = first; start < last; start += together) {
    const int64_t end = start + together < last ? start + together : last;
    for (int64_t r = start; r < end; ++r) {
      for (int64_t i = from; b.tops[r] == -infinity && i < to; i += key_panel) {
        const F32 one = score(b, r, i, to - i);
        const F32 other = to - i > lanes ? score(b, r, i + lanes, to - i - lanes) : one;
        const F32 most = larger(one, other);
        if (any(most > -infinity)) raise_top(b, r, i, most);
      }
    }
    for (int64_t r = start; r < end; ++r) {
      // Where there is nothing but -infinity, any top gives zeros.
      F32 top = set(b.tops[r] == -infinity ? 0.0f : b.tops[r]);
      F32 sum = load(b.sums + r * attention_sum_lanes);
      int64_t i = from;
      for (; i + key_panel <= to; i += key_panel) {
        weigh_panel(b, r, i, score(b, r, i, lanes), score(b, r, i + lanes, lanes), key_panel, top,
                    sum);
      }
      if (i < to) {
        const int64_t count = to - i;
        const F32 one = score(b, r, i, count);
        weigh_panel(b, r, i, one, count > lanes ? score(b, r, i + lanes, count - lanes) : one,
                    count, top, sum);
      }
      store(b.sums + r * attention_sum_lanes, sum);
    }
  }
}

}  // namespace
}  // namespace bascule::BASCULE_ISA
