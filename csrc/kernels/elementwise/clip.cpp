// SPDX-License-Identifier: Apache-2.0
// Clip: min(max(x, least), largest), where either bound may be left out. NaN stays NaN.
#include <cstring>
#include <limits>

#include "kernels/elementwise/unbounded.h"

namespace bascule {

BASCULE_PER_ISA(bool float32_binary(const char* name, TileOp& op));

namespace {

template <class T>
void clip(const TileOp&, const void* a, const void* b, const void* c, void* y, int64_t n) {
  const T* x = static_cast<const T*>(a);
  const T least = *static_cast<const T*>(b), largest = *static_cast<const T*>(c);
  T* out = static_cast<T*>(y);
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) {
    const T raised = x[i] < least ? least : x[i];
    out[i] = raised > largest ? largest : raised;
  }
}

template <class T>
void store_bounds(Unbounded& bounds, T least, T largest) {
  std::memcpy(bounds.least, &least, sizeof(T));
  std::memcpy(bounds.largest, &largest, sizeof(T));
}

}  // namespace

Unbounded unbounded(DType dtype) {
  Unbounded bounds = {};
  visit(NumericTypes{}, dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    if constexpr (NarrowFloat<T>) {
      const float infinity = std::numeric_limits<float>::infinity();
      store_bounds(bounds, T(-infinity), T(infinity));
    } else if constexpr (std::numeric_limits<T>::has_infinity) {
      const T infinity = std::numeric_limits<T>::infinity();
      store_bounds(bounds, -infinity, infinity);
    } else {
      store_bounds(bounds, std::numeric_limits<T>::lowest(), std::numeric_limits<T>::max());
    }
  });
  return bounds;
}

namespace {

std::string resolve_clip(const NodeSpec& node, ElementwiseOp& op) {
  const DType dtype = node.dtype();
  op.output = dtype;
  op.has_bounds = true;
  op.tile.operands = 3;
  if (contains(Types<float, Float16, BFloat16>{}, dtype)) {
    BASCULE_PICK(float32_binary)("Clip", op.tile);
    if (dtype != DType::float32) {
      op.tile.inner = op.tile.run;
      op.tile.run = half_functions_of(dtype).widened_bounds;
    }
    return "";
  }
  using Clipped =
      Types<double, int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t>;
  visit(Clipped{}, dtype, [&](auto tag) { op.tile.run = clip<typename decltype(tag)::type>; });
  return require_function(op, dtype);
}

class Clip final : public Kernel {
 public:
  static Capability capability(const NodeSpec& node) {
    ElementwiseOp op;
    const std::string reason = resolve_clip(node, op);
    return reason.empty() ? accept : reject(reason);
  }
  explicit Clip(const NodeSpec& node) : unbounded_(unbounded(node.dtype())) {
    resolve_clip(node, op_);
  }
  void run(RunContext& c) const override {
    const Tensor& x = c.input(0);
    const std::byte* least = bound(c, 1, unbounded_.least);
    const std::byte* largest = bound(c, 2, unbounded_.largest);
    const std::byte* from = x.raw();
    Tensor& y = c.output(0, x.dtype(), x.shape());
    std::byte* to = y.raw();
    const int64_t size = item_size(x.dtype());
    c.parallel_for(y.size(), 1, [&](int64_t begin, int64_t end) {
      op_.tile.run(op_.tile, from + begin * size, least, largest, to + begin * size, end - begin);
    });
  }

 private:
  static const std::byte* bound(const RunContext& c, int i, const std::byte* fallback) {
    if (!c.has_input(i)) return fallback;
    const Tensor& value = c.input(i);
    if (value.size() != 1) {
      invalid("bound of shape " + value.shape().text() + ", expected a scalar");
    }
    return value.raw();
  }

  ElementwiseOp op_;
  Unbounded unbounded_;
};
[[maybe_unused]] const bool registered_resolver = register_elementwise("Clip", resolve_clip);
BASCULE_KERNEL("Clip", Clip, InPlace{0, 0});

}  // namespace
}  // namespace bascule
