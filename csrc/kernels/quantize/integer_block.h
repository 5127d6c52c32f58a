// SPDX-License-Identifier: Apache-2.0
// What the 8-bit matrix product is given. Plain data, shared by code of every instruction set.
//
// Both operands come in quads of four neighbouring k: A as unsigned bytes, B as signed bytes. The
// other signs are had by flipping the top bit, which moves the zero point by 128.
#pragma once

#include <cstdint>

namespace bascule {

// C = A B modulo 2^32, for all columns of some panels. Row r of A: `quads` quads at
// a + r * a_stride. Panels of B: [quads][panel_width][4]; loads touch whole panels.
struct IntegerBlock {
  const uint8_t* a;
  int64_t a_stride;
  int64_t rows;  // at most tile_rows
  int64_t quads;
  const int8_t* b;
  int64_t b_panel_stride;
  int32_t* c;
  int64_t c_stride;
  int64_t columns;
};

// The sums of a row with zero points: c[j] += a_zero * (depth * b_zero[j] - column_sums[j])
// - b_zero[j] * row_sum + bias. b_zero may be null: all zero.
struct IntegerCorrection {
  int64_t depth;
  int32_t a_zero;
  const int32_t* column_sums;
  const int32_t* b_zero;
  int32_t row_sum;
  int32_t bias;
};

struct IntegerGemmFunctions {
  int64_t panel_width;
  int64_t tile_rows;
  void (*multiply)(const IntegerBlock& block);
  void (*correct)(int32_t* c, int64_t n, const IntegerCorrection& correction);
  // Four rows of up to panel_width bytes, each ^ flip, to quads of a panel, the missing columns
  // zero. Adds each column to column_sums.
  void (*interleave)(const uint8_t* const* rows, int64_t columns, uint8_t flip, int8_t* to,
                     int32_t* column_sums);
  // n bytes, each ^ flip, and zeros up to `padded`; the sum of the unsigned bytes.
  int32_t (*copy_row)(const uint8_t* from, int64_t n, int64_t padded, uint8_t flip, uint8_t* to);
};

}  // namespace bascule
