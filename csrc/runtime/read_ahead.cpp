// SPDX-License-Identifier: Apache-2.0
#include "runtime/read_ahead.h"

#include <algorithm>

namespace bascule {

namespace {

// Kernels before one that fetch for it. What comes earlier may have left the caches again.
constexpr size_t reach = 8;
// Smaller ones are not worth it.
constexpr size_t least = 64 * 1024;

}  // namespace

void plan_read_ahead(std::span<ReadsAhead* const> kernels) {
  for (size_t i = 0; i < kernels.size(); ++i) {
    std::span<const std::byte> left = kernels[i]->streamed();
    if (left.size() < least) continue;
    const size_t first = i - std::min(i, reach);
    for (size_t j = i; j > first && !left.empty(); --j) {
      ReadsAhead& before = *kernels[j - 1];
      const auto spare = static_cast<size_t>(before.spare_bytes());
      if (spare < least || !before.ahead().empty()) continue;
      const size_t count = std::min(left.size(), spare);
      before.set_ahead(left.last(count));
      left = left.first(left.size() - count);
    }
  }
}

}  // namespace bascule
