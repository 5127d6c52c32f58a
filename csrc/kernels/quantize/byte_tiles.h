// SPDX-License-Identifier: Apache-2.0
// Tiles of channels-last 8-bit convolutions by tile registers (AMX). Plain data and declarations,
// shared by code of every instruction set.
#pragma once

#include "kernels/quantize/integer_pixels.h"

namespace bascule {

// Pixels of a run of such a tile, at most.
inline constexpr int64_t byte_tile_pixels = 16;

// Whether taps of so many quads can be cut evenly into parts that fit a tile.
inline bool fits_byte_tiles(int64_t tap_quads) {
  const int64_t steps = (tap_quads + 15) / 16;
  return tap_quads > 0 && tap_quads % steps == 0;
}

namespace avx512_amx {
// As IntegerPixelFunctions::tile, with runs of up to byte_tile_pixels, weights without zero points,
// and taps that fit.
void run_byte_tile(const PixelTile& tile, const IntegerFinish& finish);
}  // namespace avx512_amx

}  // namespace bascule
