// SPDX-License-Identifier: Apache-2.0
// RandomNormal, RandomUniform and their ...Like forms.
#include "kernels/random/generator.h"
#include "runtime/kernel.h"

namespace bascule {
namespace {

// The type that attribute `dtype` asks for, else that of the input, else float32.
DType wanted_dtype(const NodeSpec& node) {
  const DType fallback = node.has_input(0) ? node.dtype(0) : DType::float32;
  const int64_t dtype = node.get_int("dtype", static_cast<int64_t>(fallback));
  return dtype > 0 && dtype < dtype_count ? static_cast<DType>(dtype) : DType::undefined;
}

Capability float_output(const NodeSpec& node) {
  const DType dtype = wanted_dtype(node);
  if (contains(FloatTypes{}, dtype)) return accept;
  return reject(std::string("output of type ") + name_of(dtype) + " is not supported");
}

template <class Draw>
void fill(RunContext& c, DType dtype, const Shape& shape, Draw draw) {
  Tensor& output = c.output(0, dtype, shape);
  visit(FloatTypes{}, dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    T* y = output.data<T>();
    c.parallel_for(output.size(), 64, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) y[i] = static_cast<T>(draw(Compute<T>(), i));
    });
  });
}

struct Normal final : Kernel {
  static Capability capability(const NodeSpec& node) { return float_output(node); }
  explicit Normal(const NodeSpec& node)
      : generator(node),
        dtype(wanted_dtype(node)),
        shape(node.get_ints("shape")),
        mean(node.get_float("mean", 0)),
        scale(node.get_float("scale", 1)) {}
  void run(RunContext& c) const override {
    const Generator::Run numbers = generator.next_run();
    fill(c, dtype, c.input_count() > 0 ? c.input(0).shape() : shape, [&](auto zero, int64_t i) {
      using C = decltype(zero);
      return static_cast<C>(mean) + static_cast<C>(scale) * numbers.normal<C>(i);
    });
  }
  Generator generator;
  DType dtype;
  Shape shape;
  float mean, scale;
};
BASCULE_KERNEL("RandomNormal", Normal);
BASCULE_KERNEL("RandomNormalLike", Normal);

struct Uniform final : Kernel {
  static Capability capability(const NodeSpec& node) { return float_output(node); }
  explicit Uniform(const NodeSpec& node)
      : generator(node),
        dtype(wanted_dtype(node)),
        shape(node.get_ints("shape")),
        low(node.get_float("low", 0)),
        high(node.get_float("high", 1)) {}
  void run(RunContext& c) const override {
    const Generator::Run numbers = generator.next_run();
    fill(c, dtype, c.input_count() > 0 ? c.input(0).shape() : shape, [&](auto zero, int64_t i) {
      using C = decltype(zero);
      return static_cast<C>(low) +
             (static_cast<C>(high) - static_cast<C>(low)) * numbers.uniform<C>(i);
    });
  }
  Generator generator;
  DType dtype;
  Shape shape;
  float low, high;
};
BASCULE_KERNEL("RandomUniform", Uniform);
BASCULE_KERNEL("RandomUniformLike", Uniform);

}  // namespace
}  // namespace bascule
