// SPDX-License-Identifier: Apache-2.0
#include "kernels/quantize/integer_finish.h"

namespace bascule {
namespace {

// Tiles of rows, of even heights as far as that goes.
struct RowTiles {
  RowTiles(int64_t rows, int64_t most_rows)
      : rows(rows), pairs((rows + 1) / 2), count((rows + most_rows - 1) / most_rows) {}
  int64_t first(int64_t tile) const { return 2 * (pairs * tile / count); }
  int64_t last(int64_t tile) const { return std::min(rows, first(tile + 1)); }

  int64_t rows;
  int64_t pairs;
  int64_t count;
};

// Panels [panel, last_panel) of tiles [begin, end).
void multiply_tiles(const RowProduct& p, const IntegerFinish& finish, const RowTiles& tiles,
                    const PixelTiles& by, int64_t begin, int64_t end, int64_t panel,
                    int64_t last_panel, const FetchAhead& ahead) {
  constexpr int64_t no_offset = 0;
  const int64_t size = finish.factors != nullptr ? 1 : 4, width = integer_gemm().panel_width;
  const int64_t column = panel * width;
  PixelTile tile{};
  tile.a_stride = p.a_stride;
  tile.taps = &no_offset;
  tile.tap_count = 1;
  tile.tap_quads = quads_of(p.depth);
  tile.tap_bytes = p.depth;
  tile.b_panel_stride = panel_bytes(p.depth);
  tile.b = p.panels + panel * tile.b_panel_stride;
  tile.y_stride = p.columns * size;
  tile.columns = std::min(last_panel * width, p.columns) - column;
  const IntegerFinish f = at_channel(finish, column);
  for (int64_t i = begin; i < end; ++i) {
    const int64_t first = tiles.first(i), rows = tiles.last(i) - first;
    tile.run_count = std::min<int64_t>(rows, 2);
    tile.pixels = (rows + 1) / 2;
    for (int64_t j = 0; j < tile.run_count; ++j) {
      // Of an odd number the second run begins with the last row of the first.
      const int64_t row = first + j * (rows - tile.pixels),
                    at = row * tile.y_stride + column * size;
      tile.runs[j] = {p.a + row * p.a_stride, p.y + at,
                      p.residual != nullptr ? p.residual + at : nullptr, j * (rows & 1)};
    }
    ahead.set(tile, i - begin, end - begin);
    by.function(tile, f);
  }
}

}  // namespace

void multiply_rows(const RowProduct& p, const IntegerFinish& finish) {
  const PixelTiles by(quads_of(p.depth), finish);
  const RowTiles tiles(p.rows, 2 * by.longest_run);
  multiply_tiles(p, finish, tiles, by, 0, tiles.count, 0, panels_of(p.columns), {});
}

void multiply_rows(RunContext& c, const RowProduct& p, const IntegerFinish& finish) {
  if (p.rows * p.columns == 0) return;
  // Pieces: panels that stay in the second cache for all tiles, or a part of the tiles.
  constexpr int64_t cache_bytes = 128 * 1024;
  const int64_t threads = c.threads(), bytes = panel_bytes(p.depth), panels = panels_of(p.columns);
  const PixelTiles by(quads_of(p.depth), finish);
  const RowTiles tiles(p.rows, 2 * by.longest_run);
  int64_t chunks = (panels * bytes + cache_bytes - 1) / cache_bytes;
  if (chunks > 1) chunks = (chunks + threads - 1) / threads * threads;
  chunks = std::clamp<int64_t>(chunks, 1, panels);
  const int64_t blocks = chunks % threads == 0 ? 1 : std::min(threads, tiles.count);
  const int64_t pieces = chunks * blocks;
  const auto first_panel = [&](int64_t chunk) { return panels * chunk / chunks; };
  const double work = static_cast<double>(p.rows) *
                      static_cast<double>(quads_of(p.depth) * 4 * (p.columns + 16)) / 32;
  c.parallel_for(threads, work / static_cast<double>(threads), [&](int64_t begin, int64_t end) {
    const int64_t last = pieces * end / threads;
    for (int64_t piece = pieces * begin / threads; piece < last; ++piece) {
      const int64_t chunk = piece / blocks, block = piece % blocks;
      const int64_t panel = first_panel(chunk), last_panel = first_panel(chunk + 1);
      FetchAhead ahead;
      if (piece + 1 < last && (piece + 1) / blocks > chunk) {
        ahead = {p.panels + last_panel * bytes, (first_panel(chunk + 2) - last_panel) * bytes};
      }
      multiply_tiles(p, finish, tiles, by, tiles.count * block / blocks,
                     tiles.count * (block + 1) / blocks, panel, last_panel, ahead);
    }
  });
}

}  // namespace bascule
