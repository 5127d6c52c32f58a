// SPDX-License-Identifier: Apache-2.0
// Products of 8-bit matrices of which one may be packed, with NumPy's rules for the shapes.
#pragma once

#include "kernels/quantize/integer_finish.h"
#include "kernels/quantize/matmul_operands.h"
#include "runtime/kernel.h"
#include "runtime/prepack.h"

namespace bascule {

// Zero points in the signs of the product, or nothing if they are all zero there.
template <class Memory>
PerLine<int32_t> zero_points(Memory& memory, const Tensor* zero, int32_t shift, int64_t lines,
                             int64_t matrices, const char* name) {
  const int64_t count = zero != nullptr ? zero->size() : 1;
  auto* values = memory.template workspace<int32_t>(count);
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

  // Whether B is one matrix that is packed, and the columns that fill up its panels.
  bool is_one_matrix() const { return is_packed_ && packed_.dim(0) == 1; }
  int64_t columns() const { return packed_sums_.dim(1); }
  int64_t padded_columns() const { return panels_of(columns()) * integer_gemm().panel_width; }

  // How sums of one matrix are corrected for zero points, that of A being one. The arrays come from
  // `memory`, a RunContext or KeptMemory.
  template <class Memory>
  IntegerFinish finish(Memory& memory, const Tensor* a_zero, const Tensor* b_zero) const {
    const int64_t n = columns(), padded = padded_columns();
    const int64_t depth = packed_shape_[std::max(0, packed_shape_.rank() - 2)];
    const auto a_zeros = zero_points(memory, a_zero, a_sign_.shift, 1, 1, "a_zero_point");
    const auto b_zeros = zero_points(memory, b_zero, b_sign_.shift, n, 1, "b_zero_point");
    const auto shift = static_cast<uint32_t>(a_zeros.at(0, 0));
    auto* bias = memory.template workspace<int32_t>(padded);
    auto* zeros = memory.template workspace<int32_t>(padded);
    for (int64_t j = 0; j < padded; ++j) {
      const int32_t zero = j < n ? b_zeros.at(0, j) : 0, sum = j < n ? sums()[j] : 0;
      const uint32_t moved = static_cast<uint32_t>(depth) * static_cast<uint32_t>(zero);
      bias[j] = static_cast<int32_t>(shift * (moved - static_cast<uint32_t>(sum)));
      zeros[j] = zero;
    }
    IntegerFinish result{};
    result.bias = bias;
    if (b_zeros.values != nullptr) result.weight_zero = zeros;
    return result;
  }

  // One matrix, with what becomes of its sums. The residual may be null.
  void run_rows(RunContext& c, const MatMulShapes& s, const IntegerFinish& finish,
                const uint8_t* residual, uint8_t* y) const {
    const auto* a = c.input(0).data<uint8_t>();
    const int64_t depth = quads_of(s.k) * 4;
    if (a_sign_.flip != 0 || depth != s.k) {
      auto* rows = c.workspace<uint8_t>(s.m * depth);
      auto* row_sums = c.workspace<int32_t>(s.m);
      copy_a(c, s, s.m, rows, row_sums);
      a = rows;
    }
    multiply_rows(c, {a, depth, s.m, s.k, packed_.data<int8_t>(), s.n, y, residual}, finish);
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
    copy_a(c, s, a_count * s.m, rows, row_sums);
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
  const int32_t* sums() const { return packed_sums_.data<int32_t>(); }

  // Rows of A as the product reads them, and the sum of each.
  void copy_a(RunContext& c, const MatMulShapes& s, int64_t count, uint8_t* rows,
              int32_t* row_sums) const {
    const auto* a = c.input(0).data<uint8_t>();
    const int64_t depth = quads_of(s.k) * 4;
    c.parallel_for(count, static_cast<double>(s.k) / 8, [&](int64_t begin, int64_t end) {
      copy_rows(a + begin * s.k, end - begin, s.k, a_sign_, rows + begin * depth, row_sums + begin);
    });
  }

  ByteSign a_sign_;
  ByteSign b_sign_;
  bool is_packed_ = false;
  Shape packed_shape_;
  Tensor packed_;
  Tensor packed_sums_;
};

inline const Tensor* optional_input(RunContext& c, int i) {
  return c.has_input(i) ? &c.input(i) : nullptr;
}

}  // namespace bascule
