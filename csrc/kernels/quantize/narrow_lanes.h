// SPDX-License-Identifier: Apache-2.0
// Loads and stores of 8-bit and 16-bit integers as vectors of 32-bit integers.
#pragma once

#include "simd/vec.h"

namespace bascule::BASCULE_ISA {
namespace {

template <class T>
struct NarrowLanes {
  typedef T Vector __attribute__((vector_size(lanes * sizeof(T))));
};

// Compilers convert by more than a factor of two lane by lane, so x86 has its instructions named.
BASCULE_INLINE I32 widen(NarrowLanes<uint8_t>::Vector v) {
#if defined(__AVX512F__)
  return reinterpret_cast<I32>(_mm512_cvtepu8_epi32(reinterpret_cast<__m128i>(v)));
#elif defined(__AVX2__)
  __m128i bytes = _mm_setzero_si128();
  __builtin_memcpy(&bytes, &v, sizeof(v));
  return reinterpret_cast<I32>(_mm256_cvtepu8_epi32(bytes));
#elif defined(__SSE4_1__)
  int32_t bytes;
  __builtin_memcpy(&bytes, &v, sizeof(v));
  return reinterpret_cast<I32>(_mm_cvtepu8_epi32(_mm_cvtsi32_si128(bytes)));
#else
  return __builtin_convertvector(v, I32);
#endif
}
BASCULE_INLINE I32 widen(NarrowLanes<int8_t>::Vector v) {
#if defined(__SSE4_1__)
  const I32 word = widen(reinterpret_cast<NarrowLanes<uint8_t>::Vector>(v));
  return (word << 24) >> 24;
#else
  return __builtin_convertvector(v, I32);
#endif
}
BASCULE_INLINE I32 widen(NarrowLanes<uint16_t>::Vector v) {
  return __builtin_convertvector(v, I32);
}
BASCULE_INLINE I32 widen(NarrowLanes<int16_t>::Vector v) { return __builtin_convertvector(v, I32); }
BASCULE_INLINE I32 widen(I32 v) { return v; }

// The first `count` lanes (0 < count <= lanes); the others read as zero / are not written.
template <class T>
BASCULE_INLINE I32 load_narrow(const T* p, int64_t count) {
  typename NarrowLanes<T>::Vector v = {};
  if (count >= lanes) {
    __builtin_memcpy(&v, p, sizeof(v));
  } else {
    for (int64_t i = 0; i < count; ++i) v[i] = p[i];
  }
  return widen(v);
}

// The low bits of each lane.
template <class T>
BASCULE_INLINE typename NarrowLanes<T>::Vector narrow(I32 value) {
#if defined(__SSE4_1__) && !defined(__AVX512F__)
  if constexpr (sizeof(T) == 1) {
    typename NarrowLanes<T>::Vector v;
    const __m128i first =
        _mm_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1);
#if defined(__AVX2__)
    const __m256i all = reinterpret_cast<__m256i>(value);
    const __m128i low = _mm_shuffle_epi8(_mm256_castsi256_si128(all), first);
    const __m128i high = _mm_shuffle_epi8(_mm256_extracti128_si256(all, 1), first);
    const __m128i bytes = _mm_unpacklo_epi32(low, high);
#else
    const __m128i bytes = _mm_shuffle_epi8(reinterpret_cast<__m128i>(value), first);
#endif
    __builtin_memcpy(&v, &bytes, sizeof(v));
    return v;
  }
#endif
  return __builtin_convertvector(value, typename NarrowLanes<T>::Vector);
}

// Keeps the low bits of each lane.
template <class T>
BASCULE_INLINE void store_narrow(T* p, I32 value, int64_t count) {
  const auto v = narrow<T>(value);
  if (count >= lanes) {
    __builtin_memcpy(p, &v, sizeof(v));
  } else {
    for (int64_t i = 0; i < count; ++i) p[i] = v[i];
  }
}

// Nearest, ties to even.
BASCULE_INLINE I32 to_nearest_int(F32 v) {
#if defined(__AVX512F__)
  return reinterpret_cast<I32>(_mm512_cvtps_epi32(reinterpret_cast<__m512>(v)));
#elif defined(__AVX2__)
  return reinterpret_cast<I32>(_mm256_cvtps_epi32(reinterpret_cast<__m256>(v)));
#else
  return to_int(round(v));
#endif
}

}  // namespace
}  // namespace bascule::BASCULE_ISA
