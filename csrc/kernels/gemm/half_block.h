// SPDX-License-Identifier: Apache-2.0
// What the matrix product kernels for 16-bit floats are given. Plain data, shared by code of every
// instruction set: no functions here.
#pragma once

#include <cstdint>

#include "kernels/gemm/block.h"

namespace bascule {

// C = epilogue(A B) for some rows and columns of a product: each sum is over k in rising order, and
// what the epilogue makes of it in float32 is rounded once.
//
// A, C and the residual are rows of float16 or bfloat16. B is in panels of as many columns as those
// of float32: of float16 row after row, of bfloat16 with each two rows of a panel interleaved, so
// that the elements k and k + 1 of a column are one word; behind an odd k stands zero.
struct HalfBlock {
  const uint16_t* a;
  int64_t a_stride;
  int64_t rows;
  int64_t k;

  const uint16_t* b;
  int64_t b_panel_stride;

  uint16_t* c;
  int64_t c_stride;
  int64_t columns;

  const uint16_t* residual;      // addressed like C, or null
  GemmEpilogue<float> epilogue;  // without a residual

  float* scratch;  // half_scratch() elements for this call alone
};

// What is worked on together, in elements: with these the floats of B and the sums stay in the
// second cache, those of a tile of A in the first.
inline constexpr int64_t half_row_block = 224;
inline constexpr int64_t half_k_block = 512;
inline constexpr int64_t half_b = 98304;
inline constexpr int64_t half_sums = 57344;
// The tallest tile, and the distance of its rows of A in scratch memory: not a multiple of what a
// cache has in sets.
inline constexpr int64_t half_tile_rows = 14;
inline constexpr int64_t half_a_stride = half_k_block + 16;
// The most rows that are widened as a whole.
inline constexpr int64_t half_few_rows = 6;

}  // namespace bascule
