// SPDX-License-Identifier: Apache-2.0
#include "kernels/quantize/granularity.h"

#include <algorithm>

namespace bascule {

Granularity::Granularity(const Shape& x, const Shape& scale, int64_t axis, int64_t block_size) {
  const int64_t size = x.size();
  if (block_size < 0) invalid("block_size is " + std::to_string(block_size));
  // A scalar, or what older models write for one. With two axes or more a vector of one scale is
  // only right for an axis of one element, where it means the same.
  if (block_size == 0 && scale.size() == 1) {
    width_ = size;
    rows_ = size > 0 ? 1 : 0;
    return;
  }
  const int at = x.axis(axis);
  const int64_t outer = x.product(0, at), inner = x.product(at + 1, x.rank());
  length_ = x[at];
  if (block_size == 0) {
    if (scale.rank() != 1 || scale[0] != length_) {
      invalid("scale has shape " + scale.text() + ", expected a scalar or " +
              Shape{length_}.text() + " for axis " + std::to_string(at) + " of " + x.text());
    }
    if (inner == 1) {
      rows_ = outer;
      width_ = length_;
      length_ = 1;
      each_ = true;
    } else {
      rows_ = outer * length_;
      width_ = inner;
      inner_step_ = 1;
    }
  } else {
    Shape expected = x;
    expected[at] = (length_ + block_size - 1) / block_size;
    if (scale != expected) {
      invalid("scale has shape " + scale.text() + ", expected " + expected.text() +
              " for blocks of " + std::to_string(block_size) + " along axis " + std::to_string(at) +
              " of " + x.text());
    }
    block_ = block_size;
    if (inner == 1) {
      pieces_ = expected[at];
      rows_ = outer * pieces_;
      width_ = std::min(block_size, length_);
    } else {
      rows_ = outer * length_;
      width_ = inner;
      outer_step_ = expected[at] * inner;
      inner_step_ = inner;
      each_ = true;
    }
  }
  if (size == 0) rows_ = 0;
}

}  // namespace bascule
