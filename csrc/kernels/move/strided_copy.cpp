// SPDX-License-Identifier: Apache-2.0
#include "kernels/move/strided_copy.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "kernels/move/transpose_tile.h"

namespace bascule {

namespace {

// Bytes from which a copy is cut into pieces for threads.
constexpr int64_t run_bytes = 1 << 16;

// An axis of the box after collapsing; distances in bytes.
struct Axis {
  int64_t size;
  int64_t from;
  int64_t to;
};

struct Loops {
  Axis axes[Shape::max_rank];
  int rank = 0;

  void push(const Axis& axis) { axes[rank++] = axis; }
  void erase(int axis) {
    std::copy(axes + axis + 1, axes + rank, axes + axis);
    --rank;
  }
  int64_t size() const {
    int64_t result = 1;
    for (int i = 0; i < rank; ++i) result *= axes[i].size;
    return result;
  }
};

// Walks through the indices of some loops in row-major order.
class Walk {
 public:
  Walk(const Loops& loops, int64_t start, const std::byte* from, std::byte* to)
      : from_(from), to_(to), loops_(loops) {
    for (int i = loops.rank - 1; i >= 0; --i) {
      const Axis& axis = loops.axes[i];
      index_[i] = start % axis.size;
      start /= axis.size;
      from_ += index_[i] * axis.from;
      to_ += index_[i] * axis.to;
    }
  }
  void next() {
    for (int i = loops_.rank - 1; i >= 0; --i) {
      const Axis& axis = loops_.axes[i];
      from_ += axis.from;
      to_ += axis.to;
      if (++index_[i] < axis.size) return;
      from_ -= axis.size * axis.from;
      to_ -= axis.size * axis.to;
      index_[i] = 0;
    }
  }
  const std::byte* from() const { return from_; }
  std::byte* to() const { return to_; }

 private:
  const std::byte* from_;
  std::byte* to_;
  const Loops& loops_;
  int64_t index_[Shape::max_rank];
};

// A pixel of three numbers.
struct Triple {
  uint32_t numbers[3];
};

// Drops axes of size 1 and joins neighbours that are one axis on both sides.
Loops collapse(const StridedBox& box, int64_t item) {
  Loops loops;
  for (int i = 0; i < box.sizes.rank(); ++i) {
    const Axis axis{box.sizes[i], box.from[i] * item, box.to[i] * item};
    if (axis.size == 1) continue;
    if (loops.rank > 0) {
      Axis& last = loops.axes[loops.rank - 1];
      if (last.from == axis.from * axis.size && last.to == axis.to * axis.size) {
        last = {last.size * axis.size, axis.from, axis.to};
        continue;
      }
    }
    loops.push(axis);
  }
  return loops;
}

// `count` elements of one row. The constant distances let the compiler vectorize.
template <class T>
void copy_row(const std::byte* from, int64_t from_step, std::byte* to, int64_t to_step,
              int64_t count) {
  if constexpr (std::is_same_v<T, std::string>) {
    for (int64_t i = 0; i < count; ++i) {
      *reinterpret_cast<std::string*>(to + i * to_step) =
          *reinterpret_cast<const std::string*>(from + i * from_step);
    }
  } else if (from_step == 0 && to_step == sizeof(T)) {
    T element;
    std::memcpy(&element, from, sizeof(T));
    T* out = reinterpret_cast<T*>(to);
    for (int64_t i = 0; i < count; ++i) std::memcpy(out + i, &element, sizeof(T));
  } else {
    for (int64_t i = 0; i < count; ++i) {
      std::memcpy(to + i * to_step, from + i * from_step, sizeof(T));
    }
  }
}

template <class T>
void copy_rows(RunContext& c, const Loops& outer, const Axis& row, const std::byte* from,
               std::byte* to) {
  const bool together = row.from == sizeof(T) && row.to == sizeof(T);
  c.parallel_for(outer.size(), 4 + static_cast<double>(row.size) * (together ? 0.25 : 1.0),
                 [&](int64_t begin, int64_t end) {
                   Walk walk(outer, begin, from, to);
                   for (int64_t i = begin; i < end; ++i, walk.next()) {
                     if (together && !std::is_same_v<T, std::string>) {
                       std::memcpy(walk.to(), walk.from(),
                                   static_cast<size_t>(row.size) * sizeof(T));
                     } else {
                       copy_row<T>(walk.from(), row.from, walk.to(), row.to, row.size);
                     }
                   }
                 });
}

// Two axes change places: `column` lies together in `from`, `row` in `to`.
template <class T>
void copy_transposed(RunContext& c, Loops outer, const Axis& column, const Axis& row,
                     const std::byte* from, std::byte* to) {
  // Four cache lines of each row are read: fewer pages are open at once, and prefetching starts.
  constexpr auto block = static_cast<int64_t>(256 / sizeof(T));
  const int64_t blocks = (column.size + block - 1) / block;
  outer.push({blocks, block * column.from, block * column.to});
  c.parallel_for(
      outer.size(), static_cast<double>(block * row.size), [&](int64_t begin, int64_t end) {
        Walk walk(outer, begin, from, to);
        for (int64_t i = begin; i < end; ++i, walk.next()) {
          const int64_t columns = std::min(block, column.size - i % blocks * block);
          transpose_tile<T>(walk.from(), row.from, walk.to(), column.to, row.size, columns);
        }
      });
}

template <class T>
void copy_loops(RunContext& c, Loops loops, const std::byte* from, std::byte* to) {
  constexpr auto item = static_cast<int64_t>(sizeof(T));
  if (loops.rank == 0) return copy_row<T>(from, item, to, item, 1);
  const Axis row = loops.axes[--loops.rank];
  if (row.to == item && row.from != item && row.from != 0) {
    for (int i = loops.rank - 1; i >= 0 && !std::is_same_v<T, std::string>; --i) {
      const Axis column = loops.axes[i];
      if (column.from != item) continue;
      loops.erase(i);
      return copy_transposed<T>(c, loops, column, row, from, to);
    }
  }
  copy_rows<T>(c, loops, row, from, to);
}

template <class T>
void fill(T* to, const T& element, int64_t count) {
  std::fill_n(to, count, element);
}

}  // namespace

void copy_run(RunContext& c, DType dtype, const std::byte* from, std::byte* to, int64_t count) {
  if (dtype == DType::string) {
    std::copy_n(reinterpret_cast<const std::string*>(from), count,
                reinterpret_cast<std::string*>(to));
    return;
  }
  const int64_t bytes = count * item_size(dtype);
  if (bytes <= run_bytes) {
    if (bytes > 0) std::memcpy(to, from, static_cast<size_t>(bytes));
    return;
  }
  c.parallel_for((bytes + run_bytes - 1) / run_bytes, run_bytes / 16,
                 [&](int64_t begin, int64_t end) {
                   const int64_t first = begin * run_bytes;
                   const int64_t last = std::min(end * run_bytes, bytes);
                   std::memcpy(to + first, from + first, static_cast<size_t>(last - first));
                 });
}

void fill_run(RunContext& c, DType dtype, const std::byte* element, std::byte* to, int64_t count) {
  visit_size(dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    T* out = reinterpret_cast<T*>(to);
    const T value = *reinterpret_cast<const T*>(element);
    c.parallel_for(count, 0.25,
                   [&](int64_t begin, int64_t end) { fill(out + begin, value, end - begin); });
  });
}

void strided_copy(RunContext& c, DType dtype, const std::byte* from, std::byte* to,
                  const StridedBox& box) {
  for (const int64_t size : box.sizes) {
    if (size == 0) return;
  }
  int64_t item = item_size(dtype);
  Loops loops = collapse(box, item);
  if (dtype == DType::string) return copy_loops<std::string>(c, loops, from, to);
  if (loops.rank > 0) {
    // Short rows that lie together on both sides are single, wider elements.
    const Axis& row = loops.axes[loops.rank - 1];
    const int64_t bytes = row.size * item;
    if (row.from == item && row.to == item) {
      if (loops.rank == 1) return copy_run(c, dtype, from, to, row.size);
      if (bytes == 2 || bytes == 4 || bytes == 8 || bytes == 12 || bytes == 16) {
        item = bytes;
        --loops.rank;
      }
    }
  }
  switch (item) {
    case 1:
      return copy_loops<uint8_t>(c, loops, from, to);
    case 2:
      return copy_loops<uint16_t>(c, loops, from, to);
    case 4:
      return copy_loops<uint32_t>(c, loops, from, to);
    case 8:
      return copy_loops<uint64_t>(c, loops, from, to);
    case 12:
      return copy_loops<Triple>(c, loops, from, to);
    default:
      return copy_loops<Wide>(c, loops, from, to);
  }
}

}  // namespace bascule
