// SPDX-License-Identifier: Apache-2.0
// instruction sets: avx512_amx
// Products of float16 by tile registers of bfloat16: each number is the sum of two of them, and all
// four products are added up in float32. What is not finite has no such parts: a product with it is
// left to others.
#if defined(__AMX_BF16__)
#include "kernels/gemm/half_passes.h"
#include "kernels/gemm/split.h"
#include "simd/tiles.h"

namespace bascule::BASCULE_ISA {
namespace {

constexpr int64_t step = 32;        // of k, that a tile holds
constexpr int64_t group_rows = 32;  // of C, that are worked on at once: two tiles of each of A, B
constexpr int64_t tile_bytes = 1024, step_bytes = 4 * tile_bytes;
constexpr int64_t most_bytes = int64_t{1}
                               << 20;  // of parts of rows, which stay in the second cache

BASCULE_INLINE __m512 widened(const uint16_t* from) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
}

// Stores the parts of two vectors. The last part of what is not finite is NaN, and stays in `seen`.
template <class Join>
BASCULE_INLINE void store_both(__m512 x, __m512 y, uint8_t* to, __m512& seen, Join&& join) {
  const Split x0 = split(x), y0 = split(y);
  _mm512_store_si512(to, join(x0.high, y0.high));
  _mm512_store_si512(to + 2 * tile_bytes, join(x0.rest, y0.rest));
  seen = _mm512_fmadd_ps(x0.rest, y0.rest, seen);
}

// A row of A, and zeros up to whole steps; true if all of it is finite.
bool split_row(const uint16_t* from, int64_t k, uint8_t* to) {
  __m512 seen = _mm512_setzero_ps();
  for (int64_t i = 0; i < k; i += step, to += step_bytes) {
    alignas(64) uint16_t rest[step] = {};
    const uint16_t* at = from + i;
    if (k - i < step) {
      __builtin_memcpy(rest, at, static_cast<size_t>(k - i) * 2);
      at = rest;
    }
    store_both(widened(at), widened(at + 16), to, seen, neighbours);
  }
  return is_number(seen);
}

// A panel, and zeros up to whole steps.
bool split_panel(const uint16_t* from, int64_t k, uint8_t* to) {
  __m512 seen = _mm512_setzero_ps();
  for (int64_t i = 0; i < k; i += step, to += step_bytes) {
    for (int64_t pair = 0; pair < step / 2; ++pair) {
      const int64_t row = i + 2 * pair;
      for (int64_t half = 0; half < 2; ++half) {
        const uint16_t* at = from + row * width + half * 16;
        const __m512 x = row < k ? widened(at) : _mm512_setzero_ps();
        const __m512 y = row + 1 < k ? widened(at + width) : _mm512_setzero_ps();
        store_both(x, y, to + half * tile_bytes + pair * 64, seen, pairs);
      }
    }
  }
  return is_number(seen);
}

void add_products(const uint8_t* a, const uint8_t* b, int64_t steps, float* sums) {
  before_tile_loads();
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t s = 0; s < steps; ++s, a += step_bytes, b += step_bytes) {
    // The smallest products first; from each to the next one factor changes.
    BASCULE_LOAD_TWO(4, 5, a, 1);
    BASCULE_LOAD_TWO(6, 7, b, 1);
    BASCULE_DOT_ALL();
    BASCULE_LOAD_TWO(6, 7, b, 0);
    BASCULE_DOT_ALL();
    BASCULE_LOAD_TWO(4, 5, a, 0);
    BASCULE_DOT_ALL();
    BASCULE_LOAD_TWO(6, 7, b, 1);
    BASCULE_DOT_ALL();
  }
  constexpr int stride = width * sizeof(float);
  _tile_stored(0, sums, stride);
  _tile_stored(1, sums + lanes, stride);
  _tile_stored(2, sums + 16 * width, stride);
  _tile_stored(3, sums + 16 * width + lanes, stride);
}

bool run(const HalfBlock& g, uint8_t* a, uint8_t* b, float* sums, int64_t most_rows) {
  const int64_t steps = parts_of(g.k, step);
  for (int64_t row = 0; row < g.rows; row += most_rows) {
    const int64_t rows = least(most_rows, g.rows - row);
    for (int64_t r = 0; r < rows; ++r) {
      uint8_t* to =
          a + r / group_rows * steps * step_bytes + r % group_rows / 16 * tile_bytes + r % 16 * 64;
      if (!split_row(g.a + (row + r) * g.a_stride, g.k, to)) return false;
    }
    for (int64_t column = 0; column < g.columns; column += width) {
      if (!split_panel(g.b + column / width * g.b_panel_stride, g.k, b)) return false;
      for (int64_t r = 0; r < rows; r += group_rows) {
        add_products(a + r / group_rows * steps * step_bytes, b, steps, sums);
        finish<F16>(g, sums, width, row + r, least(group_rows, rows - r), column,
                    least(width, g.columns - column));
      }
    }
  }
  return true;
}

}  // namespace

// Computes a block, or returns false and leaves what it will in C.
bool multiply_float16_tiles(const HalfBlock& g) {
  const int64_t of_group = parts_of(g.k, step) * step_bytes;
  const int64_t groups = most_bytes / of_group < 1 ? 1 : most_bytes / of_group;
  const int64_t a_bytes = least(groups, parts_of(g.rows, group_rows)) * of_group;
  constexpr int64_t sums_bytes = group_rows * width * 4;
  auto* space =
      static_cast<uint8_t*>(tile_space(static_cast<size_t>(a_bytes + of_group + sums_bytes)));
  TileConfig config;
  for (int tile = 0; tile < 8; ++tile) config.set(tile, 16, 64);
  load_config(config);
  uint8_t* b = space + a_bytes;
  const bool done = run(g, space, b, reinterpret_cast<float*>(b + of_group), groups * group_rows);
  _tile_release();
  return done;
}

}  // namespace bascule::BASCULE_ISA
#endif
