// SPDX-License-Identifier: Apache-2.0
#include "runtime/block_pool.h"

#include <map>
#include <mutex>
#include <utility>

namespace bascule {

namespace {

// Smaller blocks are fetched from the system as fast as from here.
constexpr int64_t least_bytes = 32768;

}  // namespace

struct BlockPool::Blocks {
  std::mutex mutex;
  std::multimap<int64_t, std::shared_ptr<void>> free;  // by size

  // The smallest free block that is large enough, and not much too large; null without one.
  std::pair<int64_t, std::shared_ptr<void>> take(int64_t bytes) {
    const std::lock_guard<std::mutex> lock(mutex);
    const auto found = free.lower_bound(bytes);
    if (found == free.end() || found->first / 2 > bytes) return {};
    std::pair<int64_t, std::shared_ptr<void>> block(found->first, std::move(found->second));
    free.erase(found);
    return block;
  }
  void give(int64_t bytes, std::shared_ptr<void> block) {
    const std::lock_guard<std::mutex> lock(mutex);
    free.emplace(bytes, std::move(block));
  }
};

BlockPool::BlockPool() : blocks_(std::make_shared<Blocks>()) {}

Tensor BlockPool::allocate(DType dtype, const Shape& shape) {
  const int64_t bytes = dtype == DType::string ? 0 : byte_size(dtype, shape.size());
  if (bytes < least_bytes) return Tensor::allocate(dtype, shape);
  auto [size, block] = blocks_->take(bytes);
  if (block == nullptr) {
    size = bytes;
    block = Tensor::allocate(DType::uint8, {bytes}).owner();
  }
  void* const data = block.get();
  const auto give_back = [pool = std::weak_ptr<Blocks>(blocks_), size = size,
                          block = std::move(block)](void*) {
    if (const auto blocks = pool.lock()) blocks->give(size, block);
  };
  return Tensor(dtype, shape, data, std::shared_ptr<void>(data, give_back));
}

void BlockPool::clear() { blocks_ = std::make_shared<Blocks>(); }

}  // namespace bascule
