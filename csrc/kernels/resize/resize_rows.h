// SPDX-License-Identifier: Apache-2.0
// The loops of interpolation. T is float or double. Plain data, shared by code of every instruction
// set.
#pragma once

#include <cstdint>

namespace bascule {

template <class T>
struct ResizeFunctions {
  // y[i] = sum over t of weights[t * weight_stride] * x[indices[t * weight_stride] * stride + i]
  // for i < n: one output element of an axis whose elements are runs of n.
  void (*blend_runs)(const T* x, int64_t stride, const int32_t* indices, const T* weights,
                     int64_t weight_stride, int64_t taps, int64_t n, T* y);
  // The same added to y.
  void (*add_runs)(const T* x, int64_t stride, const int32_t* indices, const T* weights,
                   int64_t weight_stride, int64_t taps, int64_t n, T* y);
  // y[o] = sum over t of weights[t * n + o] * x[indices[t * n + o]]: the last axis.
  void (*blend_row)(const T* x, const int32_t* indices, const T* weights, int64_t taps, int64_t n,
                    T* y);
};

template <class T>
const ResizeFunctions<T>& resize_functions();

}  // namespace bascule
