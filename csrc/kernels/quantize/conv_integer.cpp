// SPDX-License-Identifier: Apache-2.0
// ConvInteger and QLinearConv, channels first or (domain `bascule`) last.
#include "kernels/quantize/integer_convolution.h"
#include "kernels/quantize/integer_finish.h"
#include "kernels/quantize/number.h"
#include "runtime/kernel.h"

namespace bascule {
namespace {

int32_t zero_point(RunContext& c, int i) {
  return c.has_input(i) ? static_cast<int32_t>(c.input(i).to_int()) : 0;
}

const Tensor* optional_input(RunContext& c, int i) {
  return c.has_input(i) ? &c.input(i) : nullptr;
}

class ConvInteger final : public Kernel {
 public:
  static Capability capability(const NodeSpec& node) {
    const Capability typed = require_dtype(node, 0, ByteTypes{});
    return typed.accepted() ? require_dtype(node, 1, ByteTypes{}) : typed;
  }
  explicit ConvInteger(const NodeSpec& node) : convolution_(node, 1) {}

  void run(RunContext& c) const override {
    const ConvSizes s = convolution_.sizes(c);
    Tensor& y = c.output(0, DType::int32, convolution_.output_shape(c, s));
    convolution_.run(c, s, zero_point(c, 2), optional_input(c, 3), nullptr, nullptr, nullptr,
                     y.raw());
  }

 private:
  IntegerConvolution convolution_;
};
BASCULE_KERNEL("ConvInteger", ConvInteger);
BASCULE_KERNEL_IN("bascule", "ConvInteger", ConvInteger);

class QLinearConv final : public Kernel {
 public:
  static Capability capability(const NodeSpec& node) {
    for (const size_t i : {size_t{0}, size_t{3}, size_t{7}}) {
      const Capability typed = require_dtype(node, i, ByteTypes{});
      if (!typed.accepted()) return typed;
    }
    for (const size_t i : {size_t{9}, size_t{11}, size_t{13}}) {
      if (node.has_input(i) && node.dtype(i) != node.dtype(7)) return reject("the types differ");
    }
    return accept;
  }
  explicit QLinearConv(const NodeSpec& node)
      : convolution_(node, 3), residual_first_(node.get_int("residual_first", 0) != 0) {}

  void run(RunContext& c) const override {
    const ConvSizes s = convolution_.sizes(c);
    const Tensor& w_scale = c.input(4);
    const int64_t scales = w_scale.size();
    if (scales != 1 && scales != s.out_channels) {
      invalid("w_scale has shape " + w_scale.shape().text() + ", expected a scalar or " +
              Shape{s.out_channels}.text());
    }
    const auto x_scale = static_cast<float>(c.input(1).to_double());
    const auto y_scale = static_cast<float>(c.input(6).to_double());
    float* factors = c.workspace<float>(scales);
    for (int64_t i = 0; i < scales; ++i) factors[i] = x_scale * w_scale.data<float>()[i] / y_scale;
    const int32_t* bias = nullptr;
    if (c.has_input(8)) {
      if (c.input(8).shape() != Shape{s.out_channels}) {
        invalid("bias has shape " + c.input(8).shape().text() + ", expected " +
                Shape{s.out_channels}.text());
      }
      bias = c.input(8).data<int32_t>();
    }
    const DType dtype = c.input(7).dtype();
    const QuantizedType type = quantized_type(dtype);
    const auto y_zero = static_cast<float>(zero_point(c, 7));
    const IntegerConvolution::Scaling scaling{factors, scales, y_zero, type.low, type.high};
    const Shape shape = convolution_.output_shape(c, s);
    IntegerConvolution::Residual residual{};
    const bool adds = c.has_input(9);
    if (adds) residual = read_residual(c, shape, y_scale, y_zero, type.low);
    Tensor& y = c.output(0, dtype, shape);
    convolution_.run(c, s, zero_point(c, 2), optional_input(c, 5), bias, &scaling,
                     adds ? &residual : nullptr, y.raw());
  }

 private:
  // In steps of the sum, as QLinearAdd has them.
  IntegerConvolution::Residual read_residual(RunContext& c, const Shape& shape, float y_scale,
                                             float y_zero, float low) const {
    const Tensor& added = c.input(9);
    if (added.shape() != shape) {
      invalid("residual has shape " + added.shape().text() + ", expected " + shape.text());
    }
    const auto scale = [&](int i) {
      return ByteScale{static_cast<float>(c.input(i).to_double()),
                       static_cast<float>(zero_point(c, i + 1))};
    };
    return {added.data<uint8_t>(),
            add_bytes({y_scale, y_zero}, scale(10), scale(12), residual_first_, low)};
  }

  IntegerConvolution convolution_;
  bool residual_first_;
};
BASCULE_KERNEL("QLinearConv", QLinearConv);
BASCULE_KERNEL_IN("bascule", "QLinearConv", QLinearConv);

}  // namespace
}  // namespace bascule
