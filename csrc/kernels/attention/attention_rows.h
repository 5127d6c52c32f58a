// SPDX-License-Identifier: Apache-2.0
// The loops of attention beside its matrix products. T is float or double. Plain data, shared by
// code of every instruction set.
#pragma once

#include <cstdint>

namespace bascule {

// Some rows of scores against a block of keys, on the way to weights. Keys come in blocks; a row's
// weights are e^(score - top), where its top follows the largest score so far at some distance, so
// that it rarely changes.
template <class T>
struct WeightBlock {
  T* x;  // scores, then weights
  int64_t stride;
  int64_t rows;
  int64_t keys;
  const T* mask;  // added to the scores, or null
  int64_t mask_stride;
  T* tops;  // of each row; -infinity before anything was seen
  T* sums;  // of each row's weights, in attention_sum_lanes parts
  T* y;     // the sums of weighted values over the blocks before, or null
  int64_t y_stride;
  int64_t y_size;
};

inline constexpr int64_t attention_sum_lanes = 16;
// At most this many rows are worked on at once.
inline constexpr int64_t attention_tile_rows = 112;

template <class T>
struct AttentionFunctions {
  // How many keys there are in a panel, for `score`.
  int64_t key_panel;
  // scores[r * score_stride + j] = dot(q + r * q_stride, k + j * k_stride), `size` elements long,
  // for `rows` rows and `count` keys.
  void (*dot_rows)(const T* q, int64_t q_stride, int64_t rows, const T* k, int64_t k_stride,
                   int64_t count, int64_t size, T* scores, int64_t score_stride);
  // y[r * y_stride ..] = sum over j of weights[r * weight_stride + j] * v[j * v_stride ..]; with
  // `more`, on top of what y is.
  void (*weighted_rows)(const T* weights, int64_t weight_stride, int64_t rows, const T* v,
                        int64_t v_stride, int64_t count, int64_t size, T* y, int64_t y_stride,
                        bool more);
  // x = cap * tanh(x / cap).
  void (*cap_row)(T* x, int64_t n, T cap);
  // Turns scores into weights. Scores of -infinity weigh nothing. Where a top changes, the row's
  // sums and y are brought to the new one.
  void (*weigh)(const WeightBlock<T>& block);
  // The weights of `block.rows` rows of queries, one after the other, with keys in panels of the
  // matrix product; the same bits as its scores and `weigh` give. Writes whole panels of x. Null
  // where it is not there for a type.
  void (*score)(const T* q, const T* keys, int64_t size, const WeightBlock<T>& block);
  // The sums of weighted values divided by the sums of the weights; zero where that is zero.
  void (*divide)(const WeightBlock<T>& block, T* to, int64_t stride);
  // to[r * n ..] = factor * x[r * stride ..], n elements.
  void (*scale_rows)(const T* x, int64_t rows, int64_t n, int64_t stride, T factor, T* to);
};

template <class T>
const AttentionFunctions<T>& attention_functions();

}  // namespace bascule
