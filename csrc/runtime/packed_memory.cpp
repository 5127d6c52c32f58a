// SPDX-License-Identifier: Apache-2.0
#include "runtime/packed_memory.h"

#include <algorithm>

#include "core/buffer_cache.h"

namespace bascule {

namespace {

// Address space, of which pages become memory as they are written: a region is twice as large as
// all that was packed by then, within these bounds.
constexpr size_t smallest_region = size_t{32} << 20, largest_region = size_t{256} << 20;
// Rows of panels do not lie across the bounds at which processors stop to fetch ahead.
constexpr size_t alignment = 4096;
// The packed constants of small programs are not worth huge pages: up to 2 MB of them stay unused.
constexpr size_t least_for_regions = size_t{8} << 20;
// Smaller pieces are left to the C library.
constexpr size_t smallest_piece = size_t{64} << 10;

thread_local PackedMemory* current_memory = nullptr;

}  // namespace

PackedMemory::Scope::Scope(PackedMemory& memory) : outer_(current_memory) {
  current_memory = &memory;
}

PackedMemory::Scope::~Scope() { current_memory = outer_; }

Tensor PackedMemory::allocate(DType dtype, const Shape& shape) {
  if (current_memory == nullptr || dtype == DType::string) return Tensor::allocate(dtype, shape);
  const size_t bytes = padded_bytes(dtype, shape);
  std::shared_ptr<void> piece = current_memory->take(bytes);
  if (piece == nullptr) return Tensor::allocate(dtype, shape);
  void* data = piece.get();
  return Tensor(dtype, shape, data, std::move(piece));
}

// nullptr where a piece is better off alone.
std::shared_ptr<void> PackedMemory::take(size_t bytes) {
  if (bytes < smallest_piece || bytes > largest_region / 2) return nullptr;
  bytes = (bytes + alignment - 1) / alignment * alignment;
  asked_ += bytes;
  if (asked_ < least_for_regions) return nullptr;
  if (size_ - used_ < bytes) {
    size_ = std::clamp(2 * asked_, smallest_region, largest_region);
    used_ = 0;
    region_ = allocate_huge_pages(size_);
    if (region_ == nullptr) {
      size_ = 0;
      return nullptr;
    }
  }
  auto* data = static_cast<std::byte*>(region_.get()) + used_;
  used_ += bytes;
  return std::shared_ptr<void>(region_, data);
}

}  // namespace bascule
