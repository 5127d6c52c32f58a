// SPDX-License-Identifier: Apache-2.0
// The operands of products of quantized matrices: which of a batch belong together, and the numbers
// that belong to their rows and columns.
#pragma once

#include "common.cuh"

constexpr int most_axes = 8;

struct Batch {
  int64_t axes;
  int64_t sizes[most_axes];
  int64_t a[most_axes];  // matrices, not elements
  int64_t b[most_axes];

  // The matrices that matrix number `item` of the result is made of.
  __device__ void find(int64_t item, int64_t& a_item, int64_t& b_item) const {
    a_item = b_item = 0;
    for (int64_t axis = axes - 1; axis >= 0; --axis) {
      const int64_t at = item % sizes[axis];
      item /= sizes[axis];
      a_item += at * a[axis];
      b_item += at * b[axis];
    }
  }
};

// Numbers of an operand's rows or columns: one for all, one for each of a matrix, or one for each
// of all matrices.
struct Lines {
  const void* values;  // null: zero
  int kind;            // 0: float32, 1: float16, 2: bfloat16, 3: int8, 4: uint8
  int64_t line_step;
  int64_t matrix_step;

  __device__ float number(int64_t matrix, int64_t line) const {
    const int64_t i = matrix * matrix_step + line * line_step;
    switch (kind) {
      case 1:
        return widen(static_cast<const float16*>(values)[i]);
      case 2:
        return widen(static_cast<const bfloat16*>(values)[i]);
      default:
        return static_cast<const float*>(values)[i];
    }
  }
  __device__ int integer(int64_t matrix, int64_t line) const {
    if (values == nullptr) return 0;
    const int64_t i = matrix * matrix_step + line * line_step;
    return kind == 3 ? static_cast<const int8_t*>(values)[i]
                     : static_cast<const uint8_t*>(values)[i];
  }
};
