// SPDX-License-Identifier: Apache-2.0
// The table of a resized axis in the type that is interpolated in.
#pragma once

#include <type_traits>

#include "kernels/resize/axis_table.h"
#include "runtime/run_context.h"

namespace bascule {

template <class T>
struct Taps {
  int64_t count;
  const int32_t* indices;
  const T* weights;
};

template <class T>
Taps<T> make_taps(RunContext& c, const Sampling& sampling, const ResizedAxis& axis) {
  Taps<T> taps;
  taps.count = tap_count(sampling, axis);
  const int64_t size = taps.count * axis.output;
  int32_t* indices = c.workspace<int32_t>(size);
  double* weights = c.workspace<double>(size);
  fill_taps(sampling, axis, indices, weights);
  taps.indices = indices;
  if constexpr (std::is_same_v<T, double>) {
    taps.weights = weights;
  } else {
    T* narrow = c.workspace<T>(size);
    for (int64_t i = 0; i < size; ++i) narrow[i] = static_cast<T>(weights[i]);
    taps.weights = narrow;
  }
  return taps;
}

}  // namespace bascule
