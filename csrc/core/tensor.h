// SPDX-License-Identifier: Apache-2.0
// A dense, contiguous, row-major tensor: element type, shape, memory, and who owns the memory.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "core/dtype.h"
#include "core/shape.h"

namespace bascule {

// Bytes of memory for a tensor: a multiple of its alignment, with room for kernels that read a
// whole vector at the end.
size_t padded_bytes(DType dtype, const Shape& shape);

// Copying a Tensor copies the handle, not the elements. Without an owner the memory belongs to
// somebody who outlives the tensor (the arena of a run, a constant of the program).
class Tensor {
 public:
  Tensor() = default;
  Tensor(DType dtype, const Shape& shape, void* data, std::shared_ptr<void> owner = nullptr)
      : data_(static_cast<std::byte*>(data)),
        owner_(std::move(owner)),
        size_(shape.size()),
        dtype_(dtype),
        shape_(shape) {}

  // Uninitialized memory (empty strings) of its own, 64-byte aligned.
  static Tensor allocate(DType dtype, const Shape& shape);

  // A one-dimensional int64 tensor with these elements.
  static Tensor of(std::span<const int64_t> values);

  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  int rank() const { return shape_.rank(); }
  int64_t dim(int64_t axis) const { return shape_[axis]; }
  // Number of elements and of bytes.
  int64_t size() const { return size_; }
  int64_t bytes() const { return byte_size(dtype_, size_); }

  // The elements; T must be the C++ type of dtype() or std::byte. Not checked: kernels dispatch on
  // dtype() first.
  template <class T>
  const T* data() const {
    return reinterpret_cast<const T*>(data_);
  }
  template <class T>
  T* data() {
    return reinterpret_cast<T*>(data_);
  }
  template <class T>
  std::span<const T> elements() const {
    return {data<T>(), static_cast<size_t>(size_)};
  }
  const std::byte* raw() const { return data_; }
  std::byte* raw() { return data_; }

  const std::shared_ptr<void>& owner() const { return owner_; }

  // The same elements under another shape of equal size.
  Tensor reshaped(const Shape& shape) const;

  // This tensor if it owns its memory, else a copy that does.
  Tensor owned() const;

  // A copy in memory of its own.
  Tensor clone() const;

  // The elements of an integer tensor as int64 (axes, shapes, indices of any integer type).
  std::vector<int64_t> to_ints() const;

  // The single element of a tensor of size 1, converted.
  int64_t to_int() const;
  double to_double() const;

 private:
  std::byte* data_ = nullptr;
  std::shared_ptr<void> owner_;
  int64_t size_ = 0;
  DType dtype_ = DType::undefined;
  Shape shape_;
};

// Copies all elements (strings as strings); both tensors have the same dtype and size.
void copy_elements(const Tensor& from, Tensor& to);

// Zero-based element access for the packed types (2, 4, 6 bits): the raw bit pattern.
uint8_t get_packed(const std::byte* data, int bits, int64_t index);
void set_packed(std::byte* data, int bits, int64_t index, uint8_t pattern);

}  // namespace bascule
