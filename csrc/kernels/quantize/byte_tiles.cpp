// SPDX-License-Identifier: Apache-2.0
// instruction sets: avx512_amx
// Tiles of channels-last 8-bit convolutions by tile registers. The panels of weights, made for
// products of quads, lie as tiles want them.
#if defined(__AMX_INT8__)
#include "kernels/quantize/byte_tiles.h"

#include "kernels/quantize/integer_finish_lanes.h"

namespace bascule::BASCULE_ISA {
namespace {

constexpr int vectors = 2;
constexpr int panel_width = vectors * lanes;
constexpr int quad_row = panel_width * 4;  // bytes of a panel for each quad
constexpr int64_t longest = byte_tile_pixels;

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

// Sums of a run, [pixel][panel_width].
using Sums = int32_t[longest][panel_width];

// Whole panels of bytes to which no row is added.
template <Residual kind>
void finish_panel(const PixelTile& g, const IntegerFinish& finish, int64_t column,
                  const Sums* sums) {
  constexpr bool adds = kind != Residual::none;
  const AddNumbers add_residual(adds ? *finish.residual : ByteAddition{});
  for (int v = 0; v < vectors; ++v) {
    const int64_t first = column + v * lanes;
    const ToBytes to_bytes(finish, first);
    for (int64_t run = 0; run < g.run_count; ++run) {
      const PixelTile::Run& to = g.runs[run];
      for (int64_t r = to.skip; r < g.pixels; ++r) {
        const I32 sum = load_int(sums[run][r] + v * lanes);
        uint8_t* y = to.y + r * g.y_stride + first;
        if constexpr (adds) {
          const F32 other = load_numbers<kind>(to.residual + r * g.y_stride + first, lanes);
          store_narrow(y, to_nearest_int(add_residual(to_bytes.number(sum), other)), lanes);
        } else {
          store_narrow(y, to_bytes(sum), lanes);
        }
      }
    }
  }
}

void finish_sums(const PixelTile& g, const IntegerFinish& finish, int64_t column,
                 const Sums* sums) {
  if (finish.factors != nullptr && finish.row == nullptr && column + panel_width <= g.columns) {
    switch (residual_of(finish)) {
      case Residual::none:
        return finish_panel<Residual::none>(g, finish, column, sums);
      case Residual::of_unsigned:
        return finish_panel<Residual::of_unsigned>(g, finish, column, sums);
      case Residual::of_signed:
        return finish_panel<Residual::of_signed>(g, finish, column, sums);
    }
  }
  for (int64_t run = 0; run < g.run_count; ++run) {
    const PixelTile::Run& to = g.runs[run];
    for (int64_t r = to.skip; r < g.pixels; ++r) {
      const uint8_t* residual = to.residual == nullptr ? nullptr : to.residual + r * g.y_stride;
      for (int v = 0; v < vectors && column + v * lanes < g.columns; ++v) {
        const int64_t first = column + v * lanes;
        finish_any(finish, first, load_int(sums[run][r] + v * lanes), to.y + r * g.y_stride,
                   residual, g.columns - first);
      }
    }
  }
}

}  // namespace

void run_byte_tile(const PixelTile& g, const IntegerFinish& finish) {
  const int64_t steps = (g.tap_quads + 15) / 16, quads = g.tap_quads / steps;
  // 0 to 3: sums; 4, 5: pixels of the two runs; 6, 7: weights.
  TileConfig config;
  for (int tile = 0; tile < 4; ++tile) config.set(tile, g.pixels, 64);
  config.set(4, g.pixels, quads * 4);
  config.set(5, g.pixels, quads * 4);
  config.set(6, quads, 64);
  config.set(7, quads, 64);
  _tile_loadconfig(&config);
  alignas(64) Sums sums[2];
  const PixelTile::Run &first = g.runs[0], &second = g.runs[g.run_count - 1];
  const int64_t fetched = quads * g.next_step;
  const char* next = reinterpret_cast<const char*>(g.next);
  for (int64_t column = 0; column < g.columns; column += panel_width) {
    const int8_t* b = g.b + column / panel_width * g.b_panel_stride;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t tap = 0; tap < g.tap_count; ++tap) {
      const uint8_t *a0 = first.a + g.taps[tap], *a1 = second.a + g.taps[tap];
      for (int64_t s = 0; s < steps; ++s) {
        for (int64_t i = 0; i < fetched; i += 64) __builtin_prefetch(next + i, 0, 2);
        next += fetched;
        _tile_loadd(4, a0, static_cast<int>(g.a_stride));
        _tile_loadd(6, b, quad_row);
        _tile_loadd(7, b + 64, quad_row);
        _tile_loadd(5, a1, static_cast<int>(g.a_stride));
        _tile_dpbusd(0, 4, 6);
        _tile_dpbusd(1, 4, 7);
        _tile_dpbusd(2, 5, 6);
        _tile_dpbusd(3, 5, 7);
        a0 += quads * 4;
        a1 += quads * 4;
        b += quads * quad_row;
      }
    }
    constexpr int stride = panel_width * 4;
    _tile_stored(0, &sums[0][0][0], stride);
    _tile_stored(1, &sums[0][0][lanes], stride);
    _tile_stored(2, &sums[1][0][0], stride);
    _tile_stored(3, &sums[1][0][lanes], stride);
    finish_sums(g, finish, column, sums);
  }
  _tile_release();
}

}  // namespace bascule::BASCULE_ISA
#endif
