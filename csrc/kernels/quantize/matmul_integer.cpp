// SPDX-License-Identifier: Apache-2.0
// MatMulInteger and QLinearMatMul of 8-bit integers, with NumPy's rules for the shapes.
#include <cstring>

#include "kernels/quantize/integer_gemm.h"
#include "kernels/quantize/matmul_operands.h"
#include "kernels/quantize/number.h"
#include "kernels/quantize/row_functions.h"
#include "runtime/kernel.h"
#include "runtime/prepack.h"

namespace bascule {
namespace {

// Zero points in the signs of the product, or nothing if they are all zero there.
PerLine<int32_t> zero_points(RunContext& c, const Tensor* zero, int32_t shift, int64_t lines,
                             int64_t matrices, const char* name) {
  const int64_t count = zero != nullptr ? zero->size() : 1;
  int32_t* values = c.workspace<int32_t>(count);
  bool any = false;
  for (int64_t i = 0; i < count; ++i) {
    int32_t value = 0;
    if (zero != nullptr) {
      value = zero->dtype() == DType::int8 ? zero->data<int8_t>()[i] : zero->data<uint8_t>()[i];
    }
    values[i] = value + shift;
    any |= values[i] != 0;
  }
  if (!any) return {};
  return {values, count, lines, matrices, name};
}

// The product of two operands; what is made of its rows is said by finish().
class IntegerProduct {
 public:
  IntegerProduct(const NodeSpec& node, size_t b)
      : a_sign_(as_unsigned(node.dtype(0))), b_sign_(as_signed(node.dtype(b))) {
    const Tensor* constant = node.constant(b);
    if (constant == nullptr || constant->rank() == 0) return;
    const Shape& shape = constant->shape();
    const int64_t k = shape.rank() == 1 ? shape[0] : shape[shape.rank() - 2];
    const int64_t n = shape.rank() == 1 ? 1 : shape.back();
    const int64_t matrices = shape.rank() <= 2 ? 1 : shape.product(0, shape.rank() - 2);
    const auto packed = prepack(
        node, {b}, "B and sums",
        {{DType::int8, {matrices, panels_of(n) * panel_bytes(k)}}, {DType::int32, {matrices, n}}},
        [&](std::vector<Tensor>& to) {
          for (int64_t i = 0; i < matrices; ++i) {
            pack_integer_panels(constant->data<uint8_t>() + i * k * n, k, n, n, b_sign_, 0,
                                panels_of(n), to[0].data<int8_t>() + i * to[0].dim(1),
                                to[1].data<int32_t>() + i * n);
          }
        });
    packed_ = packed[0];
    packed_sums_ = packed[1];
    packed_shape_ = shape;
    is_packed_ = true;
    node.release_constant(b);
  }

  const Shape& b_shape(RunContext& c, int b) const {
    return is_packed_ ? packed_shape_ : c.input(b).shape();
  }

  // finish(matrix of A, matrix of B, row, first column, columns, sums, index of the first result)
  // for pieces of corrected rows; it may be called on several threads.
  template <class Finish>
  void run(RunContext& c, const MatMulShapes& s, int b_index, const Tensor* a_zero,
           const Tensor* b_zero, Finish&& finish) const {
    const IntegerGemmFunctions& functions = integer_gemm();
    const int64_t a_count = s.a_batch.size(), b_count = s.b_batch.size();
    const auto a_zeros = zero_points(c, a_zero, a_sign_.shift, s.m, a_count, "a_zero_point");
    const auto b_zeros = zero_points(c, b_zero, b_sign_.shift, s.n, b_count, "b_zero_point");
    if (s.batch.size() * s.m * s.n == 0) return;
    const int64_t depth = quads_of(s.k) * 4;
    auto* rows = c.workspace<uint8_t>(a_count * s.m * depth);
    auto* row_sums = c.workspace<int32_t>(a_count * s.m);
    const auto* a = c.input(0).data<uint8_t>();
    c.parallel_for(a_count * s.m, static_cast<double>(s.k) / 8, [&](int64_t begin, int64_t end) {
      copy_rows(a + begin * s.k, end - begin, s.k, a_sign_, rows + begin * depth, row_sums + begin);
    });
    const int64_t matrix_panels = panels_of(s.n), bytes = panel_bytes(s.k);
    const int8_t* panels = packed_.data<int8_t>();
    const int32_t* column_sums = packed_sums_.data<int32_t>();
    if (!is_packed_) {
      auto* to = c.workspace<int8_t>(b_count * matrix_panels * bytes);
      auto* sums = c.workspace<int32_t>(b_count * s.n);
      const auto* b = c.input(b_index).data<uint8_t>();
      c.parallel_for(
          b_count * matrix_panels, static_cast<double>(bytes) / 4, [&](int64_t begin, int64_t end) {
            for (int64_t i = begin; i < end; ++i) {
              const int64_t item = i / matrix_panels;
              pack_integer_panels(b + item * s.k * s.n, s.k, s.n, s.n, b_sign_, i % matrix_panels,
                                  1, to + item * matrix_panels * bytes, sums + item * s.n);
            }
          });
      panels = to;
      column_sums = sums;
    }
    // Zero points of single columns as a row for each matrix.
    int32_t* column_zeros = nullptr;
    if (b_zeros.values != nullptr) {
      column_zeros = c.workspace<int32_t>(b_count * s.n);
      for (int64_t i = 0; i < b_count; ++i) {
        for (int64_t j = 0; j < s.n; ++j) column_zeros[i * s.n + j] = b_zeros.at(i, j);
      }
    }

    // Pieces: some panels that stay in the second cache, and rows enough to pay for reading them.
    constexpr int64_t cache_bytes = 256 * 1024;
    const int64_t threads = c.threads();
    int64_t wide = std::clamp<int64_t>(cache_bytes / std::max<int64_t>(bytes, 1), 1, 64);
    wide = std::min(wide, matrix_panels);
    const int64_t row_block = functions.tile_rows * 8;
    const int64_t row_blocks = (s.m + row_block - 1) / row_block;
    if (s.batch.size() * row_blocks < threads) {
      wide = std::min(wide, (matrix_panels + threads - 1) / threads);
    }
    const int64_t chunks = (matrix_panels + wide - 1) / wide;
    const int64_t pieces = s.batch.size() * chunks * row_blocks;
    const int64_t tile_size = functions.tile_rows * wide * functions.panel_width;
    auto* tiles = c.workspace<int32_t>(threads * tile_size);
    const double work =
        static_cast<double>(s.batch.size() * s.m * s.n) * static_cast<double>(s.k + 32) / 32;
    c.parallel_for(threads, work / static_cast<double>(threads), [&](int64_t begin, int64_t end) {
      for (int64_t part = begin; part < end; ++part) {
        for (int64_t i = pieces * part / threads; i < pieces * (part + 1) / threads; ++i) {
          const int64_t index = i / (chunks * row_blocks);
          const int64_t first = i / row_blocks % chunks * wide * functions.panel_width;
          const int64_t columns = std::min(wide * functions.panel_width, s.n - first);
          const int64_t row = s.m * (i % row_blocks) / row_blocks;
          const int64_t last = s.m * (i % row_blocks + 1) / row_blocks;
          const int64_t a_item = s.item(s.a_batch, index), b_item = s.item(s.b_batch, index);
          IntegerCorrection correction{};
          correction.depth = s.k;
          correction.column_sums = column_sums + b_item * s.n + first;
          if (column_zeros != nullptr) correction.b_zero = column_zeros + b_item * s.n + first;
          multiply_integers(
              rows + (a_item * s.m + row) * depth, last - row, s.k,
              panels + b_item * matrix_panels * bytes + first / functions.panel_width * bytes,
              columns, tiles + part * tile_size, [&](int64_t at, int32_t* sums) {
                correction.a_zero = a_zeros.at(a_item, row + at);
                correction.row_sum = row_sums[a_item * s.m + row + at];
                functions.correct(sums, columns, correction);
                finish(a_item, b_item, row + at, first, columns, sums,
                       (index * s.m + row + at) * s.n + first);
              });
        }
      }
    });
  }

 private:
  ByteSign a_sign_;
  ByteSign b_sign_;
  bool is_packed_ = false;
  Shape packed_shape_;
  Tensor packed_;
  Tensor packed_sums_;
};

const Tensor* optional_input(RunContext& c, int i) {
  return c.has_input(i) ? &c.input(i) : nullptr;
}

class MatMulInteger final : public Kernel {
 public:
  static Capability capability(const NodeSpec& node) {
    const Capability typed = require_dtype(node, 0, ByteTypes{});
    return typed.accepted() ? require_dtype(node, 1, ByteTypes{}) : typed;
  }
  explicit MatMulInteger(const NodeSpec& node) : product_(node, 1) {}

  void run(RunContext& c) const override {
    const MatMulShapes shapes(c.input(0).shape(), product_.b_shape(c, 1));
    auto* y = c.output(0, DType::int32, shapes.y).data<int32_t>();
    product_.run(
        c, shapes, 1, optional_input(c, 2), optional_input(c, 3),
        [&](int64_t, int64_t, int64_t, int64_t, int64_t columns, const int32_t* sums, int64_t at) {
          std::memcpy(y + at, sums, static_cast<size_t>(columns) * sizeof(int32_t));
        });
  }

 private:
  IntegerProduct product_;
};
BASCULE_KERNEL("MatMulInteger", MatMulInteger);

class QLinearMatMul final : public Kernel {
 public:
  static Capability capability(const NodeSpec& node) {
    for (const size_t i : {size_t{0}, size_t{3}, size_t{7}}) {
      const Capability typed = require_dtype(node, i, ByteTypes{});
      if (!typed.accepted()) return typed;
    }
    return accept;
  }
  explicit QLinearMatMul(const NodeSpec& node) : product_(node, 3) {}

  void run(RunContext& c) const override {
    const MatMulShapes shapes(c.input(0).shape(), product_.b_shape(c, 3));
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
    const QuantizedType type = quantized_type(zero.dtype());
    float y_zero;
    to_floats(zero, 0, 1, &y_zero);
    auto* y = c.output(0, zero.dtype(), shapes.y).data<uint8_t>();

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
                   RequantizeRow r{sums,     &factor,   false,  y_zero,
                                   type.low, type.high, y + at, columns};
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
  const QuantizedRows& rows_ = quantized_rows();
};
BASCULE_KERNEL("QLinearMatMul", QLinearMatMul);

}  // namespace
}  // namespace bascule
