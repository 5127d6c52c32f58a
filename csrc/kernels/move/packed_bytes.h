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

// The same without an owner, for kernels that may write an output over `x`.
inline Tensor unpacked_view(RunContext& c, const Tensor& x) {
  const Tensor elements = unpacked(c, x);
  return Tensor(elements.dtype(), elements.shape(), const_cast<std::byte*>(elements.raw()));
}

// Packs one byte per element into the memory of `to`.
inline void pack_bytes(const std::byte* bytes, Tensor& to) {
  // Whole bytes first: the bits after the last element are zero.
  std::fill_n(to.raw(), to.bytes(), std::byte{0});
  for (int64_t i = 0; i < to.size(); ++i) {
    set_packed(to.raw(), bits_of(to.dtype()), i, static_cast<uint8_t>(bytes[i]));
  }
}

// An output to move elements into; packs them when it goes out of scope.
class MovedOutput {
 public:
  MovedOutput(RunContext& c, int i, DType dtype, const Shape& shape)
      : output_(&c.output(i, dtype, shape)), data_(output_->raw()) {
    if (is_packed(dtype)) data_ = static_cast<std::byte*>(c.workspace(shape.size()));
  }
  ~MovedOutput() {
    if (is_packed(output_->dtype())) pack_bytes(data_, *output_);
  }
  MovedOutput(const MovedOutput&) = delete;
  MovedOutput& operator=(const MovedOutput&) = delete;

  DType dtype() const { return output_->dtype(); }
  const Shape& shape() const { return output_->shape(); }
  std::byte* data() { return data_; }

 private:
  Tensor* output_;
  std::byte* data_;
};

}  // namespace bascule
