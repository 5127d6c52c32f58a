// SPDX-License-Identifier: Apache-2.0
#include "kernels/quantize/pixel_tiles.h"

#include "kernels/quantize/byte_tiles.h"
#include "simd/tiles.h"

namespace bascule {

PixelTiles::PixelTiles([[maybe_unused]] int64_t tap_quads,
                       [[maybe_unused]] const IntegerFinish& finish)
    : function(integer_pixels().tile), longest_run(PixelTile::longest_run) {
#if BASCULE_WITH_AVX512_AMX
  if (has_byte_tiles() && fits_byte_tiles(tap_quads) && finish.weight_zero == nullptr) {
    function = avx512_amx::run_byte_tile;
    longest_run = byte_tile_rows;
  }
#endif
}

}  // namespace bascule
