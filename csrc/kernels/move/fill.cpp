// SPDX-License-Identifier: Apache-2.0
// Tensors made from few numbers: ConstantOfShape, Range, EyeLike.
#include <cmath>

#include "kernels/move/int_list.h"
#include "kernels/move/packed_bytes.h"
#include "kernels/move/strided_copy.h"
#include "runtime/kernel.h"

namespace bascule {
namespace {

struct ConstantOfShape final : Kernel {
  explicit ConstantOfShape(const NodeSpec& node) {
    const Tensor* given = node.get_tensor("value");
    if (given != nullptr) {
      if (given->size() != 1) invalid("ConstantOfShape: `value` must have one element");
      value = given->clone();
    } else {
      value = Tensor::allocate(DType::float32, {1});
      *value.data<float>() = 0;
    }
  }
  void run(RunContext& c) const override {
    const Shape shape = int_list(c.input(0));
    for (const int64_t size : shape) checked_size(size, "ConstantOfShape: a size");
    const Tensor element = unpacked(c, value);
    MovedOutput y(c, 0, value.dtype(), shape);
    fill_run(c, element.dtype(), element.raw(), y.data(), shape.size());
  }
  Tensor value;
};
BASCULE_KERNEL("ConstantOfShape", ConstantOfShape);

using RangeTypes = Types<float, double, int16_t, int32_t, int64_t, Float16, BFloat16>;

struct RangeOp final : Kernel {
  static Capability capability(const NodeSpec& node) {
    return require_dtype(node, 0, RangeTypes{});
  }
  void run(RunContext& c) const override {
    const DType dtype = c.input(0).dtype();
    for (int i = 0; i < 3; ++i) {
      if (c.input(i).size() != 1 || c.input(i).dtype() != dtype) {
        invalid("Range: start, limit and delta must be scalars of one type");
      }
    }
    visit(RangeTypes{}, dtype, [&](auto tag) {
      using T = typename decltype(tag)::type;
      fill<T>(c);
    });
  }

 private:
  template <class T>
  static void fill(RunContext& c) {
    const auto start = static_cast<Compute<T>>(*c.input(0).data<T>());
    const auto limit = static_cast<Compute<T>>(*c.input(1).data<T>());
    const auto delta = static_cast<Compute<T>>(*c.input(2).data<T>());
    if (delta == 0) invalid("Range: delta must not be 0");
    int64_t count = 0;
    if constexpr (std::is_integral_v<T>) {
      // The distance of two numbers of any sign fits the unsigned type.
      const bool up = delta > 0;
      if (up ? start < limit : start > limit) {
        const auto wide = [](int64_t v) { return static_cast<uint64_t>(v); };
        const uint64_t distance = up ? wide(limit) - wide(start) : wide(start) - wide(limit);
        const uint64_t step = up ? wide(delta) : uint64_t{0} - wide(delta);
        const uint64_t steps = (distance - 1) / step + 1;
        if (steps > uint64_t{1} << 56) fail("Range: too many elements");
        count = static_cast<int64_t>(steps);
      }
    } else {
      const double steps = std::ceil((static_cast<double>(limit) - static_cast<double>(start)) /
                                     static_cast<double>(delta));
      if (!(steps < 0x1p56)) fail("Range: too many elements");
      count = steps > 0 ? static_cast<int64_t>(steps) : 0;
    }
    T* y = c.output(0, dtype_of<T>, {count}).template data<T>();
    for (int64_t i = 0; i < count; ++i) {
      if constexpr (std::is_integral_v<T>) {
        // Unsigned: the product may pass the largest number on its way.
        y[i] = static_cast<T>(static_cast<uint64_t>(start) +
                              static_cast<uint64_t>(i) * static_cast<uint64_t>(delta));
      } else {
        y[i] = static_cast<T>(start + static_cast<Compute<T>>(i) * delta);
      }
    }
  }
};
BASCULE_KERNEL("Range", RangeOp);

struct EyeLike final : Kernel {
  using Supported = Types<float, double, Float16, BFloat16, int8_t, int16_t, int32_t, int64_t,
                          uint8_t, uint16_t, uint32_t, uint64_t, bool>;
  static Capability capability(const NodeSpec& node) {
    const DType dtype = wanted_dtype(node);
    if (contains(Supported{}, dtype)) return accept;
    return reject(std::string("output of type ") + name_of(dtype) + " is not supported");
  }
  explicit EyeLike(const NodeSpec& node) : dtype(wanted_dtype(node)), k(node.get_int("k", 0)) {}
  void run(RunContext& c) const override {
    const Shape& shape = c.input(0).shape();
    if (shape.rank() != 2) {
      invalid("EyeLike: the input must be a matrix, got shape " + shape.text());
    }
    const int64_t rows = shape[0], columns = shape[1];
    Tensor& y = c.output(0, dtype, {rows, columns});
    visit(Supported{}, dtype, [&](auto tag) {
      using T = typename decltype(tag)::type;
      T* out = y.data<T>();
      std::fill_n(out, y.size(), T(Compute<T>(0)));
      if (k >= columns || k <= -rows) return;
      for (int64_t i = std::max<int64_t>(0, -k); i < rows && i + k < columns; ++i) {
        out[i * columns + i + k] = T(Compute<T>(1));
      }
    });
  }

 private:
  static DType wanted_dtype(const NodeSpec& node) {
    const int64_t dtype = node.get_int("dtype", static_cast<int64_t>(node.dtype(0)));
    return dtype > 0 && dtype < dtype_count ? static_cast<DType>(dtype) : DType::undefined;
  }
  DType dtype;
  int64_t k;
};
BASCULE_KERNEL("EyeLike", EyeLike);

}  // namespace
}  // namespace bascule
