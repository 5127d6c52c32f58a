// SPDX-License-Identifier: Apache-2.0
// Loads and stores of 16-bit floats as vectors of 32-bit floats. Widening is exact; narrowing
// rounds to nearest, ties to even.
#pragma once

#include "simd/vec.h"

namespace bascule::BASCULE_ISA {
namespace {

typedef uint16_t U16 __attribute__((vector_size(vector_bytes / 2)));  // as many lanes as F32

// The first `count` lanes (0 < count <= lanes); the others read as zero / are not written.
BASCULE_INLINE U16 load_u16(const uint16_t* p, int64_t count) {
  U16 v = {};
  if (count >= lanes) {
    __builtin_memcpy(&v, p, sizeof(v));
  } else {
    for (int64_t i = 0; i < count; ++i) v[i] = p[i];
  }
  return v;
}
BASCULE_INLINE void store_u16(uint16_t* p, U16 v, int64_t count) {
  if (count >= lanes) {
    __builtin_memcpy(p, &v, sizeof(v));
  } else {
    for (int64_t i = 0; i < count; ++i) p[i] = v[i];
  }
}

BASCULE_INLINE F32 widen_bf16(U16 v) {
  return reinterpret_cast<F32>(__builtin_convertvector(v, U32) << 16);
}
BASCULE_INLINE U16 narrow_bf16(F32 v) {
  const U32 word = reinterpret_cast<U32>(v);
  const U32 rounded = (word + 0x7fffu + ((word >> 16) & 1u)) >> 16;
  const U32 nan = (word >> 16) | 0x40u;
  return __builtin_convertvector(v != v ? nan : rounded, U16);
}

BASCULE_INLINE F32 widen_f16(U16 v) {
#if defined(__AVX512F__)
  return reinterpret_cast<F32>(_mm512_cvtph_ps(reinterpret_cast<__m256i>(v)));
#elif defined(__F16C__)
  return reinterpret_cast<F32>(_mm256_cvtph_ps(reinterpret_cast<__m128i>(v)));
#else
  const U32 word = __builtin_convertvector(v, U32);
  const U32 sign = (word & 0x8000u) << 16;
  const U32 magnitude = word & 0x7fffu;
  const U32 normal = (magnitude << 13) + 0x38000000u;
  const U32 special = (magnitude << 13) | 0x7f800000u;
  const U32 subnormal =
      reinterpret_cast<U32>(to_float(reinterpret_cast<I32>(magnitude)) * 0x1p-24f);
  const U32 finite = magnitude < 0x400u ? subnormal : normal;
  return reinterpret_cast<F32>(sign | (magnitude >= 0x7c00u ? special : finite));
#endif
}
BASCULE_INLINE U16 narrow_f16(F32 v) {
#if defined(__AVX512F__)
  return reinterpret_cast<U16>(
      _mm512_cvtps_ph(reinterpret_cast<__m512>(v), _MM_FROUND_TO_NEAREST_INT));
#elif defined(__F16C__)
  return reinterpret_cast<U16>(
      _mm256_cvtps_ph(reinterpret_cast<__m256>(v), _MM_FROUND_TO_NEAREST_INT));
#else
  const U32 word = reinterpret_cast<U32>(v);
  const U32 sign = (word >> 16) & 0x8000u;
  const U32 magnitude = word & 0x7fffffffu;
  const U32 nan = ((magnitude >> 13) & 0x3ffu) | 0x7e00u;
  // Adding 0.5 leaves the bits of a subnormal, rounded, at the end of the sum.
  const U32 subnormal =
      reinterpret_cast<U32>(reinterpret_cast<F32>(magnitude) + 0.5f) - 0x3f000000u;
  const U32 normal = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  const U32 infinite = U32{} + 0x7c00u;
  U32 result = magnitude < 0x38800000u ? subnormal : normal;
  result = magnitude >= 0x477ff000u ? infinite : result;
  result = magnitude > 0x7f800000u ? nan : result;
  return __builtin_convertvector(sign | result, U16);
#endif
}

}  // namespace
}  // namespace bascule::BASCULE_ISA
