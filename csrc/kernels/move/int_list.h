// SPDX-License-Identifier: Apache-2.0
// Small integer inputs (shapes, axes, starts) without allocation.
#pragma once

#include "core/tensor.h"

namespace bascule {

// The elements of an int64 or int32 tensor of at most Shape::max_rank elements.
inline Shape int_list(const Tensor& tensor) {
  if (tensor.dtype() == DType::int64) {
    return Shape(tensor.data<int64_t>(), tensor.data<int64_t>() + tensor.size());
  }
  if (tensor.dtype() == DType::int32) {
    return Shape(tensor.data<int32_t>(), tensor.data<int32_t>() + tensor.size());
  }
  fail(std::string("expected int32 or int64 elements, got ") + name_of(tensor.dtype()));
}

// Marks the axes in `axes`, each in [-rank, rank) and given once.
inline void mark_axes(const Shape& axes, int rank, bool (&marked)[Shape::max_rank]) {
  std::fill_n(marked, Shape::max_rank, false);
  const Shape any = Shape::filled(rank, 1);
  for (const int64_t value : axes) {
    const int axis = any.axis(value);
    if (marked[axis]) invalid("axis " + std::to_string(value) + " is given twice");
    marked[axis] = true;
  }
}

// A size that an input gives: not negative.
inline int64_t checked_size(int64_t value, const char* what) {
  if (value < 0) invalid(std::string(what) + " must not be negative, got " + std::to_string(value));
  return value;
}

}  // namespace bascule
