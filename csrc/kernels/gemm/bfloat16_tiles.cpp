// SPDX-License-Identifier: Apache-2.0
// instruction sets: avx512_amx
// Products of bfloat16 by tile registers, which add the products of two neighbouring elements of K
// to a float32 sum. Panels, made for pairs, lie as tiles want them. Denormals count as zero.
#if defined(__AMX_BF16__)
#include "kernels/gemm/half_passes.h"
#include "simd/tile_config.h"

namespace bascule::BASCULE_ISA {
namespace {

constexpr int64_t step = 32;       // of k, that a tile holds
constexpr int64_t tile_rows = 16;  // and of rows of C; two tiles of each of A and B are in work
constexpr int64_t pair_row = 2 * width;  // elements of a panel for two k

struct Sums {
  alignas(64) float of_runs[2][tile_rows][width];
};

// The last elements of rows and columns, fewer than a step, and zeros.
struct Rest {
  alignas(64) uint16_t a[2][tile_rows][step];
  alignas(64) uint16_t b[step / 2][pair_row];
};

// Two runs of rows with a step of a panel.
BASCULE_INLINE void add_step(const uint16_t* first, const uint16_t* second, int64_t stride,
                             const uint16_t* b) {
  _tile_loadd(4, first, stride * 2);
  _tile_loadd(6, b, pair_row * 2);
  _tile_loadd(7, b + width, pair_row * 2);
  _tile_loadd(5, second, stride * 2);
  _tile_dpbf16ps(0, 4, 6);
  _tile_dpbf16ps(1, 4, 7);
  _tile_dpbf16ps(2, 5, 6);
  _tile_dpbf16ps(3, 5, 7);
}

void copy_rest(uint16_t (*to)[step], const uint16_t* from, int64_t stride, int64_t rows,
               int64_t count) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t i = 0; i < step; ++i) to[r][i] = i < count ? from[r * stride + i] : 0;
  }
}

}  // namespace

void multiply_bfloat16_tiles(const HalfBlock& g) {
  constexpr int64_t line = 64;
  const int64_t run_rows = least(g.rows, tile_rows), whole = g.k / step * step, rest = g.k - whole;
  const int64_t groups = parts_of(g.rows, 2 * tile_rows);
  TileConfig config;
  for (int tile = 0; tile < 8; ++tile) config.set(tile, tile < 6 ? run_rows : tile_rows, 64);
  load_config(config);
  Sums sums;
  Rest last;
  // Lines of the next panel that each step asks for.
  const int64_t panel_lines = parts_of(g.b_panel_stride * 2, line);
  const int64_t lines = parts_of(panel_lines, groups * (whole / step + 1));
  for (int64_t column = 0; column < g.columns; column += width) {
    const uint16_t* b = g.b + column / width * g.b_panel_stride;
    const char* next = reinterpret_cast<const char*>(b + g.b_panel_stride);
    // Those that read a panel once are at the mercy of memory anyway.
    const bool goes_on = groups > 1 && column + width < g.columns;
    if (rest > 0) {
      for (int64_t pair = 0; pair < step / 2; ++pair) {
        const bool exists = 2 * pair < rest;
        for (int64_t i = 0; i < pair_row; ++i) {
          last.b[pair][i] = exists ? b[(whole / 2 + pair) * pair_row + i] : 0;
        }
      }
    }
    for (int64_t row = 0; row < g.rows; row += 2 * tile_rows) {
      // A run that would go beyond the last row begins before, with rows that are done.
      const int64_t end = least(row + 2 * tile_rows, g.rows);
      const int64_t first = least(row, g.rows - run_rows);
      const int64_t second = end - run_rows > first ? end - run_rows : first;
      const uint16_t *a0 = g.a + first * g.a_stride, *a1 = g.a + second * g.a_stride;
      clear_sums();
      for (int64_t k = 0; k < whole; k += step) {
        if (goes_on) {
          for (int64_t i = 0; i < lines; ++i, next += line) __builtin_prefetch(next, 0, 2);
        }
        add_step(a0 + k, a1 + k, g.a_stride, b + k / 2 * pair_row);
      }
      if (rest > 0) {
        copy_rest(last.a[0], a0 + whole, g.a_stride, run_rows, rest);
        copy_rest(last.a[1], a1 + whole, g.a_stride, run_rows, rest);
        before_tile_loads();
        add_step(last.a[0][0], last.a[1][0], step, last.b[0]);
      }
      store_sums(&sums.of_runs[0][0][0], &sums.of_runs[1][0][0], width);
      const int64_t columns = least(width, g.columns - column);
      const int64_t between = least(first + run_rows, end);
      finish<BF16>(g, &sums.of_runs[0][row - first][0], width, row, between - row, column, columns);
      if (between < end) {
        finish<BF16>(g, &sums.of_runs[1][between - second][0], width, between, end - between,
                     column, columns);
      }
    }
  }
  _tile_release();
}

}  // namespace bascule::BASCULE_ISA
#endif
