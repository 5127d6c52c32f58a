// SPDX-License-Identifier: Apache-2.0
// Copying a piece of a broadcast operand into a buffer, so that loops need not know strides.
#pragma once

#include <cstddef>
#include <cstring>

#include "kernels/broadcast.h"

namespace bascule {

template <class T>
void fill_elements(T* to, T value, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] = value;
}

// Elements wide enough for any type but strings.
struct Wide {
  uint64_t low, high;
};

// `count` copies of the element of `size` bytes at `from`.
inline void splat_element(const std::byte* from, std::byte* to, int64_t size, int64_t count) {
  const auto fill = [&](auto value) {
    std::memcpy(&value, from, sizeof(value));
    fill_elements(reinterpret_cast<decltype(value)*>(to), value, count);
  };
  switch (size) {
    case 1:
      return fill(uint8_t{});
    case 2:
      return fill(uint16_t{});
    case 4:
      return fill(uint32_t{});
    case 8:
      return fill(uint64_t{});
    default:
      return fill(Wide{});
  }
}

// Writes what operand k shows for the output elements [begin, begin + count) to `to`.
template <class Loops>
void gather_tile(const Loops& loops, int k, const std::byte* data, int64_t size, int64_t begin,
                 int64_t count, std::byte* to) {
  const bool steps = loops.steps(k);
  const auto copy = [&](auto element) {
    using T = decltype(element);
    const T* from = reinterpret_cast<const T*>(data);
    loops.for_runs(begin, begin + count, [&](const int64_t* offsets, int64_t first, int64_t run) {
      T* out = reinterpret_cast<T*>(to) + (first - begin);
      const T* in = from + offsets[k];
      if (steps) {
        for (int64_t i = 0; i < run; ++i) out[i] = in[i];
      } else {
        fill_elements(out, *in, run);
      }
    });
  };
  switch (size) {
    case 1:
      return copy(uint8_t{});
    case 2:
      return copy(uint16_t{});
    case 4:
      return copy(uint32_t{});
    case 8:
      return copy(uint64_t{});
    default:
      return copy(Wide{});
  }
}

}  // namespace bascule
