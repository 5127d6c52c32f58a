// SPDX-License-Identifier: Apache-2.0
// UpdateCache: new keys or values, of each sample behind those that it has, in a cache of
// [batch, heads, length, size] that grows when it is shorter than it has to be.
#include <algorithm>

#include "kernels/attention/cache_checks.h"
#include "kernels/attention/presents.h"
#include "runtime/kernel.h"

namespace bascule {
namespace {

using namespace attention;

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
    const int64_t batch = cache.dim(0), heads = cache.dim(1), size = cache.dim(3);
    const int64_t count = rows.rank() == 3 ? rows.dim(1) : 0;
    if (!(rows.shape() == Shape{batch, count, heads * size})) {
      fail("the rows have shape " + rows.shape().text() + ", expected " +
           Shape{batch, count, heads * size}.text() + " for a cache of shape " +
           cache.shape().text());
    }
    const Tensor& starts = c.input(2);
    const int64_t length = std::max(cache.dim(2), length_of(c.input(3)));
    check_starts(starts, batch, length - count);

    Tensor& y = c.output(0, cache.dtype(), {batch, heads, length, size});
    Presents present;
    present.add(&cache, rows, count, strides_3d(heads, count, size), starts.data<int64_t>(), y);
    present.make(c);
  }
};
// Only a cache that keeps its length is written in place: the memory has to be of one size.
BASCULE_KERNEL_IN("bascule", "UpdateCache", UpdateCache, InPlace{0, 0});

}  // namespace
}  // namespace bascule
