// SPDX-License-Identifier: Apache-2.0
// Shape and Size: what a tensor's sizes are, as a tensor.
#include <algorithm>

#include "runtime/kernel.h"

namespace bascule {
namespace {

struct ShapeOf final : Kernel {
  explicit ShapeOf(const NodeSpec& node)
      : start(node.get_int("start", 0)), end(node.get_int("end", Shape::max_rank)) {}
  void run(RunContext& c) const override {
    const Tensor& x = c.input(0);
    const int64_t rank = x.rank();
    const auto clamp = [&](int64_t i) {
      return std::clamp<int64_t>(i < 0 ? i + rank : i, 0, rank);
    };
    const int64_t first = clamp(start);
    const int64_t count = std::max<int64_t>(clamp(end) - first, 0);
    Tensor& y = c.output(0, DType::int64, {count});
    std::copy_n(x.shape().begin() + first, count, y.data<int64_t>());
  }
  int64_t start, end;
};
BASCULE_KERNEL("Shape", ShapeOf);

struct SizeOf final : Kernel {
  void run(RunContext& c) const override {
    const int64_t size = c.input(0).size();
    *c.output(0, DType::int64, {}).data<int64_t>() = size;
  }
};
BASCULE_KERNEL("Size", SizeOf);

}  // namespace
}  // namespace bascule
