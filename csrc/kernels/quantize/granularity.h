// SPDX-License-Identifier: Apache-2.0
// Which elements of a tensor share a scale: QuantizeLinear's and DequantizeLinear's axis and
// block_size, turned into rows of contiguous elements that either share one scale or have scales
// side by side.
#pragma once

#include "core/shape.h"

namespace bascule {

struct Granularity {
  // For a tensor of shape `x` with scales of shape `scale`; an error that says what was expected.
  Granularity(const Shape& x, const Shape& scale, int64_t axis, int64_t block_size);

  int64_t rows() const { return rows_; }

  struct Row {
    int64_t first;  // its first element
    int64_t count;
    int64_t scale;  // the index of its first scale
  };
  Row row(int64_t index) const {
    if (pieces_ > 0) {  // blocks along the last axis
      const int64_t piece = index % pieces_;
      const int64_t start = piece * block_;
      const int64_t left = length_ - start;
      return {index / pieces_ * length_ + start, left < block_ ? left : block_, index};
    }
    const int64_t group = index / length_, at = index % length_;
    return {index * width_, width_, group * outer_step_ + at / block_ * inner_step_};
  }
  // Whether each element of a row has a scale of its own.
  bool each() const { return each_; }
  // About how many elements a row has.
  int64_t width() const { return width_; }

 private:
  int64_t rows_ = 1;
  int64_t width_ = 0;
  int64_t length_ = 1;  // of the axis
  int64_t block_ = 1;
  int64_t pieces_ = 0;
  int64_t outer_step_ = 0;
  int64_t inner_step_ = 0;
  bool each_ = false;
};

}  // namespace bascule
