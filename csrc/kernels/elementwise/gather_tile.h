// SPDX-License-Identifier: Apache-2.0
// Copying a piece of a broadcast operand into a buffer, so that loops need not know strides.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "kernels/broadcast.h"

namespace bascule {

template <class T>
void fill_elements(T* to, T value, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] = value;
}

template <class T>
void copy_elements(T* to, const T* from, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] = from[i];
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

// Writes `count` elements of a block, from `position` on; `from` is where the block begins.
template <class T, class Block>
void gather_block(const Block& block, const T* from, int64_t position, int64_t count, T* to) {
  int64_t inner = position % block.inner_size;
  from += position / block.inner_size * block.outer_stride;
  if (block.inner_stride != 0 && block.outer_stride == 0) {
    // The same run again and again: each copy doubles what there is.
    const int64_t once = std::min(count, block.inner_size);
    const int64_t head = std::min(once, block.inner_size - inner);
    copy_elements(to, from + inner, head);
    copy_elements(to + head, from, once - head);
    for (int64_t have = once; have < count; have *= 2) {
      std::memcpy(to + have, to, static_cast<size_t>(std::min(have, count - have)) * sizeof(T));
    }
    return;
  }
  for (int64_t done = 0; done < count; inner = 0, from += block.outer_stride) {
    const int64_t run = std::min(count - done, block.inner_size - inner);
    if (block.inner_stride != 0) {
      copy_elements(to + done, from + inner, run);
    } else {
      fill_elements(to + done, *from, run);
    }
    done += run;
  }
}

// Where what operand k shows for the output elements [begin, begin + count) lies as it is, or null.
template <class Loops>
const std::byte* find_tile(const Loops& loops, int k, const std::byte* data, int64_t size,
                           int64_t begin, int64_t count) {
  const auto block = loops.block(k);
  if (block.inner_stride == 0) return nullptr;
  const std::byte* found = nullptr;
  loops.for_block_runs(k, begin, begin + count,
                       [&](int64_t offset, int64_t position, int64_t, int64_t run) {
                         const int64_t inner = position % block.inner_size;
                         if (run != count || inner + count > block.inner_size) return;
                         const int64_t row = position / block.inner_size;
                         found = data + (offset + row * block.outer_stride + inner) * size;
                       });
  return found;
}

// Writes what operand k shows for the output elements [begin, begin + count) to `to`.
template <class Loops>
void gather_tile(const Loops& loops, int k, const std::byte* data, int64_t size, int64_t begin,
                 int64_t count, std::byte* to) {
  const auto block = loops.block(k);
  const auto copy = [&](auto element) {
    using T = decltype(element);
    loops.for_block_runs(k, begin, begin + count,
                         [&](int64_t offset, int64_t position, int64_t first, int64_t run) {
                           gather_block(block, reinterpret_cast<const T*>(data) + offset, position,
                                        run, reinterpret_cast<T*>(to) + (first - begin));
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
