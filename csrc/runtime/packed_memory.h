// SPDX-License-Identifier: Apache-2.0
// Memory for the packed constants of a program, side by side in huge pages.
#pragma once

#include <cstddef>
#include <memory>

#include "core/tensor.h"

namespace bascule {

// Products of a single row wait for translations of addresses wherever weights lie in pages of 4
// KB, and only whole pages of 2 MB can be huge, of which a tensor of 3 MB has one or none. So
// tensors share regions of huge pages, of which nothing is touched before it is used. A region goes
// back to the system with its last tensor.
class PackedMemory {
 public:
  // While it lives, what this thread packs lies in `memory`.
  class Scope {
   public:
    explicit Scope(PackedMemory& memory);
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    PackedMemory* outer_;
  };

  // An uninitialized tensor in this thread's memory, or as Tensor::allocate makes it where there is
  // none.
  static Tensor allocate(DType dtype, const Shape& shape);

 private:
  std::shared_ptr<void> take(size_t bytes);

  size_t asked_ = 0;  // bytes so far
  std::shared_ptr<void> region_;
  size_t size_ = 0, used_ = 0;  // bytes of the region
};

}  // namespace bascule
