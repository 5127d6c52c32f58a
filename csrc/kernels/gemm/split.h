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

// Tiles 0 to 3 are sums, 4 and 5 parts of A, 6 and 7 of B.
#define BASCULE_DOT_ALL()  \
  _tile_dpbf16ps(0, 4, 6); \
  _tile_dpbf16ps(1, 4, 7); \
  _tile_dpbf16ps(2, 5, 6); \
  _tile_dpbf16ps(3, 5, 7)
#define BASCULE_LOAD_TWO(first, second, from, part)         \
  _tile_loadd(first, (from) + (part) * 2 * tile_bytes, 64); \
  _tile_loadd(second, (from) + ((part) * 2 + 1) * tile_bytes, 64)

}  // namespace
}  // namespace bascule::BASCULE_ISA
