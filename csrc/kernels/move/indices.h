// SPDX-License-Identifier: Apache-2.0
// Checks on index inputs: nothing is read or written before every index is known to be in range.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>

#include "core/dtype.h"
#include "core/error.h"

namespace bascule {

using IndexTypes = Types<int64_t, int32_t>;

[[noreturn]] inline void index_out_of_range(int64_t index, int64_t size) {
  invalid("indices element out of data bounds, idx=" + std::to_string(index) +
          " must be within the inclusive range [" + std::to_string(-size) + "," +
          std::to_string(size - 1) + "]");
}

// `index` in [-size, size) as [0, size).
inline int64_t checked_index(int64_t index, int64_t size) {
  if (index < -size || index >= size) index_out_of_range(index, size);
  return index < 0 ? index + size : index;
}

// All `count` indices are in [-size, size).
template <class Index>
void check_indices(const Index* indices, int64_t count, int64_t size) {
  Index low = 0, high = -1;
  for (int64_t i = 0; i < count; ++i) {
    low = std::min(low, indices[i]);
    high = std::max(high, indices[i]);
  }
  if (low >= -size && high < size) return;
  for (int64_t i = 0; i < count; ++i) checked_index(indices[i], size);
}

}  // namespace bascule
