// SPDX-License-Identifier: Apache-2.0
// UpdateCache: new keys or values, of each sample behind those that it has, in a cache of
// [batch, heads, length, size] that grows when it is shorter than it has to be.
#include <algorithm>

#include "runtime/kernel.h"

namespace bascule {
namespace {

class UpdateCache final : public Kernel {
 public:
  static Capability capability(const NodeSpec& node) {
    if (node.dtype(1) != node.dtype(0)) return reject("cache and rows are of different types");
    for (size_t i : {2u, 3u}) {
      if (node.dtype(i) != DType::int64) return reject("starts and length must be int64");
    }
    return require_dtype(node, 0, FloatTypes{});
  }

  void run(RunContext& c) const override {
    const Tensor& cache = c.input(0);
    const Tensor& rows = c.input(1);
    if (cache.rank() != 4)
      fail("the cache has shape " + cache.shape().text() + ", expected 4 axes");
    const int64_t batch = cache.dim(0), heads = cache.dim(1), before = cache.dim(2);
    const int64_t size = cache.dim(3);
    const int64_t count = rows.rank() == 3 ? rows.dim(1) : 0;
    if (!(rows.shape() == Shape{batch, count, heads * size})) {
      fail("the rows have shape " + rows.shape().text() + ", expected " +
           Shape{batch, count, heads * size}.text() + " for a cache of shape " +
           cache.shape().text());
    }
    const Tensor& starts = c.input(2);
    const int64_t length = std::max(before, length_of(c.input(3)));
    check_starts(starts, batch, length - count);

    Tensor& y = c.output(0, cache.dtype(), {batch, heads, length, size});
    const int64_t row = size * item_size(cache.dtype());
    const int64_t step = heads * row;
    c.parallel_for(batch * heads, static_cast<double>(length * row) / 16,
                   [&](int64_t begin, int64_t end) {
                     for (int64_t i = begin; i < end; ++i) {
                       const int64_t b = i / heads;
                       std::byte* to = y.raw() + i * length * row;
                       const std::byte* old = cache.raw() + i * before * row;
                       const int64_t start = starts.data<int64_t>()[b];
                       if (old != to) {
                         std::copy_n(old, before * row, to);
                         std::fill_n(to + before * row, (length - before) * row, std::byte{0});
                       }
                       const std::byte* from = rows.raw() + b * count * step + i % heads * row;
                       for (int64_t r = 0; r < count; ++r) {
                         std::copy_n(from + r * step, row, to + (start + r) * row);
                       }
                     }
                   });
  }

 private:
  static int64_t length_of(const Tensor& length) {
    if (length.size() != 1) {
      fail("the length has " + std::to_string(length.size()) + " elements, expected one");
    }
    return length.data<int64_t>()[0];
  }

  static void check_starts(const Tensor& starts, int64_t batch, int64_t last) {
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
};
// Only a cache that keeps its length is written in place: the memory has to be of one size.
BASCULE_KERNEL_IN("bascule", "UpdateCache", UpdateCache, InPlace{0, 0});

}  // namespace
}  // namespace bascule
