// SPDX-License-Identifier: Apache-2.0
// Products of matrices of 8-bit integers with zero points: sum over k of
// (a[i, k] - a_zero[i]) * (b[k, j] - b_zero[j]), modulo 2^32.
#pragma once

#include <algorithm>

#include "core/dtype.h"
#include "kernels/quantize/integer_block.h"
#include "runtime/run_context.h"

namespace bascule {

using ByteTypes = Types<int8_t, uint8_t>;

// The functions for the active instruction set.
const IntegerGemmFunctions& integer_gemm();

// How an operand's bytes become unsigned (A) or signed (B), and what that adds to its zero point.
struct ByteSign {
  uint8_t flip;
  int32_t shift;
};
inline ByteSign as_unsigned(DType dtype) {
  return dtype == DType::int8 ? ByteSign{0x80, 128} : ByteSign{0, 0};
}
inline ByteSign as_signed(DType dtype) {
  return dtype == DType::uint8 ? ByteSign{0x80, -128} : ByteSign{0, 0};
}

inline int64_t quads_of(int64_t depth) { return (depth + 3) / 4; }
inline int64_t panels_of(int64_t columns) {
  return (columns + integer_gemm().panel_width - 1) / integer_gemm().panel_width;
}
// Bytes of one panel.
inline int64_t panel_bytes(int64_t depth) {
  return quads_of(depth) * integer_gemm().panel_width * 4;
}

// Rows of A, copied with the sign that the product needs: [rows][quads * 4], and the sum of each.
struct IntegerRows {
  const uint8_t* data;
  const int32_t* sums;
};
// `depth` bytes in a row, one row after the other. Fills data and sums.
void copy_rows(const uint8_t* from, int64_t rows, int64_t depth, ByteSign sign, uint8_t* data,
               int32_t* sums);

// Panels of B, [depth, columns] one row after the other, `stride` bytes apart. Fills the sums of
// all columns. `count` panels from `first`.
void pack_integer_panels(const uint8_t* from, int64_t depth, int64_t columns, int64_t stride,
                         ByteSign sign, int64_t first, int64_t count, int8_t* panels,
                         int32_t* column_sums);

// finish(row, sums) for each row, with the uncorrected sums of `columns` columns in `tile`, which
// holds tile_rows * columns elements.
template <class Finish>
void multiply_integers(const uint8_t* a, int64_t rows, int64_t depth, const int8_t* panels,
                       int64_t columns, int32_t* tile, Finish&& finish) {
  const IntegerGemmFunctions& functions = integer_gemm();
  const int64_t tiles = (rows + functions.tile_rows - 1) / functions.tile_rows;
  IntegerBlock block{};
  block.quads = quads_of(depth);
  block.a_stride = block.quads * 4;
  block.b = panels;
  block.b_panel_stride = panel_bytes(depth);
  block.c = tile;
  block.c_stride = columns;
  block.columns = columns;
  for (int64_t i = 0; i < tiles; ++i) {
    const int64_t from = rows * i / tiles, to = rows * (i + 1) / tiles;
    block.a = a + from * block.a_stride;
    block.rows = to - from;
    functions.multiply(block);
    for (int64_t row = from; row < to; ++row) finish(row, tile + (row - from) * columns);
  }
}

}  // namespace bascule
