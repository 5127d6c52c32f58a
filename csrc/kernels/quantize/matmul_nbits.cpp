// SPDX-License-Identifier: Apache-2.0
// MatMulNBits of domain `bascule`: Y = A B + bias with B in 2, 4 or 8 bits. It is never a matrix of
// floats in memory: a few rows of A are multiplied while B is dequantized in registers, for more
// rows some panels of B at a time are.
#include <optional>

#include "kernels/gemm/convert.h"
#include "kernels/gemm/product.h"
#include "kernels/quantize/nbits.h"
#include "runtime/kernel.h"

namespace bascule {
namespace {

using ActivationTypes = Types<float, Float16, BFloat16>;

enum Input : int { input_a, input_b, input_scales, input_zeros, input_groups, input_bias };

NBitsShape shape_of(const NodeSpec& node) {
  NBitsShape shape{};
  shape.n = node.get_int("N", 0);
  shape.k = node.get_int("K", 0);
  shape.block_size = node.get_int("block_size", 0);
  shape.bits = static_cast<int>(node.get_int("bits", 4));
  return shape;
}

void check_shape(const Tensor& tensor, const char* name, const Shape& expected) {
  // Vectors of all elements are how older models have it.
  if (tensor.shape() == expected || tensor.shape() == Shape{expected.size()}) return;
  fail(std::string(name) + " has shape " + tensor.shape().text() + ", expected " + expected.text());
}

class MatMulNBits final : public Kernel {
 public:
  static Capability capability(const NodeSpec& node) {
    for (const size_t i : {input_a, input_scales, input_bias}) {
      const Capability typed = require_dtype(node, i, ActivationTypes{});
      if (!typed.accepted()) return typed;
    }
    const Capability data = require_dtype(node, input_b, Types<uint8_t>{});
    if (!data.accepted()) return data;
    const Capability groups = require_dtype(node, input_groups, Types<int32_t>{});
    if (!groups.accepted()) return groups;
    return require_dtype(node, input_zeros, Types<uint8_t, float, Float16, BFloat16>{});
  }

  explicit MatMulNBits(const NodeSpec& node)
      : shape_(shape_of(node)), split_(!multiplies_whole(node)) {
    shape_.check();
    values_ = node.get_floats("values");
    if (!values_.empty() &&
        (shape_.bits == 8 || values_.size() != static_cast<size_t>(1 << shape_.bits))) {
      fail("there are " + std::to_string(values_.size()) + " values for patterns of " +
           std::to_string(shape_.bits) + " bits");
    }
    const Tensor* tensors[input_groups + 1] = {};
    for (const int i : {input_b, input_scales, input_zeros, input_groups}) {
      const auto index = static_cast<size_t>(i);
      tensors[i] = node.constant(index);
      if (tensors[i] == nullptr && node.has_input(index)) return;
    }
    if (tensors[input_b] == nullptr || tensors[input_scales] == nullptr) return;
    weights_ = pack(tensors, &node);
    for (const int i : {input_b, input_scales, input_zeros, input_groups}) {
      if (tensors[i] != nullptr) node.release_constant(static_cast<size_t>(i));
    }
  }

  void run(RunContext& c) const override {
    if (weights_.present()) return multiply(c, weights_);
    const Tensor* tensors[input_groups + 1] = {};
    for (const int i : {input_b, input_scales, input_zeros, input_groups}) {
      if (c.has_input(i)) tensors[i] = &c.input(i);
    }
    multiply(c, pack(tensors));
  }

 private:
  NBitsWeights pack(const Tensor* const* tensors, const NodeSpec* node = nullptr) const {
    const Tensor &data = *tensors[input_b], &scales = *tensors[input_scales];
    const int64_t blocks = shape_.blocks();
    const Shape expected{shape_.n, blocks, shape_.block_size * shape_.bits / 8};
    if (data.shape() != expected) {
      fail("B has shape " + data.shape().text() + ", expected " + expected.text());
    }
    check_shape(scales, "scales", {shape_.n, blocks});
    NBitsSource source{};
    source.node = node;
    source.data = data.data<uint8_t>();
    source.scales = &scales;
    source.zeros = tensors[input_zeros];
    source.groups = tensors[input_groups];
    source.values = values_.empty() ? nullptr : values_.data();
    if (source.zeros != nullptr) {
      const bool packed = source.zeros->dtype() == DType::uint8;
      check_shape(*source.zeros, "zero_points",
                  {shape_.n, packed ? shape_.zero_row_bytes() : blocks});
    }
    if (source.groups != nullptr && source.groups->shape() != Shape{shape_.k} &&
        source.groups->shape() != Shape{blocks * shape_.block_size}) {
      fail("g_idx has shape " + source.groups->shape().text() + ", expected " +
           Shape{shape_.k}.text());
    }
    return NBitsWeights(shape_, source, split_);
  }

  void multiply(RunContext& c, const NBitsWeights& weights) const {
    const Tensor& a = c.input(input_a);
    if (a.rank() == 0 || a.shape().back() != shape_.k) {
      fail("A has shape " + a.shape().text() + ", expected " + std::to_string(shape_.k) +
           " elements along its last axis");
    }
    const float* bias = nullptr;
    if (c.has_input(input_bias)) {
      const Tensor& given = c.input(input_bias);
      if (given.shape() != Shape{shape_.n}) {
        fail("bias has shape " + given.shape().text() + ", expected " + Shape{shape_.n}.text());
      }
      bias = as_floats(c, given);
    }
    Shape y_shape = a.shape();
    y_shape[y_shape.rank() - 1] = shape_.n;
    const int64_t rows = a.shape().product(0, a.rank() - 1);
    const float* floats = as_floats(c, a);
    Tensor& y = c.output(0, a.dtype(), y_shape);
    if (a.dtype() == DType::float32) {
      weights.multiply(c, floats, rows, bias, y.data<float>());
      return;
    }
    float* wide = c.workspace<float>(y.size());
    weights.multiply(c, floats, rows, bias, wide);
    narrow(c, a.dtype(), wide, y.raw(), y.size());
  }

  NBitsShape shape_;
  bool split_;
  std::vector<float> values_;
  NBitsWeights weights_;
};
BASCULE_KERNEL_IN("bascule", "MatMulNBits", MatMulNBits);

}  // namespace
}  // namespace bascule
