// SPDX-License-Identifier: Apache-2.0
// Panels of weights of few bits in vectors: how wide they are, and their scales and zero points.
// Included by sources that are compiled per instruction set.
#pragma once

#include "kernels/quantize/narrow_lanes.h"
#include "kernels/quantize/nbits_panels.h"
#include "simd/half.h"
#include "simd/vec.h"

namespace bascule::BASCULE_ISA {
namespace {

// A panel is as wide as the registers allow for one row, so that its words are one stream with long
// steps; enough sums also hide the latency of the additions.
#if defined(__AVX512F__)
constexpr int panel_vectors = 8;
#else
constexpr int panel_vectors = 4;
#endif
constexpr int panel_width = panel_vectors * lanes;

// Words and blocks that are fetched ahead.
constexpr int64_t words_ahead = 16;
constexpr int64_t blocks_ahead = 4;

BASCULE_INLINE F32 load_numbers(const void* from, NBitsNumber type, int64_t index) {
  switch (type) {
    case NBitsNumber::f32:
      return load(static_cast<const float*>(from) + index);
    case NBitsNumber::f16:
      return widen_f16(load_u16(static_cast<const uint16_t*>(from) + index, lanes));
    case NBitsNumber::bf16:
      return widen_bf16(load_u16(static_cast<const uint16_t*>(from) + index, lanes));
    case NBitsNumber::u8:
      break;
  }
  return to_float(load_narrow(static_cast<const uint8_t*>(from) + index, lanes));
}

#if defined(__AVX512F__)
// For products of split rows.
BASCULE_INLINE U32 load_words(const uint32_t* from) {
  U32 words;
  __builtin_memcpy(&words, from, sizeof(words));
  return words;
}

// Four weights of each word: the `quad`th of each of its bytes.
template <int bits>
BASCULE_INLINE __m512i bytes_of(U32 words, int quad) {
  constexpr int32_t mask = bits == 8 ? -1 : bits == 4 ? 0x0f0f0f0f : 0x03030303;
  return reinterpret_cast<__m512i>((words >> (bits * quad)) & mask);
}

// total + (65536 p0 + 256 p1 + p2) * (factor * scale)
BASCULE_INLINE F32 add_span(__m512i p0, __m512i p1, __m512i p2, F32 scale, float factor,
                            F32 total) {
  const auto number = [](__m512i sum) __attribute__((always_inline)) {
    return to_float(reinterpret_cast<I32>(sum));
  };
  const F32 sum = fma(number(p0), set(65536), fma(number(p1), set(256), number(p2)));
  return fma(sum, scale * set(factor), total);
}

BASCULE_INLINE void store_columns(const NBitsSplitRows& g, int64_t row, int64_t vector, F32 y) {
  const int64_t column = vector * lanes, columns = g.columns - column;
  if (columns <= 0) return;
  if (g.bias != nullptr) y = y + load(g.bias + column, columns, 0);
  store(g.c + row * g.c_stride + column, y, columns);
}
#endif

BASCULE_INLINE void prefetch_numbers(const void* from, NBitsNumber type, int64_t index) {
  const int64_t size = type == NBitsNumber::f32 ? 4 : type == NBitsNumber::u8 ? 1 : 2;
  __builtin_prefetch(static_cast<const char*>(from) + index * size);
}

}  // namespace
}  // namespace bascule::BASCULE_ISA
