// SPDX-License-Identifier: Apache-2.0
// What operators are told of where new rows go in a cache.
#pragma once

#include <string>

#include "core/tensor.h"

namespace bascule::attention {

// The length that a cache has at least.
inline int64_t length_of(const Tensor& length) {
  if (length.size() != 1) {
    fail("the length has " + std::to_string(length.size()) + " elements, expected one");
  }
  return length.data<int64_t>()[0];
}

// Where the rows of each batch item begin: `last` is the last place at which they end in the cache.
inline void check_starts(const Tensor& starts, int64_t batch, int64_t last) {
  if (starts.size() != batch) {
    fail("there are " + std::to_string(starts.size()) + " starts for a batch of " +
         std::to_string(batch));
  }
  for (const int64_t start : starts.elements<int64_t>()) {
    if (start < 0 || start > last) {
      invalid("rows that start at " + std::to_string(start) + " do not end within the cache");
    }
  }
}

}  // namespace bascule::attention
