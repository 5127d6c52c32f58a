// SPDX-License-Identifier: Apache-2.0
// The engine of data movement: one copy between two strided views of memory. Transpose, Concat,
// Split, Slice, Expand, Tile and Pad are such copies.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/tensor.h"
#include "runtime/run_context.h"

namespace bascule {

// `sizes` elements, and per axis the distance in elements from one to the next on either side. A
// distance may be negative, or zero on the `from` side. Axes stand in the order of `to` memory.
struct StridedBox {
  Shape sizes;
  Shape from;
  Shape to;
};

// Copies every element of the box. `from` and `to` point at its first element and do not overlap.
// The dtype is not a packed one (see packed_bytes.h).
void strided_copy(RunContext& c, DType dtype, const std::byte* from, std::byte* to,
                  const StridedBox& box);

// Copies `count` elements that lie together.
void copy_run(RunContext& c, DType dtype, const std::byte* from, std::byte* to, int64_t count);

// Writes `count` copies of one element.
void fill_run(RunContext& c, DType dtype, const std::byte* element, std::byte* to, int64_t count);

// Calls body(Tag<T>) with a type of the size of `dtype`: data movement knows sizes, not types.
struct Wide {
  uint64_t low, high;
};
template <class Body>
void visit_size(DType dtype, Body&& body) {
  if (dtype == DType::string) return body(Tag<std::string>{});
  switch (item_size(dtype)) {
    case 1:
      return body(Tag<uint8_t>{});
    case 2:
      return body(Tag<uint16_t>{});
    case 4:
      return body(Tag<uint32_t>{});
    case 8:
      return body(Tag<uint64_t>{});
    case 16:
      return body(Tag<Wide>{});
    default:
      fail(std::string("elements of type ") + name_of(dtype) + " have no whole number of bytes");
  }
}

}  // namespace bascule
