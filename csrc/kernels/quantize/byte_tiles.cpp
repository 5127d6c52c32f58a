// SPDX-License-Identifier: Apache-2.0
// instruction sets: avx512_amx
// Products of 8-bit integers by tile registers: of matrices, and of channels-last convolutions. The
// panels of weights, made for products of quads, lie as tiles want them.
#if defined(__AMX_INT8__)
#include "kernels/quantize/byte_tiles.h"

#include "kernels/quantize/integer_finish_lanes.h"
#include "simd/tile_config.h"

namespace bascule::BASCULE_ISA {
namespace {

constexpr int vectors = 2;
constexpr int panel_width = vectors * lanes;
constexpr int quad_row = panel_width * 4;  // bytes of a panel for each quad
constexpr int64_t longest = byte_tile_rows;

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

// 4 and 5 are rows of two runs, 6 and 7 weights. A step multiplies `quads` of each row.
void configure(int64_t first_rows, int64_t second_rows, int64_t quads) {
  TileConfig config;
  config.set(0, first_rows, 64);
  config.set(1, first_rows, 64);
  config.set(2, second_rows, 64);
  config.set(3, second_rows, 64);
  config.set(4, first_rows, quads * 4);
  config.set(5, second_rows, quads * 4);
  config.set(6, quads, 64);
  config.set(7, quads, 64);
  load_config(config);
}

// A step of two runs of rows with the panel at b.
BASCULE_INLINE void add_step(const uint8_t* first, const uint8_t* second, int64_t stride,
                             const int8_t* b) {
  _tile_loadd(4, first, stride);
  _tile_loadd(6, b, quad_row);
  _tile_loadd(7, b + 64, quad_row);
  _tile_loadd(5, second, stride);
  _tile_dpbusd(0, 4, 6);
  _tile_dpbusd(1, 4, 7);
  _tile_dpbusd(2, 5, 6);
  _tile_dpbusd(3, 5, 7);
}

}  // namespace

void run_byte_tile(const PixelTile& g, const IntegerFinish& finish) {
  const int64_t steps = (g.tap_quads + 15) / 16, quads = g.tap_quads / steps;
  configure(g.pixels, g.pixels, quads);
  alignas(64) Sums sums[2];
  const PixelTile::Run &first = g.runs[0], &second = g.runs[g.run_count - 1];
  const int64_t fetched = quads * g.next_step;
  const char* next = reinterpret_cast<const char*>(g.next);
  for (int64_t column = 0; column < g.columns; column += panel_width) {
    const int8_t* b = g.b + column / panel_width * g.b_panel_stride;
    clear_sums();
    for (int64_t tap = 0; tap < g.tap_count; ++tap) {
      const uint8_t *a0 = first.a + g.taps[tap], *a1 = second.a + g.taps[tap];
      for (int64_t s = 0; s < steps; ++s) {
        for (int64_t i = 0; i < fetched; i += 64) __builtin_prefetch(next + i, 0, 2);
        next += fetched;
        add_step(a0, a1, g.a_stride, b);
        a0 += quads * 4;
        a1 += quads * 4;
        b += quads * quad_row;
      }
    }
    store_sums(&sums[0][0][0], &sums[1][0][0], panel_width);
    finish_sums(g, finish, column, sums);
  }
  _tile_release();
}

void multiply_byte_block(const IntegerBlock& g) {
  const int64_t steps = (g.quads + 15) / 16, quads = g.quads / steps;
  // One run of rows is multiplied twice rather than once by nothing.
  const int64_t first = g.rows < longest ? g.rows : longest;
  const int64_t second = g.rows > longest ? g.rows - longest : first;
  const uint8_t* more = g.rows > longest ? g.a + longest * g.a_stride : g.a;
  configure(first, second, quads);
  alignas(64) Sums sums[2];
  for (int64_t column = 0; column < g.columns; column += panel_width) {
    const int8_t* b = g.b + column / panel_width * g.b_panel_stride;
    clear_sums();
    for (int64_t s = 0; s < steps; ++s, b += quads * quad_row) {
      add_step(g.a + s * quads * 4, more + s * quads * 4, g.a_stride, b);
    }
    store_sums(&sums[0][0][0], &sums[1][0][0], panel_width);
    for (int64_t r = 0; r < g.rows; ++r) {
      const int32_t* from = sums[r / longest][r % longest];
      int32_t* c = g.c + r * g.c_stride + column;
      for (int64_t v = 0; v < panel_width && column + v < g.columns; v += lanes) {
        store_narrow(c + v, load_int(from + v), g.columns - column - v);
      }
    }
  }
  _tile_release();
}

}  // namespace bascule::BASCULE_ISA
#endif
