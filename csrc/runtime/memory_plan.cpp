// SPDX-License-Identifier: Apache-2.0
#include "runtime/memory_plan.h"

#include <algorithm>
#include <numeric>

namespace bascule {

namespace {

// Kernels may read one whole vector beyond the end of a tensor.
int64_t padded(int64_t bytes) { return (bytes + 64 + 63) / 64 * 64; }

}  // namespace

int64_t assign_offsets(std::vector<Interval>& intervals) {
  std::vector<size_t> order(intervals.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return intervals[a].bytes > intervals[b].bytes; });
  std::vector<size_t> placed;  // by rising offset
  int64_t total = 0;
  for (const size_t i : order) {
    Interval& interval = intervals[i];
    const int64_t bytes = padded(interval.bytes);
    int64_t offset = 0;
    for (const size_t j : placed) {
      const Interval& other = intervals[j];
      if (other.last < interval.first || other.first > interval.last) continue;
      if (other.offset >= offset + bytes) break;
      offset = std::max(offset, other.offset + padded(other.bytes));
    }
    interval.offset = offset;
    const auto position =
        std::upper_bound(placed.begin(), placed.end(), offset,
                         [&](int64_t value, size_t j) { return value < intervals[j].offset; });
    placed.insert(position, i);
    total = std::max(total, offset + bytes);
  }
  return total;
}

}  // namespace bascule
