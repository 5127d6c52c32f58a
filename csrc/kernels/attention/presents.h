// SPDX-License-Identifier: Apache-2.0
// Caches of keys and values: what they were, and what they become.
#pragma once

#include <algorithm>

#include "core/tensor.h"
#include "kernels/move/stream_copy.h"
#include "runtime/run_context.h"

namespace bascule::attention {

// A tensor [batch, head, row, size], in elements; the last axis is contiguous.
struct Strides {
  int64_t batch;
  int64_t head;
  int64_t row;
};

inline Strides strides_4d(int64_t heads, int64_t rows, int64_t size) {
  return {heads * rows * size, rows * size, size};
}
inline Strides strides_3d(int64_t heads, int64_t rows, int64_t size) {
  return {heads * rows * size, size, heads * size};
}

// One cache or two: each [batch, heads, length, size] from a past of [batch, heads, before, size]
// and new rows, which begin behind the past or where each batch item says. What neither covers is
// zero.
class Presents {
 public:
  // `past` and `starts` may be null; a present that has the memory of its past is written in place.
  void add(const Tensor* past, const Tensor& rows, int64_t count, const Strides& strides,
           const int64_t* starts, Tensor& present) {
    const int64_t item = item_size(present.dtype());
    parts_[parts_count_++] = {past == nullptr ? nullptr : past->raw(),
                              rows.raw(),
                              {strides.batch * item, strides.head * item, strides.row * item},
                              present.raw(),
                              past == nullptr ? 0 : past->dim(2),
                              count,
                              present.dim(2),
                              present.dim(3) * item};
    starts_ = starts;
    heads_ = present.dim(1);
    items_ = present.dim(0) * heads_;
  }

  double bytes_per_head() const {
    double bytes = 0;
    for (int i = 0; i < parts_count_; ++i) {
      bytes += static_cast<double>(parts_[i].length) * static_cast<double>(parts_[i].size);
    }
    return bytes;
  }

  // Where the new rows of an item, one head of one batch item, begin.
  int64_t start_of(int64_t item) const {
    return starts_ == nullptr ? parts_[0].before : starts_[item / heads_];
  }

  // The presents of one item.
  void make(int64_t item) const {
    for (int i = 0; i < parts_count_; ++i) {
      const Part& part = parts_[i];
      const int64_t size = part.size, start = start_of(item), end = start + part.count;
      std::byte* to = part.to + item * part.length * size;
      if (!part.in_place()) {
        copy(past_of(i, item), part.before * size, to);
        const int64_t gap = std::max(start, part.before), covered = std::max(end, part.before);
        std::fill(to + part.before * size, to + gap * size, std::byte{0});
        std::fill(to + covered * size, to + part.length * size, std::byte{0});
      }
      const std::byte* from = rows_of(i, item);
      for (int64_t r = 0; r < part.count; ++r) {
        std::copy_n(from + r * part.strides.row, size, to + (start + r) * size);
      }
    }
  }
  void make(RunContext& c) const {
    if (parts_count_ == 0) return;
    c.parallel_for(items_, bytes_per_head() / 16, [&](int64_t begin, int64_t end) {
      for (int64_t item = begin; item < end; ++item) make(item);
    });
  }

  // Whether the past and the new rows are all that is seen of two caches, the first `lengths` keys
  // of each batch item (null: all).
  bool cover(const int64_t* lengths) const {
    if (parts_count_ < 2) return false;
    for (const Part& part : parts_) {
      if (part.in_place()) return false;
      for (int64_t item = 0; item < items_; item += heads_) {
        const int64_t start = start_of(item);
        const int64_t seen = lengths == nullptr ? part.length : lengths[item / heads_];
        if (start > part.before || seen > start + part.count) return false;
      }
    }
    return true;
  }
  // Of cache i: the past of an item, and its new rows with so many bytes from one to the next.
  const std::byte* past_of(int i, int64_t item) const {
    const Part& part = parts_[i];
    return part.past + item * part.before * part.size;
  }
  const std::byte* rows_of(int i, int64_t item) const {
    const Part& part = parts_[i];
    return part.rows + item / heads_ * part.strides.batch + item % heads_ * part.strides.head;
  }
  int64_t row_stride(int i) const { return parts_[i].strides.row; }
  int64_t row_count() const { return parts_[0].count; }

 private:
  // Sizes and strides are in bytes.
  struct Part {
    const std::byte* past;
    const std::byte* rows;
    Strides strides;
    std::byte* to;
    int64_t before;
    int64_t count;
    int64_t length;
    int64_t size;

    bool in_place() const { return past == to; }
  };

  // Caches of this size are read again only after much else.
  void copy(const std::byte* from, int64_t bytes, std::byte* to) const {
    constexpr double least_streamed = 1 << 19;
    if (bytes_per_head() * static_cast<double>(items_) >= least_streamed) {
      stream_copy(from, bytes, to);
    } else {
      std::copy_n(from, bytes, to);
    }
  }

  Part parts_[2];
  int parts_count_ = 0;
  const int64_t* starts_ = nullptr;
  int64_t heads_ = 1;
  int64_t items_ = 0;
};

}  // namespace bascule::attention
