// SPDX-License-Identifier: Apache-2.0
// Numbers as sums of bfloat16, and products of tiles of such parts. Included by sources that are
// compiled for AMX.
#pragma once

#include "simd/tile_config.h"
#include "simd/vec.h"

namespace bascule::BASCULE_ISA {
namespace {

// The upper 8 bits of a mantissa, as a number, and what is left.
struct Split {
  __m512 high, rest;
};
BASCULE_INLINE Split split(__m512 x) {
  const __m512 high = _mm512_castsi512_ps(
      _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
  return {high, _mm512_sub_ps(x, high)};
}

// Pairs of two vectors as bfloat16: of B, k and k + 1 of each column.
BASCULE_INLINE __m512i pairs(__m512 low, __m512 high) {
  return _mm512_mask_blend_epi16(0xaaaaaaaau, _mm512_srli_epi32(_mm512_castps_si512(low), 16),
                                 _mm512_castps_si512(high));
}
// Those of A: neighbours of a row.
BASCULE_INLINE __m512i neighbours(__m512 first, __m512 second) {
  alignas(64) static constexpr uint16_t odd[32] = {1,  3,  5,  7,  9,  11, 13, 15, 17, 19, 21,
                                                   23, 25, 27, 29, 31, 33, 35, 37, 39, 41, 43,
                                                   45, 47, 49, 51, 53, 55, 57, 59, 61, 63};
  return _mm512_permutex2var_epi16(_mm512_castps_si512(first), _mm512_load_si512(odd),
                                   _mm512_castps_si512(second));
}

BASCULE_INLINE bool is_number(__m512 x) { return _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q) == 0; }

constexpr int64_t step = 32;          // of k, that a tile holds
constexpr int64_t group_rows = 32;    // of C, that are worked on at once: two tiles of each of A, B
constexpr int64_t tile_bytes = 1024;  // the parts of a step lie as tiles [part][half]

// A panel of k rows, and zeros up to whole steps, in parts. `load(row, half)` is half a row, and
// `store(x, y, to)` stores the parts of two rows.
template <class Load, class Store>
BASCULE_INLINE void split_rows(int64_t k, int64_t step_bytes, uint8_t* to, Load&& load,
                               Store&& store) {
  for (int64_t i = 0; i < k; i += step, to += step_bytes) {
    for (int64_t pair = 0; pair < step / 2; ++pair) {
      const int64_t row = i + 2 * pair;
      for (int64_t half = 0; half < 2; ++half) {
        const __m512 x = row < k ? load(row, half) : _mm512_setzero_ps();
        const __m512 y = row + 1 < k ? load(row + 1, half) : _mm512_setzero_ps();
        store(x, y, to + half * tile_bytes + pair * 64);
      }
    }
  }
}

// Tiles 4 and 5 are a part of A, 6 and 7 one of B.
BASCULE_INLINE void load_sums(const float* first, const float* second, int64_t stride) {
  _tile_loadd(0, first, stride * 4);
  _tile_loadd(1, first + 16, stride * 4);
  _tile_loadd(2, second, stride * 4);
  _tile_loadd(3, second + 16, stride * 4);
}
BASCULE_INLINE void load_a(const uint8_t* from, int64_t part) {
  _tile_loadd(4, from + part * 2 * tile_bytes, 64);
  _tile_loadd(5, from + (part * 2 + 1) * tile_bytes, 64);
}
BASCULE_INLINE void load_b(const uint8_t* from, int64_t part) {
  _tile_loadd(6, from + part * 2 * tile_bytes, 64);
  _tile_loadd(7, from + (part * 2 + 1) * tile_bytes, 64);
}
BASCULE_INLINE void add_parts() {
  _tile_dpbf16ps(0, 4, 6);
  _tile_dpbf16ps(1, 4, 7);
  _tile_dpbf16ps(2, 5, 6);
  _tile_dpbf16ps(3, 5, 7);
}

}  // namespace
}  // namespace bascule::BASCULE_ISA
