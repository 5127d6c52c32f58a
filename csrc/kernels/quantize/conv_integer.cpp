// SPDX-License-Identifier: Apache-2.0
// ConvInteger and QLinearConv, channels first or (domain `bascule`) last.
#include "kernels/quantize/integer_convolution.h"
#include "kernels/quantize/integer_finish.h"
#include "kernels/quantize/number.h"
#include "runtime/kernel.h"

namespace bascule {
namespace {

const Tensor* optional_input(RunContext& c, int i) {
  return c.has_input(i) ? &c.input(i) : nullptr;
}

int32_t zero_point(const Tensor* zero) {
  return zero != nullptr ? static_cast<int32_t>(zero->to_int()) : 0;
}
int32_t zero_point(RunContext& c, int i) { return zero_point(optional_input(c, i)); }

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
      : convolution_(node, 3),
        type_(quantized_type(node.dtype(7))),
        dtype_(node.dtype(7)),
        residual_first_(node.get_int("residual_first", 0) != 0) {
    is_known_ = convolution_.is_packed();
    for (const size_t i : {1, 2, 4, 5, 6, 7, 8}) {
      is_known_ = is_known_ && (!node.has_input(i) || node.constant(i) != nullptr);
    }
    if (!is_known_) return;
    const auto input = [&](size_t i) { return node.constant(i); };
    const Scales scales = read_scales(kept_, input, convolution_.out_channels());
    finish_ = convolution_.finish(kept_, zero_point(input(2)), input(5), scales.bias,
                                  scales.scaling(type_));
  }

  void run(RunContext& c) const override {
    const ConvSizes s = convolution_.sizes(c);
    const Shape shape = convolution_.output_shape(c, s);
    IntegerConvolution::Residual residual{};
    const bool adds = c.has_input(9);
    if (adds) residual = read_residual(c, shape);
    const int32_t x_zero = zero_point(c, 2);
    const auto* added = adds ? &residual : nullptr;
    if (is_known_) {
      return convolution_.run(c, s, x_zero, finish_, added, c.output(0, dtype_, shape).raw());
    }
    const auto input = [&](size_t i) { return optional_input(c, static_cast<int>(i)); };
    const Scales scales = read_scales(c, input, s.out_channels);
    const auto scaling = scales.scaling(type_);
    convolution_.run(c, s, x_zero, input(5), scales.bias, &scaling, added,
                     c.output(0, dtype_, shape).raw());
  }

 private:
  struct Scales {
    const float* factors;
    int64_t count;
    float y_zero;
    const int32_t* bias;

    IntegerConvolution::Scaling scaling(const QuantizedType& type) const {
      return {factors, count, y_zero, type.low, type.high};
    }
  };

  // `input(i)` is a Tensor, or nullptr where it is left out.
  template <class Memory, class GetInput>
  static Scales read_scales(Memory& memory, GetInput&& input, int64_t out_channels) {
    const Tensor& w_scale = *input(4);
    const int64_t count = w_scale.size();
    if (count != 1 && count != out_channels) {
      invalid("w_scale has shape " + w_scale.shape().text() + ", expected a scalar or " +
              Shape{out_channels}.text());
    }
    const auto x_scale = static_cast<float>(input(1)->to_double());
    const auto y_scale = static_cast<float>(input(6)->to_double());
    auto* factors = memory.template workspace<float>(count);
    for (int64_t i = 0; i < count; ++i) factors[i] = x_scale * w_scale.data<float>()[i] / y_scale;
    const Tensor* bias = input(8);
    if (bias != nullptr && bias->shape() != Shape{out_channels}) {
      invalid("bias has shape " + bias->shape().text() + ", expected " +
              Shape{out_channels}.text());
    }
    return {factors, count, static_cast<float>(zero_point(input(7))),
            bias != nullptr ? bias->data<int32_t>() : nullptr};
  }

  // In steps of the sum, as QLinearAdd has them.
  IntegerConvolution::Residual read_residual(RunContext& c, const Shape& shape) const {
    const Tensor& added = c.input(9);
    if (added.shape() != shape) {
      invalid("residual has shape " + added.shape().text() + ", expected " + shape.text());
    }
    const auto scale = [&](int i) {
      return ByteScale{static_cast<float>(c.input(i).to_double()),
                       static_cast<float>(zero_point(c, i + 1))};
    };
    return {added.data<uint8_t>(),
            add_bytes(scale(6), scale(10), scale(12), residual_first_, type_.low)};
  }

  IntegerConvolution convolution_;
  QuantizedType type_;
  DType dtype_;
  bool residual_first_;
  // The finish, if all that it follows from is constant.
  bool is_known_;
  KeptMemory kept_;
  IntegerFinish finish_;
};
BASCULE_KERNEL("QLinearConv", QLinearConv);
BASCULE_KERNEL_IN("bascule", "QLinearConv", QLinearConv);

}  // namespace
}  // namespace bascule
