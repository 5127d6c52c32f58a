// SPDX-License-Identifier: Apache-2.0
// Products of 8-bit integers by tile registers (AMX). Plain data and declarations, shared by code
// of every instruction set.
#pragma once

#include "kernels/quantize/integer_block.h"
#include "kernels/quantize/integer_pixels.h"

namespace bascule {

// Rows of a tile, at most.
inline constexpr int64_t byte_tile_rows = 16;

// Whether so many quads can be cut evenly into parts that fit a tile.
inline bool fits_byte_tiles(int64_t quads) {
  const int64_t steps = (quads + 15) / 16;
  return quads > 0 && quads % steps == 0;
}

namespace avx512_amx {
// As IntegerPixelFunctions::tile, with runs of up to byte_tile_rows, weights without zero points,
// and taps that fit.
void run_byte_tile(const PixelTile& tile, const IntegerFinish& finish);
// As IntegerGemmFunctions::multiply, with up to twice byte_tile_rows, and quads that fit.
void multiply_byte_block(const IntegerBlock& block);
}  // namespace avx512_amx

}  // namespace bascule
