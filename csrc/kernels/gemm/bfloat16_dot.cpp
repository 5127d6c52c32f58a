// SPDX-License-Identifier: Apache-2.0
// instruction sets: avx512_bf16
// Products of bfloat16 by the instruction that adds the products of two neighbouring elements of K
// to a float32 sum. Denormals count as zero.
#if defined(__AVX512BF16__)
#include "kernels/gemm/half_passes.h"

namespace bascule::BASCULE_ISA {
namespace {

BASCULE_INLINE F32 add_products(F32 sum, uint32_t pair, U32 words) {
  return reinterpret_cast<F32>(
      _mm512_dpbf16_ps(reinterpret_cast<__m512>(sum),
                       reinterpret_cast<__m512bh>(_mm512_set1_epi32(static_cast<int>(pair))),
                       reinterpret_cast<__m512bh>(words)));
}
BASCULE_INLINE uint32_t load_pair(const uint16_t* a) {
  uint32_t pair;
  __builtin_memcpy(&pair, a, sizeof(pair));
  return pair;
}
BASCULE_INLINE U32 load_words(const uint16_t* b) {
  U32 words;
  __builtin_memcpy(&words, b, sizeof(words));
  return words;
}

struct Dot {
  typedef BF16 Format;
  typedef uint16_t A;
  static constexpr bool widens_panels = false;
  static constexpr int tile_rows = max_rows;

  static void take_rows(const uint16_t* from, int64_t from_stride, uint16_t* to, int64_t to_stride,
                        int64_t rows, int64_t n) {
    for (int64_t r = 0; r < rows; ++r) {
      __builtin_memcpy(to + r * to_stride, from + r * from_stride,
                       static_cast<size_t>(n) * sizeof(uint16_t));
      if (n % 2 != 0) to[r * to_stride + n] = 0;
    }
  }

  template <int rows>
  static void tile(const HalfTile<uint16_t>& t) {
    F32 sum[rows][2];
#pragma GCC unroll 14
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
      for (int v = 0; v < 2; ++v) {
        sum[r][v] = t.first ? F32{} : load(t.sums + r * width + v * lanes);
      }
    }
    const uint16_t* a = t.a;
    const auto* b = static_cast<const uint16_t*>(t.b);
    const char* next = t.next;
    for (int64_t k = 0; k < t.depth; k += 2) {
      U32 words[2];
#pragma GCC unroll 2
      for (int v = 0; v < 2; ++v) words[v] = load_words(b + v * 2 * lanes);
      __builtin_prefetch(b + 16 * width);
      __builtin_prefetch(b + 16 * width + 2 * lanes);
      __builtin_prefetch(next, 0, 2);
      next += 128;
#pragma GCC unroll 14
      for (int r = 0; r < rows; ++r) {
        const uint32_t pair = load_pair(a + r * half_a_stride);
#pragma GCC unroll 2
        for (int v = 0; v < 2; ++v) sum[r][v] = add_products(sum[r][v], pair, words[v]);
      }
      a += 2;
      b += 2 * width;
    }
#pragma GCC unroll 14
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
      for (int v = 0; v < 2; ++v) store(t.sums + r * width + v * lanes, sum[r][v]);
    }
  }

  template <int rows, int count>
  static void panels(const HalfTile<uint16_t>& t) {
    constexpr int vectors = 2 * count;
    F32 sum[rows][vectors] = {};
    const auto* b = static_cast<const uint16_t*>(t.b);
    for (int64_t k = 0; k < t.depth; k += 2) {
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) {
        const U32 words = load_words(b + v / 2 * t.b_panel_stride + k * width + v % 2 * 2 * lanes);
#pragma GCC unroll 6
        for (int r = 0; r < rows; ++r) {
          sum[r][v] = add_products(sum[r][v], load_pair(t.a + r * t.a_stride + k), words);
        }
      }
    }
    store_panels(t, sum);
  }
};

}  // namespace

void multiply_bfloat16_dot(const HalfBlock& g) { multiply<Dot>(g); }

}  // namespace bascule::BASCULE_ISA
#endif
