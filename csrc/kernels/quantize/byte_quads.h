// SPDX-License-Identifier: Apache-2.0
// Products of quads: four neighbouring bytes in each 32-bit lane, without saturation.
#pragma once

#include "simd/vec.h"

namespace bascule::BASCULE_ISA {
namespace {

BASCULE_INLINE I32 load_int(const void* p) {
  I32 v;
  __builtin_memcpy(&v, p, sizeof(v));
  return v;
}
BASCULE_INLINE void store_int(void* p, I32 v) { __builtin_memcpy(p, &v, sizeof(v)); }

// Quads of unsigned bytes, and their products with quads of signed ones. Without an instruction for
// bytes the even and the odd ones are widened to 16 bits; sums of two products fit 32 bits.
#if defined(__AVX512VNNI__)
struct Quad {
  __m512i bytes;
};
BASCULE_INLINE Quad broadcast_quad(int32_t quad) { return {_mm512_set1_epi32(quad)}; }
BASCULE_INLINE I32 multiply_add(const Quad& a, const Quad& b, I32 sum) {
  return reinterpret_cast<I32>(
      _mm512_dpbusd_epi32(reinterpret_cast<__m512i>(sum), a.bytes, b.bytes));
}
BASCULE_INLINE Quad as_quads(I32 v) { return {reinterpret_cast<__m512i>(v)}; }
BASCULE_INLINE Quad as_unsigned_quads(I32 v) { return as_quads(v); }
#else
typedef int16_t I16 __attribute__((vector_size(vector_bytes)));
typedef uint16_t U16All __attribute__((vector_size(vector_bytes)));
struct Quad {
  I16 even;
  I16 odd;
};
BASCULE_INLINE Quad broadcast_quad(int32_t quad) {
  return {reinterpret_cast<I16>(set_int(quad & 0x00ff00ff)),
          reinterpret_cast<I16>(
              set_int(static_cast<int32_t>((static_cast<uint32_t>(quad) >> 8) & 0x00ff00ffu)))};
}
BASCULE_INLINE Quad as_unsigned_quads(I32 v) {
  return {reinterpret_cast<I16>(v & 0x00ff00ff), reinterpret_cast<I16>((v >> 8) & 0x00ff00ff)};
}
BASCULE_INLINE Quad as_quads(I32 quads) {
  const I16 v = reinterpret_cast<I16>(quads);
  return {reinterpret_cast<I16>(reinterpret_cast<U16All>(v) << 8) >> 8, v >> 8};
}
BASCULE_INLINE I32 multiply_pairs(I16 a, I16 b) {
#if defined(__AVX512F__)
  return reinterpret_cast<I32>(
      _mm512_madd_epi16(reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b)));
#elif defined(__AVX2__)
  return reinterpret_cast<I32>(
      _mm256_madd_epi16(reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(b)));
#elif defined(__SSE2__)
  return reinterpret_cast<I32>(
      _mm_madd_epi16(reinterpret_cast<__m128i>(a), reinterpret_cast<__m128i>(b)));
#else
  const I32 x = reinterpret_cast<I32>(a), y = reinterpret_cast<I32>(b);
  return ((x << 16) >> 16) * ((y << 16) >> 16) + (x >> 16) * (y >> 16);
#endif
}
BASCULE_INLINE I32 multiply_add(const Quad& a, const Quad& b, I32 sum) {
  return sum + multiply_pairs(a.even, b.even) + multiply_pairs(a.odd, b.odd);
}
#endif

BASCULE_INLINE Quad load_quads(const int8_t* p) { return as_quads(load_int(p)); }

}  // namespace
}  // namespace bascule::BASCULE_ISA
