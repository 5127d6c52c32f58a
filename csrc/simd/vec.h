// SPDX-License-Identifier: Apache-2.0
// The vector wrapper that hot loops are written in. One source, compiled per instruction set: code
// is written for `F32::width` lanes, whatever that is.
//
// Everything here is in namespace bascule::BASCULE_ISA and static, so nothing is shared between
// instruction sets. No standard library header may be used where this one is.
#pragma once

#include <cstdint>

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#ifndef BASCULE_ISA
#error "this file is for sources that are compiled per instruction set"
#endif

#define BASCULE_INLINE static inline __attribute__((always_inline))

namespace bascule::BASCULE_ISA {

#if defined(__AVX512F__)
inline constexpr int vector_bytes = 64;
#elif defined(__AVX2__)
inline constexpr int vector_bytes = 32;
#else
inline constexpr int vector_bytes = 16;
#endif

namespace {

// Native vectors: + - * / and comparisons work lane by lane; `mask ? a : b` selects.
typedef float F32 __attribute__((vector_size(vector_bytes)));
typedef int32_t I32 __attribute__((vector_size(vector_bytes)));
typedef uint32_t U32 __attribute__((vector_size(vector_bytes)));

constexpr int lanes = vector_bytes / 4;
constexpr float infinity = __builtin_inff();

BASCULE_INLINE F32 set(float x) { return x - F32{}; }
BASCULE_INLINE I32 set_int(int32_t x) { return x - I32{}; }

BASCULE_INLINE F32 load(const float* p) {
  F32 v;
  __builtin_memcpy(&v, p, sizeof(v));
  return v;
}
BASCULE_INLINE void store(float* p, F32 v) { __builtin_memcpy(p, &v, sizeof(v)); }

#if defined(__AVX2__) && !defined(__AVX512F__)
BASCULE_INLINE __m256i first_lanes(int64_t count) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)),
                            _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
#endif

// The first `count` lanes (0 < count <= lanes); the others read as `fill` / are not written.
BASCULE_INLINE F32 load(const float* p, int64_t count, float fill) {
  if (count >= lanes) return load(p);
#if defined(__AVX512F__)
  const __mmask16 mask = static_cast<__mmask16>((1u << count) - 1);
  return reinterpret_cast<F32>(_mm512_mask_loadu_ps(_mm512_set1_ps(fill), mask, p));
#elif defined(__AVX2__)
  const __m256i mask = first_lanes(count);
  return reinterpret_cast<F32>(_mm256_blendv_ps(_mm256_set1_ps(fill), _mm256_maskload_ps(p, mask),
                                                _mm256_castsi256_ps(mask)));
#else
  F32 v = set(fill);
  for (int64_t i = 0; i < count; ++i) v[i] = p[i];
  return v;
#endif
}
BASCULE_INLINE void store(float* p, F32 v, int64_t count) {
  if (count >= lanes) {
    store(p, v);
    return;
  }
#if defined(__AVX512F__)
  const __mmask16 mask = static_cast<__mmask16>((1u << count) - 1);
  _mm512_mask_storeu_ps(p, mask, reinterpret_cast<__m512>(v));
#elif defined(__AVX2__)
  _mm256_maskstore_ps(p, first_lanes(count), reinterpret_cast<__m256>(v));
#else
  for (int64_t i = 0; i < count; ++i) p[i] = v[i];
#endif
}

// a * b + c, rounded once where the instruction set can.
BASCULE_INLINE F32 fma(F32 a, F32 b, F32 c) {
#if defined(__AVX512F__)
  return reinterpret_cast<F32>(_mm512_fmadd_ps(
      reinterpret_cast<__m512>(a), reinterpret_cast<__m512>(b), reinterpret_cast<__m512>(c)));
#elif defined(__FMA__)
  return reinterpret_cast<F32>(_mm256_fmadd_ps(
      reinterpret_cast<__m256>(a), reinterpret_cast<__m256>(b), reinterpret_cast<__m256>(c)));
#elif defined(__aarch64__)
  return reinterpret_cast<F32>(vfmaq_f32(reinterpret_cast<float32x4_t>(c),
                                         reinterpret_cast<float32x4_t>(a),
                                         reinterpret_cast<float32x4_t>(b)));
#else
  return a * b + c;
#endif
}

// One instruction each: `a` where it compares larger (smaller), else `b`, which is what NaN in
// either operand gives. So at_least(bound, x) keeps the NaN of x.
BASCULE_INLINE F32 at_least(F32 a, F32 b) {
#if defined(__AVX512F__)
  return reinterpret_cast<F32>(
      _mm512_max_ps(reinterpret_cast<__m512>(a), reinterpret_cast<__m512>(b)));
#elif defined(__AVX2__)
  return reinterpret_cast<F32>(
      _mm256_max_ps(reinterpret_cast<__m256>(a), reinterpret_cast<__m256>(b)));
#elif defined(__SSE4_1__)
  return reinterpret_cast<F32>(
      _mm_max_ps(reinterpret_cast<__m128>(a), reinterpret_cast<__m128>(b)));
#else
  return a > b ? a : b;
#endif
}
BASCULE_INLINE F32 at_most(F32 a, F32 b) {
#if defined(__AVX512F__)
  return reinterpret_cast<F32>(
      _mm512_min_ps(reinterpret_cast<__m512>(a), reinterpret_cast<__m512>(b)));
#elif defined(__AVX2__)
  return reinterpret_cast<F32>(
      _mm256_min_ps(reinterpret_cast<__m256>(a), reinterpret_cast<__m256>(b)));
#elif defined(__SSE4_1__)
  return reinterpret_cast<F32>(
      _mm_min_ps(reinterpret_cast<__m128>(a), reinterpret_cast<__m128>(b)));
#else
  return a < b ? a : b;
#endif
}

// The larger / smaller; NaN in either operand gives NaN, as ONNX's Max, Min and Relu do.
BASCULE_INLINE F32 max(F32 a, F32 b) { return a != a ? a : at_least(a, b); }
BASCULE_INLINE F32 min(F32 a, F32 b) { return a != a ? a : at_most(a, b); }
BASCULE_INLINE F32 abs(F32 a) {
  return reinterpret_cast<F32>(reinterpret_cast<I32>(a) & 0x7fffffff);
}

// The sign of `sign` on the magnitude of `a`.
BASCULE_INLINE F32 copysign(F32 a, F32 sign) {
  return reinterpret_cast<F32>((reinterpret_cast<I32>(a) & 0x7fffffff) |
                               (reinterpret_cast<I32>(sign) & static_cast<int32_t>(0x80000000)));
}

// Nearest integer, ties to even.
BASCULE_INLINE F32 round(F32 a) {
#if defined(__AVX512F__)
  return reinterpret_cast<F32>(_mm512_roundscale_ps(reinterpret_cast<__m512>(a), 0x08));
#elif defined(__AVX2__)
  return reinterpret_cast<F32>(_mm256_round_ps(reinterpret_cast<__m256>(a), 0x08));
#elif defined(__SSE4_1__)
  return reinterpret_cast<F32>(_mm_round_ps(reinterpret_cast<__m128>(a), 0x08));
#elif defined(__aarch64__)
  return reinterpret_cast<F32>(vrndnq_f32(reinterpret_cast<float32x4_t>(a)));
#else
#error "round() needs SSE4.1 or NEON"
#endif
}
// Rounded toward minus infinity, plus infinity.
BASCULE_INLINE F32 floor(F32 a) {
#if defined(__AVX512F__)
  return reinterpret_cast<F32>(_mm512_roundscale_ps(reinterpret_cast<__m512>(a), 0x09));
#elif defined(__AVX2__)
  return reinterpret_cast<F32>(_mm256_round_ps(reinterpret_cast<__m256>(a), 0x09));
#elif defined(__SSE4_1__)
  return reinterpret_cast<F32>(_mm_round_ps(reinterpret_cast<__m128>(a), 0x09));
#else
  return reinterpret_cast<F32>(vrndmq_f32(reinterpret_cast<float32x4_t>(a)));
#endif
}
BASCULE_INLINE F32 ceil(F32 a) { return -floor(-a); }
BASCULE_INLINE F32 sqrt(F32 a) {
#if defined(__AVX512F__)
  return reinterpret_cast<F32>(_mm512_sqrt_ps(reinterpret_cast<__m512>(a)));
#elif defined(__AVX2__)
  return reinterpret_cast<F32>(_mm256_sqrt_ps(reinterpret_cast<__m256>(a)));
#elif defined(__SSE4_1__)
  return reinterpret_cast<F32>(_mm_sqrt_ps(reinterpret_cast<__m128>(a)));
#else
  return reinterpret_cast<F32>(vsqrtq_f32(reinterpret_cast<float32x4_t>(a)));
#endif
}
BASCULE_INLINE I32 to_int(F32 a) { return __builtin_convertvector(a, I32); }
BASCULE_INLINE F32 to_float(I32 a) { return __builtin_convertvector(a, F32); }

// Whether any lane of a comparison's result is true.
BASCULE_INLINE bool any(I32 mask) {
#if defined(__AVX512F__)
  return _mm512_test_epi32_mask(reinterpret_cast<__m512i>(mask), reinterpret_cast<__m512i>(mask)) !=
         0;
#elif defined(__AVX2__)
  return _mm256_movemask_ps(reinterpret_cast<__m256>(mask)) != 0;
#elif defined(__SSE4_1__)
  return _mm_movemask_ps(reinterpret_cast<__m128>(mask)) != 0;
#else
  return vmaxvq_u32(reinterpret_cast<uint32x4_t>(mask)) != 0;
#endif
}

// Folds the lanes by halves with combine(F32, F32): lane i with lane i + half, a fixed order for a
// given width.
template <class Combine>
BASCULE_INLINE float reduce(F32 v, Combine&& combine) {
#if defined(__AVX512F__)
  v = combine(v,
              __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7));
  v = combine(v, __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3));
  v = combine(v, __builtin_shufflevector(v, v, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1));
  v = combine(v, __builtin_shufflevector(v, v, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0));
#elif defined(__AVX2__)
  v = combine(v, __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3));
  v = combine(v, __builtin_shufflevector(v, v, 2, 3, 0, 1, 2, 3, 0, 1));
  v = combine(v, __builtin_shufflevector(v, v, 1, 0, 1, 0, 1, 0, 1, 0));
#else
  v = combine(v, __builtin_shufflevector(v, v, 2, 3, 0, 1));
  v = combine(v, __builtin_shufflevector(v, v, 1, 0, 1, 0));
#endif
  return v[0];
}
BASCULE_INLINE float reduce_add(F32 v) {
  return reduce(v, [](F32 a, F32 b) { return a + b; });
}
BASCULE_INLINE float reduce_max(F32 v) {
  return reduce(v, [](F32 a, F32 b) { return max(a, b); });
}

// body(i, count) for i = 0, lanes, 2 * lanes, ...; count = lanes but for the last.
template <class Body>
BASCULE_INLINE void for_vectors(int64_t n, Body&& body) {
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) body(i, int64_t{lanes});
  if (i < n) body(i, n - i);
}

}  // namespace
}  // namespace bascule::BASCULE_ISA
