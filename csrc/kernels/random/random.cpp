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

// number * scale + shift. With a seed (where numbers are doubles) each step is rounded to T, as the
// reference implementation does.
template <class T, class Number>
T scaled(Number number, double scale, double shift) {
  using C = Compute<T>;
  const C narrow_scale = static_cast<C>(scale), narrow_shift = static_cast<C>(shift);
  if constexpr (NarrowFloat<T> && sizeof(Number) == sizeof(double)) {
    const T product(T(static_cast<C>(number)) * T(narrow_scale));
    return T(product + T(narrow_shift));
  } else {
    return T(narrow_shift + narrow_scale * static_cast<C>(number));
  }
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
    Tensor& output = c.output(0, dtype, c.input_count() > 0 ? c.input(0).shape() : shape);
    visit(FloatTypes{}, dtype, [&](auto tag) {
      using T = typename decltype(tag)::type;
      generator.normal<Compute<T>>(c, output.size(), 64, [&](int64_t i, auto number) {
        output.data<T>()[i] = scaled<T>(number, scale, mean);
      });
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
    const double range = static_cast<double>(high) - static_cast<double>(low);
    Tensor& output = c.output(0, dtype, c.input_count() > 0 ? c.input(0).shape() : shape);
    visit(FloatTypes{}, dtype, [&](auto tag) {
      using T = typename decltype(tag)::type;
      generator.uniform<Compute<T>>(c, output.size(), 64, [&](int64_t i, auto number) {
        output.data<T>()[i] = scaled<T>(number, range, low);
      });
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
