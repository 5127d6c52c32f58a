// SPDX-License-Identifier: Apache-2.0
// QLinearMatMul of 8-bit integers; in domain `bascule` also with what QLinearAdd adds to the
// result: a row of bytes, and then bytes of its shape.
#include "kernels/quantize/integer_product.h"
#include "kernels/quantize/number.h"
#include "kernels/quantize/row_functions.h"

namespace bascule {
namespace {

enum Input : size_t {
  input_a,
  input_a_scale,
  input_a_zero,
  input_b,
  input_b_scale,
  input_b_zero,
  input_y_scale,
  input_y_zero,
  input_row,  // each addend with its scale and zero point, and those of the sum
  input_residual = input_row + 5,
  input_count = input_residual + 5
};

float only_number(const Tensor& tensor, const char* name) {
  if (tensor.size() != 1) {
    invalid(std::string(name) + " has shape " + tensor.shape().text() + ", expected one element");
  }
  float value;
  to_floats(tensor, 0, 1, &value);
  return value;
}

bool is_single(const NodeSpec& node, size_t i) {
  if (!node.has_input(i)) return true;
  const auto& shape = node.inputs[i].shape;
  return shape && std::all_of(shape->begin(), shape->end(), [](int64_t n) { return n == 1; });
}

class QLinearMatMul final : public Kernel {
 public:
  static Capability capability(const NodeSpec& node) {
    for (const size_t i : {size_t{input_a}, size_t{input_b}, size_t{input_y_zero}}) {
      const Capability typed = require_dtype(node, i, ByteTypes{});
      if (!typed.accepted()) return typed;
    }
    if (!node.has_input(input_row) && !node.has_input(input_residual)) return accept;
    for (const size_t first : {size_t{input_row}, size_t{input_residual}}) {
      for (const size_t i : {first, first + 2, first + 4}) {
        if (node.has_input(i) && node.dtype(i) != node.dtype(input_y_zero)) {
          return reject("the types differ");
        }
      }
    }
    const Tensor* b = node.constant(input_b);
    if (b == nullptr || b->rank() != 2) return reject("an addend, and B is no constant matrix");
    if (!is_single(node, input_a_scale) || !is_single(node, input_a_zero)) {
      return reject("an addend, and A has more than one scale");
    }
    return accept;
  }
  explicit QLinearMatMul(const NodeSpec& node)
      : product_(node, input_b),
        type_(quantized_type(node.dtype(input_y_zero))),
        dtype_(node.dtype(input_y_zero)),
        row_first_(node.get_int("row_first", 0) != 0),
        residual_first_(node.get_int("residual_first", 0) != 0) {
    bool constant = product_.is_one_matrix();
    for (size_t i = input_a_scale; i < input_count; ++i) {
      const bool is_read = i != input_b && i != input_residual && node.has_input(i);
      constant = constant && (!is_read || node.constant(i) != nullptr);
    }
    if (!constant || node.constant(input_a_scale)->size() != 1) return;
    const Tensor* a_zero = node.constant(input_a_zero);
    if (a_zero != nullptr && a_zero->size() != 1) return;
    finish_ = make_finish(kept_, [&](size_t i) { return node.constant(i); });
    is_known_ = true;
  }

  void run(RunContext& c) const override {
    const MatMulShapes shapes(c.input(input_a).shape(), product_.b_shape(c, input_b));
    const auto input = [&](size_t i) { return optional_input(c, static_cast<int>(i)); };
    const Tensor* a_zero = input(input_a_zero);
    if (product_.is_one_matrix() && c.input(input_a_scale).size() == 1 &&
        (a_zero == nullptr || a_zero->size() == 1)) {
      return run_rows(c, shapes, is_known_ ? finish_ : make_finish(c, input));
    }
    run_any(c, shapes);
  }

 private:
  // What is done to the sums of one packed matrix.
  struct Finish {
    IntegerFinish f{};
    ByteAddition row{};
    ByteAddition residual{};
  };

  // `input(i)` is a Tensor, or nullptr where it is left out.
  template <class Memory, class GetInput>
  Finish make_finish(Memory& memory, GetInput&& input) const {
    Finish result;
    IntegerFinish& f = result.f;
    f = product_.finish(memory, input(input_a_zero), input(input_b_zero));
    const int64_t n = product_.columns(), padded = product_.padded_columns();
    const Tensor& b_scale = *input(input_b_scale);
    auto* scales = memory.template workspace<float>(b_scale.size());
    to_floats(b_scale, 0, b_scale.size(), scales);
    const PerLine<float> b_scales(scales, b_scale.size(), n, 1, "b_scale");
    const float a_scale = only_number(*input(input_a_scale), "a_scale");
    const ByteScale y = {only_number(*input(input_y_scale), "y_scale"),
                         only_number(*input(input_y_zero), "y_zero_point")};
    auto* factors = memory.template workspace<float>(padded);
    for (int64_t j = 0; j < padded; ++j) {
      factors[j] = j < n ? a_scale * b_scales.at(0, j) / y.scale : 0.0f;
    }
    f.factors = factors;
    f.zero = y.zero;
    f.low = type_.low;
    f.high = type_.high;
    const auto scale_at = [&](size_t i) {
      const Tensor* zero = input(i + 1);
      return ByteScale{only_number(*input(i), "a scale of an addend"),
                       zero != nullptr ? only_number(*zero, "a zero point of an addend") : 0.0f};
    };
    const auto addition = [&](size_t i, ByteScale own, bool is_first) {
      return add_bytes(own, scale_at(i + 1), scale_at(i + 3), is_first, type_.low);
    };
    ByteScale own = y;
    if (const Tensor* row = input(input_row)) {
      if (row->size() != n) {
        invalid("row has shape " + row->shape().text() + ", expected " + Shape{n}.text());
      }
      auto* values = memory.template workspace<float>(padded);
      std::fill_n(values, padded, 0.0f);
      to_floats(*row, 0, n, values);
      f.row_values = values;
      result.row = addition(input_row, own, row_first_);
      own = scale_at(input_row + 3);
    }
    if (input(input_residual + 1) != nullptr) {
      result.residual = addition(input_residual, own, residual_first_);
    }
    return result;
  }

  void run_rows(RunContext& c, const MatMulShapes& shapes, Finish finish) const {
    const uint8_t* residual = nullptr;
    if (finish.f.row_values != nullptr) finish.f.row = &finish.row;
    if (c.has_input(input_residual)) {
      const Tensor& added = c.input(input_residual);
      if (added.shape() != shapes.y) {
        invalid("residual has shape " + added.shape().text() + ", expected " + shapes.y.text());
      }
      residual = added.data<uint8_t>();
      finish.f.residual = &finish.residual;
    }
    auto* y = c.output(0, dtype_, shapes.y).data<uint8_t>();
    product_.run_rows(c, shapes, finish.f, residual, y);
  }

  void run_any(RunContext& c, const MatMulShapes& shapes) const {
    const auto scales = [&](int i, int64_t lines, int64_t matrices, const char* name) {
      const Tensor& scale = c.input(i);
      float* values = c.workspace<float>(scale.size());
      to_floats(scale, 0, scale.size(), values);
      return PerLine<float>(values, scale.size(), lines, matrices, name);
    };
    const auto a_scale = scales(1, shapes.m, shapes.a_batch.size(), "a_scale");
    const auto b_scale = scales(4, shapes.n, shapes.b_batch.size(), "b_scale");
    const float y_scale = scales(6, 1, 1, "y_scale").at(0, 0);
    const Tensor& zero = c.input(7);
    if (zero.size() != 1) invalid("y_zero_point has shape " + zero.shape().text());
    float y_zero;
    to_floats(zero, 0, 1, &y_zero);
    auto* y = c.output(0, dtype_, shapes.y).data<uint8_t>();

    // With one scale for A the factors of the columns are the same for all rows.
    float* factors = nullptr;
    const bool each = b_scale.line_step != 0;
    if (each) {
      factors = c.workspace<float>(shapes.b_batch.size() * shapes.n);
      for (int64_t i = 0; i < shapes.b_batch.size() * shapes.n; ++i) {
        factors[i] = a_scale.at(0, 0) * b_scale.at(i / shapes.n, i % shapes.n) / y_scale;
      }
    }
    product_.run(c, shapes, 3, optional_input(c, 2), optional_input(c, 5),
                 [&](int64_t a_item, int64_t b_item, int64_t row, int64_t first, int64_t columns,
                     const int32_t* sums, int64_t at) {
                   const float row_scale = a_scale.at(a_item, row);
                   const float factor = row_scale * b_scale.at(b_item, 0) / y_scale;
                   RequantizeRow r{sums,      &factor,    false,  y_zero,
                                   type_.low, type_.high, y + at, columns};
                   if (!each) return rows_.requantize(r);
                   if (a_scale.line_step == 0) {
                     r.scale = factors + b_item * shapes.n + first;
                     r.each = true;
                     return rows_.requantize(r);
                   }
                   // A scale for each row and each column.
                   constexpr int64_t chunk = 256;
                   float scales[chunk];
                   r.scale = scales;
                   r.each = true;
                   for (int64_t j = 0; j < columns; j += chunk) {
                     r.n = std::min(chunk, columns - j);
                     for (int64_t i = 0; i < r.n; ++i) {
                       scales[i] = row_scale * b_scale.at(b_item, first + j + i) / y_scale;
                     }
                     r.x = sums + j;
                     r.y = y + at + j;
                     rows_.requantize(r);
                   }
                 });
  }

 private:
  IntegerProduct product_;
  QuantizedType type_;
  DType dtype_;
  bool row_first_;
  bool residual_first_;
  // The finish, if all that it follows from is constant.
  bool is_known_ = false;
  KeptMemory kept_;
  Finish finish_;
  const QuantizedRows& rows_ = quantized_rows();
};
BASCULE_KERNEL("QLinearMatMul", QLinearMatMul);
BASCULE_KERNEL_IN("bascule", "QLinearMatMul", QLinearMatMul);

}  // namespace
}  // namespace bascule
