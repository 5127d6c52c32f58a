// SPDX-License-Identifier: Apache-2.0
// Movement of elements narrower than a byte: one byte per element while they move.
#pragma once

#include "core/tensor.h"
#include "runtime/run_context.h"

namespace bascule {

// The dtype that elements have while they move.
inline DType moved_dtype(DType dtype) { return is_packed(dtype) ? DType::uint8 : dtype; }

// `x` itself, or its elements unpacked into scratch memory.
inline Tensor unpacked(RunContext& c, const Tensor& x) {
  if (!is_packed(x.dtype())) return x;
  Tensor bytes(DType::uint8, x.shape(), c.workspace(x.size()));
  for (int64_t i = 0; i < x.size(); ++i) {
    bytes.data<uint8_t>()[i] = get_packed(x.raw(), bits_of(x.dtype()), i);
  }
  return bytes;
}

// An output to move elements into; packs them when it goes out of scope.
class MovedOutput {
 public:
  MovedOutput(RunContext& c, int i, DType dtype, const Shape& shape)
      : output_(&c.output(i, dtype, shape)), data_(output_->raw()) {
    if (is_packed(dtype)) data_ = static_cast<std::byte*>(c.workspace(shape.size()));
  }
  ~MovedOutput() {
    if (!is_packed(output_->dtype())) return;
    // Whole bytes first: the bits after the last element are zero.
    std::fill_n(output_->raw(), output_->bytes(), std::byte{0});
    for (int64_t i = 0; i < output_->size(); ++i) {
      set_packed(output_->raw(), bits_of(output_->dtype()), i, static_cast<uint8_t>(data_[i]));
    }
  }
  MovedOutput(const MovedOutput&) = delete;
  MovedOutput& operator=(const MovedOutput&) = delete;

  const Shape& shape() const { return output_->shape(); }
  std::byte* data() { return data_; }

 private:
  Tensor* output_;
  std::byte* data_;
};

}  // namespace bascule
