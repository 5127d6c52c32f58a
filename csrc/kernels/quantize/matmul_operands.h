// SPDX-License-Identifier: Apache-2.0
// The operands of a product of quantized matrices, with NumPy's rules for the shapes.
#pragma once

#include <algorithm>
#include <string>

#include "core/error.h"
#include "core/shape.h"
#include "kernels/broadcast.h"

namespace bascule {

// Both operands as batches of matrices.
struct MatMulShapes {
  MatMulShapes(const Shape& a_shape, const Shape& b_shape) {
    const int a_rank = a_shape.rank(), b_rank = b_shape.rank();
    if (a_rank == 0 || b_rank == 0) fail("a scalar is not a matrix");
    m = a_rank == 1 ? 1 : a_shape[a_rank - 2];
    k = a_shape.back();
    n = b_rank == 1 ? 1 : b_shape.back();
    const int64_t b_rows = b_shape[std::max(0, b_rank - 2)];
    if (b_rows != k) {
      fail("matrix sizes do not fit: " + a_shape.text() + " has " + std::to_string(k) +
           " columns and " + b_shape.text() + " has " + std::to_string(b_rows) + " rows");
    }
    a_batch = Shape(a_shape.begin(), a_shape.begin() + std::max(0, a_rank - 2));
    b_batch = Shape(b_shape.begin(), b_shape.begin() + std::max(0, b_rank - 2));
    batch = broadcast(a_batch, b_batch);
    y = batch;
    if (a_rank > 1) y.push_back(m);
    if (b_rank > 1) y.push_back(n);
    // One B for all: the batch is more rows.
    if (b_batch.size() == 1 && a_batch.size() == batch.size()) {
      m *= batch.size();
      batch = a_batch = b_batch = Shape{};
    }
  }

  // The matrix of an operand with batch `own` that matrix `index` of the result is made of.
  int64_t item(const Shape& own, int64_t index) const {
    int64_t result = 0, stride = 1;
    for (int axis = batch.rank() - 1; axis >= 0; --axis) {
      const int at = axis - (batch.rank() - own.rank());
      if (at >= 0 && own[at] != 1) result += index % batch[axis] * stride;
      if (at >= 0) stride *= own[at];
      index /= batch[axis];
    }
    return result;
  }

  // Elements from one matrix of an operand to the next along each axis of the batch.
  Shape strides(const Shape& own, int64_t matrix) const {
    Shape result = Shape::filled(batch.rank(), 0);
    for (int axis = own.rank() - 1; axis >= 0; --axis) {
      if (own[axis] != 1) result[batch.rank() - own.rank() + axis] = matrix;
      matrix *= own[axis];
    }
    return result;
  }

  int64_t m, n, k;
  Shape a_batch, b_batch, batch;
  Shape y;
};

// Numbers of an operand's rows (or columns): one for all, one for each of a matrix, or one for
// each of all matrices.
template <class T>
struct PerLine {
  const T* values = nullptr;  // null: zero
  int64_t line_step = 0;
  int64_t matrix_step = 0;

  PerLine() = default;
  PerLine(const T* from, int64_t count, int64_t lines, int64_t matrices, const char* name)
      : values(from) {
    if (count == 1) return;
    if (count != lines && count != lines * matrices) {
      invalid(std::string(name) + " has " + std::to_string(count) + " elements, expected 1 or " +
              std::to_string(lines));
    }
    line_step = 1;
    if (count != lines) matrix_step = lines;
  }
  T at(int64_t matrix, int64_t line) const {
    return values != nullptr ? values[matrix * matrix_step + line * line_step] : T{};
  }
};

}  // namespace bascule
