// SPDX-License-Identifier: Apache-2.0
// What the matrix product kernels for 16-bit floats are given. Plain data, shared by code of every
// instruction set: no functions here.
#pragma once

#include <cstdint>

#include "kernels/gemm/block.h"

namespace bascule {

// C = epilogue(A B) for some rows and columns of a product, with float32 sums, each over k in
// rising order, and one rounding of each result.
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

  float* scratch;  // half_scratch(rows, k) elements for this call alone
};

// Rows of A that are taken together, and elements of each.
inline constexpr int64_t half_row_block = 140;
inline constexpr int64_t half_k_block = 512;
// Sums of C that are worked on over all of K before the next ones: they stay in the second cache.
inline constexpr int64_t half_sums = 57344;
// The widest panel.
inline constexpr int64_t half_panel = 32;
// At the end of a row of A in scratch memory, so that rows do not share one set of the first cache.
inline constexpr int64_t half_pad = 16;

constexpr int64_t half_scratch(int64_t rows, int64_t k) {
  const int64_t block = half_row_block * (half_k_block + half_pad);
  const int64_t few = 6 * (k + half_pad);
  return (rows > 6 || few < block ? block : few) + half_sums + half_panel * half_row_block +
         half_panel * (half_k_block + half_row_block);
}

}  // namespace bascule
