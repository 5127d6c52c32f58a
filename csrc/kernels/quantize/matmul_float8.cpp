// SPDX-License-Identifier: Apache-2.0
// QLinearMatMul where an operand or the result is float8, the others 8-bit integers: the product of
// the numbers less their zero points in float32, scaled and rounded.
#include "kernels/gemm/product.h"
#include "kernels/quantize/matmul_operands.h"
#include "kernels/quantize/number.h"
#include "kernels/quantize/row_functions.h"
#include "runtime/kernel.h"

namespace bascule {
namespace {

struct Float8QLinearMatMul final : Kernel {
  static constexpr int priority = -1;  // the kernel for integers comes first

  static Capability capability(const NodeSpec& node) {
    for (const size_t i : {size_t{0}, size_t{3}, size_t{7}}) {
      const DType dtype = node.dtype(i);
      if (!is_quantized_type(dtype) || bits_of(dtype) != 8) {
        return reject("input " + std::to_string(i) + " has type " + name_of(dtype) +
                      ", which is not quantized to 8 bits");
      }
    }
    return accept;
  }

  void run(RunContext& c) const override {
    const MatMulShapes shapes(c.input(0).shape(), c.input(3).shape());
    const int64_t a_count = shapes.a_batch.size(), b_count = shapes.b_batch.size();
    const auto a_scale = numbers(c, 1, shapes.m, a_count, "a_scale");
    const auto b_scale = numbers(c, 4, shapes.n, b_count, "b_scale");
    const float y_scale = numbers(c, 6, 1, 1, "y_scale").at(0, 0);
    const float y_zero = numbers(c, 7, 1, 1, "y_zero_point").at(0, 0);
    const auto a_zero = numbers(c, 2, shapes.m, a_count, "a_zero_point");
    const auto b_zero = numbers(c, 5, shapes.n, b_count, "b_zero_point");
    const DType dtype = c.input(7).dtype();
    auto* y = c.output(0, dtype, shapes.y).data<uint8_t>();
    const int64_t rows = shapes.batch.size() * shapes.m, n = shapes.n;
    if (rows * n == 0) return;

    float* sums = c.workspace<float>(rows * n);
    multiply(c, shapes, a_zero, b_zero, sums);
    const QuantizedType type = quantized_type(dtype);
    c.parallel_for(rows, 20.0 * static_cast<double>(n), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t a_item = shapes.item(shapes.a_batch, i / shapes.m);
        const int64_t b_item = shapes.item(shapes.b_batch, i / shapes.m);
        const float row_scale = a_scale.at(a_item, i % shapes.m);
        float* row = sums + i * n;
        for (int64_t j = 0; j < n; ++j) row[j] *= row_scale * b_scale.at(b_item, j);
        if (type.integer) {
          rows_.quantize({row, {&y_scale, &y_zero, false}, type.low, type.high, 1, y + i * n, n});
          continue;
        }
        for (int64_t j = 0; j < n; ++j) {
          const float value = row[j] / y_scale + y_zero;
          y[i * n + j] = encode_narrow(value, *type.format, Overflow::saturate);
        }
      }
    });
  }

 private:
  // An input as floats: one for all, or one for each line.
  static PerLine<float> numbers(RunContext& c, int i, int64_t lines, int64_t matrices,
                                const char* name) {
    const Tensor& x = c.input(i);
    float* values = c.workspace<float>(x.size());
    to_floats(x, 0, x.size(), values);
    return PerLine<float>(values, x.size(), lines, matrices, name);
  }

  static void multiply(RunContext& c, const MatMulShapes& s, const PerLine<float>& a_zero,
                       const PerLine<float>& b_zero, float* sums) {
    const int64_t a_size = s.m * s.k, b_size = s.k * s.n;
    const float* a = shifted(c, 0, [&](int64_t i) {
      return a_size == 0 ? 0.0f : a_zero.at(i / a_size, i % a_size / s.k);
    });
    const float* b = shifted(
        c, 3, [&](int64_t i) { return b_size == 0 ? 0.0f : b_zero.at(i / b_size, i % s.n); });
    Product product;
    product.dtype = DType::float32;
    product.m = s.m;
    product.n = s.n;
    product.k = s.k;
    product.batch = s.batch;
    product.a = reinterpret_cast<const std::byte*>(a);
    product.a_strides = s.strides(s.a_batch, a_size);
    product.b = reinterpret_cast<const std::byte*>(b);
    product.b_strides = s.strides(s.b_batch, b_size);
    product.y = reinterpret_cast<std::byte*>(sums);
    run_product(c, product);
  }

  // The elements of an operand less the zero point that zero_of(element) gives.
  template <class ZeroOf>
  static const float* shifted(RunContext& c, int i, ZeroOf&& zero_of) {
    const Tensor& x = c.input(i);
    float* values = c.workspace<float>(x.size());
    c.parallel_for(x.size(), 4, [&](int64_t begin, int64_t end) {
      to_floats(x, begin, end - begin, values + begin);
      for (int64_t k = begin; k < end; ++k) values[k] -= zero_of(k);
    });
    return values;
  }

  const QuantizedRows& rows_ = quantized_rows();
};
BASCULE_KERNEL("QLinearMatMul", Float8QLinearMatMul);

}  // namespace
}  // namespace bascule
