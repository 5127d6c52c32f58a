// SPDX-License-Identifier: Apache-2.0
// Which function computes tiles of pixels: by tile registers where they can do it, which changes no
// sum.
#pragma once

#include "kernels/quantize/integer_pixels.h"

namespace bascule {

struct PixelTiles {
  // For taps of so many quads.
  PixelTiles(int64_t tap_quads, const IntegerFinish& finish);

  void (*function)(const PixelTile& tile, const IntegerFinish& finish);
  int64_t longest_run;
};

}  // namespace bascule
