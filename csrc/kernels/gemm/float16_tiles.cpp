// SPDX-License-Identifier: Apache-2.0
// instruction sets: avx512_amx
// Products of float16 by tile registers of bfloat16: each number is the sum of two of them, and all
// four products are added up in float32. What is not finite has no such parts: rows and panels with
// it are left to others.
#if defined(__AMX_BF16__)
#include "kernels/gemm/half_passes.h"
#include "kernels/gemm/split.h"
#include "simd/tiles.h"

namespace bascule::BASCULE_ISA {
namespace {

constexpr int64_t step_bytes = 4 * tile_bytes;  // two parts
// Of the parts of rows, which stay in the second cache.
constexpr int64_t most_bytes = int64_t{1} << 20;

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
  split_rows(
      k, step_bytes, to,
      [&](int64_t row, int64_t half)
          __attribute__((always_inline)) { return widened(from + row * width + half * 16); },
      [&](__m512 x, __m512 y, uint8_t* at)
          __attribute__((always_inline)) { store_both(x, y, at, seen, pairs); });
  return is_number(seen);
}

void add_products(const uint8_t* a, const uint8_t* b, int64_t steps, float* sums) {
  before_tile_loads();
  clear_sums();
  for (int64_t s = 0; s < steps; ++s, a += step_bytes, b += step_bytes) {
    // The smallest products first; from each to the next one factor changes.
    load_a(a, 1);
    load_b(b, 1);
    add_parts();
    load_b(b, 0);
    add_parts();
    load_a(a, 0);
    add_parts();
    load_b(b, 1);
    add_parts();
  }
  store_sums(sums, sums + 16 * width, width);
}

// Whether all numbers are finite.
bool run(const HalfBlock& g, uint8_t* a, uint8_t* b, float* sums, int64_t most_rows) {
  const int64_t steps = parts_of(g.k, step);
  bool is_finite = true;
  for (int64_t row = 0; row < g.rows; row += most_rows) {
    const int64_t rows = least(most_rows, g.rows - row);
    for (int64_t r = 0; r < rows; ++r) {
      uint8_t* to =
          a + r / group_rows * steps * step_bytes + r % group_rows / 16 * tile_bytes + r % 16 * 64;
      is_finite &= split_row(g.a + (row + r) * g.a_stride, g.k, to);
    }
    for (int64_t column = 0; column < g.columns; column += width) {
      is_finite &= split_panel(g.b + column / width * g.b_panel_stride, g.k, b);
      for (int64_t r = 0; r < rows; r += group_rows) {
        add_products(a + r / group_rows * steps * step_bytes, b, steps, sums);
        finish<F16>(g, sums, width, row + r, least(group_rows, rows - r), column,
                    least(width, g.columns - column));
      }
    }
  }
  return is_finite;
}

}  // namespace

// Computes a block. Returns false if a number may not be finite: then rows and panels with such a
// number are to be computed anew.
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
  const bool is_finite =
      run(g, space, b, reinterpret_cast<float*>(b + of_group), groups * group_rows);
  _tile_release();
  return is_finite;
}

}  // namespace bascule::BASCULE_ISA
#endif
