// SPDX-License-Identifier: Apache-2.0
// Where, by element size; and the operators on strings: Where and Equal.
#include "kernels/elementwise/elementwise.h"
#include "kernels/elementwise/gather_tile.h"

namespace bascule {
namespace {

template <class T>
void select(const TileOp&, const void* a, const void* b, const void* c, void* y, int64_t n) {
  const uint8_t* condition = static_cast<const uint8_t*>(a);
  const T* chosen = static_cast<const T*>(b);
  const T* other = static_cast<const T*>(c);
  T* out = static_cast<T*>(y);
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) {
    const T left = chosen[i], right = other[i];
    out[i] = condition[i] != 0 ? left : right;
  }
}

std::string resolve_where(const NodeSpec& node, ElementwiseOp& op) {
  const DType dtype = node.dtype(1);
  op.output = dtype;
  op.tile.operands = 3;
  if (node.dtype(0) != DType::boolean || node.dtype(2) != dtype) return "the types do not match";
  if (dtype == DType::string || is_packed(dtype)) {
    return std::string("type ") + name_of(dtype) + " is not supported";
  }
  switch (item_size(dtype)) {
    case 1:
      op.tile.run = select<uint8_t>;
      break;
    case 2:
      op.tile.run = select<uint16_t>;
      break;
    case 4:
      op.tile.run = select<uint32_t>;
      break;
    case 8:
      op.tile.run = select<uint64_t>;
      break;
    default:
      op.tile.run = select<Wide>;
  }
  return "";
}
BASCULE_ELEMENTWISE("Where", resolve_where, InPlace{1, 0}, InPlace{2, 0});

struct StringWhere final : Kernel {
  static Capability capability(const NodeSpec& node) {
    if (node.dtype(1) == DType::string && node.dtype(2) == DType::string) return accept;
    return reject("the operands are not strings");
  }
  void run(RunContext& c) const override {
    const Tensor &condition = c.input(0), &a = c.input(1), &b = c.input(2);
    const Shape shape = broadcast(broadcast(condition.shape(), a.shape()), b.shape());
    const Shape* shapes[] = {&condition.shape(), &a.shape(), &b.shape()};
    const BroadcastLoops<3> loops(shape, shapes, 3);
    Tensor& y = c.output(0, DType::string, shape);
    loops.for_runs(0, y.size(), [&](const int64_t* offsets, int64_t first, int64_t count) {
      for (int64_t i = 0; i < count; ++i) {
        const int64_t at = offsets[0] + (loops.steps(0) ? i : 0);
        const int k = condition.data<uint8_t>()[at] != 0 ? 1 : 2;
        const int64_t from = offsets[k] + (loops.steps(k) ? i : 0);
        y.data<std::string>()[first + i] = (k == 1 ? a : b).data<std::string>()[from];
      }
    });
  }
};
BASCULE_KERNEL("Where", StringWhere);

struct StringEqual final : Kernel {
  static Capability capability(const NodeSpec& node) {
    if (node.dtype(0) == DType::string && node.dtype(1) == DType::string) return accept;
    return reject("the operands are not strings");
  }
  void run(RunContext& c) const override {
    const Tensor &a = c.input(0), &b = c.input(1);
    const Shape shape = broadcast(a.shape(), b.shape());
    const Shape* shapes[] = {&a.shape(), &b.shape()};
    const BroadcastLoops<2> loops(shape, shapes, 2);
    Tensor& y = c.output(0, DType::boolean, shape);
    loops.for_runs(0, y.size(), [&](const int64_t* offsets, int64_t first, int64_t count) {
      for (int64_t i = 0; i < count; ++i) {
        y.data<bool>()[first + i] = a.data<std::string>()[offsets[0] + (loops.steps(0) ? i : 0)] ==
                                    b.data<std::string>()[offsets[1] + (loops.steps(1) ? i : 0)];
      }
    });
  }
};
BASCULE_KERNEL("Equal", StringEqual);

}  // namespace
}  // namespace bascule
