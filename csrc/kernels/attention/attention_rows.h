// SPDX-License-Identifier: Apache-2.0
// The loops of attention beside its matrix products. T is float or double. Plain data, shared by
// code of every instruction set.
#pragma once

#include <cstdint>

namespace bascule {

template <class T>
struct AttentionFunctions {
  // scores[r * score_stride + j] = scale * dot(q + r * q_stride, k + j * k_stride), `size` elements
  // long, for `rows` rows and `count` keys.
  void (*dot_rows)(const T* q, int64_t q_stride, int64_t rows, const T* k, int64_t k_stride,
                   int64_t count, int64_t size, T scale, T* scores, int64_t score_stride);
  // y[r * y_stride ..] = sum over j of weights[r * weight_stride + j] * v[j * v_stride ..].
  void (*weighted_rows)(const T* weights, int64_t weight_stride, int64_t rows, const T* v,
                        int64_t v_stride, int64_t count, int64_t size, T* y, int64_t y_stride);
  // x = cap * tanh(x / cap).
  void (*cap_row)(T* x, int64_t n, T cap);
  // x = exp(x + mask - maximum), and the sum of that; all zero when nothing is above -infinity.
  // `mask` may be null. The sink, perhaps -infinity, counts like one more element.
  T (*exp_row)(T* x, const T* mask, int64_t n, T sink);
  void (*scale_row)(T* x, int64_t n, T factor);
};

template <class T>
const AttentionFunctions<T>& attention_functions();

}  // namespace bascule
