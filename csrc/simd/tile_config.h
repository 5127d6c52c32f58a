// SPDX-License-Identifier: Apache-2.0
// How tile registers are set up and their sums are kept. Included by sources that are compiled for
// AMX.
#pragma once

#include <cstdint>

#include "simd/vec.h"

namespace bascule::BASCULE_ISA {
namespace {

struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};

  void set(int tile, int64_t count, int64_t bytes) {
    rows[tile] = static_cast<uint8_t>(count);
    row_bytes[tile] = static_cast<uint16_t>(bytes);
  }
};
static_assert(sizeof(TileConfig) == 64);

// The intrinsic tells the compiler of the first bytes alone.
BASCULE_INLINE void load_config(const TileConfig& config) {
  __asm__ volatile("ldtilecfg %0" : : "m"(config) : "memory");
}

// What is written before is in memory for loads of tiles, of which the compiler does not know.
BASCULE_INLINE void before_tile_loads() { __asm__ volatile("" : : : "memory"); }

// Tiles 0 to 3 are sums of 32 bits: 0 and 1 of some rows, 2 and 3 of some others, with 16 columns
// each.
BASCULE_INLINE void clear_sums() {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
}
template <class T>
BASCULE_INLINE void store_sums(T* first, T* second, int64_t stride) {
  constexpr int64_t columns = 16, size = sizeof(T);
  static_assert(size == 4);
  _tile_stored(0, first, stride * size);
  _tile_stored(1, first + columns, stride * size);
  _tile_stored(2, second, stride * size);
  _tile_stored(3, second + columns, stride * size);
}

}  // namespace
}  // namespace bascule::BASCULE_ISA
