// SPDX-License-Identifier: Apache-2.0
// instruction sets: base avx2 avx512 avx512_vnni
#include "kernels/elementwise/byte_table.h"

#include "simd/vec.h"

namespace bascule::BASCULE_ISA {
namespace {

void look_up_each(const ByteTable& table, const uint8_t* x, uint8_t* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = table.values[x[i]];
}

#if defined(__SSSE3__)
typedef uint8_t Bytes __attribute__((vector_size(vector_bytes)));

BASCULE_INLINE Bytes load_bytes(const uint8_t* p) {
  Bytes v;
  __builtin_memcpy(&v, p, sizeof(v));
  return v;
}

// Of 16 entries in each 16 bytes of `entries`; zero where the top bit of the place is set.
BASCULE_INLINE Bytes shuffle(Bytes entries, Bytes places) {
#if defined(__AVX512F__)
  return reinterpret_cast<Bytes>(
      _mm512_shuffle_epi8(reinterpret_cast<__m512i>(entries), reinterpret_cast<__m512i>(places)));
#elif defined(__AVX2__)
  return reinterpret_cast<Bytes>(
      _mm256_shuffle_epi8(reinterpret_cast<__m256i>(entries), reinterpret_cast<__m256i>(places)));
#else
  return reinterpret_cast<Bytes>(
      _mm_shuffle_epi8(reinterpret_cast<__m128i>(entries), reinterpret_cast<__m128i>(places)));
#endif
}
BASCULE_INLINE Bytes add_saturated(Bytes a, Bytes b) {
#if defined(__AVX512F__)
  return reinterpret_cast<Bytes>(
      _mm512_adds_epu8(reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b)));
#elif defined(__AVX2__)
  return reinterpret_cast<Bytes>(
      _mm256_adds_epu8(reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(b)));
#else
  return reinterpret_cast<Bytes>(
      _mm_adds_epu8(reinterpret_cast<__m128i>(a), reinterpret_cast<__m128i>(b)));
#endif
}

// Sixteen shuffles, each for the bytes of one upper half.
void look_up_vectors(const ByteTable& table, const uint8_t* x, uint8_t* y, int64_t n) {
  Bytes entries[16];
  for (int i = 0; i < 16; ++i) {
    for (int at = 0; at < vector_bytes; at += 16) {
      __builtin_memcpy(reinterpret_cast<uint8_t*>(&entries[i]) + at, table.values + 16 * i, 16);
    }
  }
  int64_t i = 0;
  for (; i + vector_bytes <= n; i += vector_bytes) {
    const Bytes bytes = load_bytes(x + i);
    Bytes found = {};
#pragma GCC unroll 16
    for (int half = 0; half < 16; ++half) {
      const Bytes above = bytes - static_cast<uint8_t>(16 * half);
      found |= shuffle(entries[half], add_saturated(above, Bytes{} + uint8_t{0x70}));
    }
    __builtin_memcpy(y + i, &found, sizeof(found));
  }
  look_up_each(table, x + i, y + i, n - i);
}
#endif

#if defined(__AVX512VNNI__)
__attribute__((target("avx512vbmi"))) void look_up_permuted(const ByteTable& table,
                                                            const uint8_t* x, uint8_t* y,
                                                            int64_t n) {
  const __m512i first = _mm512_load_si512(table.values);
  const __m512i second = _mm512_load_si512(table.values + 64);
  const __m512i third = _mm512_load_si512(table.values + 128);
  const __m512i fourth = _mm512_load_si512(table.values + 192);
  int64_t i = 0;
  for (; i + vector_bytes <= n; i += vector_bytes) {
    const __m512i bytes = _mm512_loadu_si512(x + i);
    const __m512i low = _mm512_permutex2var_epi8(first, bytes, second);
    const __m512i high = _mm512_permutex2var_epi8(third, bytes, fourth);
    const __m512i found = _mm512_mask_blend_epi8(_mm512_movepi8_mask(bytes), low, high);
    _mm512_storeu_si512(y + i, found);
  }
  look_up_each(table, x + i, y + i, n - i);
}
#endif

}  // namespace

using ByteTableFunction = void (*)(const ByteTable&, const uint8_t*, uint8_t*, int64_t);
ByteTableFunction byte_table_function() {
#if defined(__AVX512VNNI__)
  if (__builtin_cpu_supports("avx512vbmi")) return look_up_permuted;
#endif
#if defined(__SSSE3__)
  return look_up_vectors;
#else
  return look_up_each;
#endif
}

}  // namespace bascule::BASCULE_ISA

#if BASCULE_ONCE
#include "simd/isa.h"

namespace bascule {
using ByteTableFunction = void (*)(const ByteTable&, const uint8_t*, uint8_t*, int64_t);
BASCULE_PER_ISA_VNNI(ByteTableFunction byte_table_function());

void look_up_bytes(const ByteTable& table, const uint8_t* x, uint8_t* y, int64_t n) {
  static const ByteTableFunction function = BASCULE_PICK_VNNI(byte_table_function)();
  function(table, x, y, n);
}
}  // namespace bascule
#endif
