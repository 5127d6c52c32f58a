// SPDX-License-Identifier: Apache-2.0
// instruction sets: avx512_vnni
// Products of float32 with weights of few bits by exact sums of integers: weights stay the integers
// that they are, and a number of A is three signed bytes. So sixteen weights cost less than one
// instruction, instead of four for floats. Without an instruction for four bytes floats are faster.
#if defined(__AVX512VNNI__)
#include "kernels/quantize/nbits_lanes.h"

namespace bascule::BASCULE_ISA {
namespace {

constexpr int split_parts = static_cast<int>(nbits_split_parts);
constexpr int vectors_of(int rows) { return rows == 1 ? 8 : rows == 2 ? 4 : 2; }

// Rows of words that are fetched ahead: the hardware does the rest better than instructions would.
constexpr int64_t rows_ahead = 2;

// Where the others of a span are on average less than this part of its largest number, they keep
// too few of their bits.
constexpr float least_share = 1.0f / 4096;
// Powers of two, as a float has them, between which factors and sums are ordinary numbers.
constexpr int32_t least_exponent = 127 - 100, largest_exponent = 127 + 100;

// Numbers that are taken apart at a time.
constexpr int group = 16;
using Bytes = int8_t __attribute__((vector_size(group)));

}  // namespace

bool split_spans(const NBitsPanels& b, const float* a, int64_t k, const NBitsSplit& to, int64_t row,
                 int64_t first, int64_t last) {
  // Byte j of a quad is multiplied by the bits that byte j of a word ends up with.
  const int per_word = 32 / b.bits, per_byte = 8 / b.bits;
  Bytes order;
  for (int i = 0; i < group; ++i) {
    const int at = i % per_word;
    order[i] = static_cast<int8_t>(i - at + at % 4 * per_byte + at / 4);
  }
  const int32_t zero = b.zeros == nullptr ? static_cast<int32_t>(b.zero) : 1;
  int8_t* parts = to.parts_of(row) + first * to.span_step();
  for (int64_t s = first; s < last; ++s, parts += to.span_step()) {
    const float* from = a + s * to.span;
    const int64_t left = k - s * to.span, count = left < to.span ? left : to.span;
    I32 most_lanes = {};
    F32 total = {};
    for_vectors(count, [&](int64_t i, int64_t n) __attribute__((always_inline)) {
      const F32 x = abs(load(from + i, n, 0));
      const I32 bits = reinterpret_cast<I32>(x);  // NaN and infinity are the largest
      most_lanes = bits > most_lanes ? bits : most_lanes;
      total = total + x;
    });
    const int32_t most = _mm512_reduce_max_epi32(reinterpret_cast<__m512i>(most_lanes));
    const int32_t exponent = most >> 23;
    float factor = 0, inverse = 0;
    if (most != 0) {
      if (exponent < least_exponent || exponent > largest_exponent) return false;
      // The largest number becomes 2^22 or more, but no more than three signed bytes hold.
      const int32_t bits = (276 - exponent - ((most & 0x7fffff) > 0x7efefe ? 1 : 0)) << 23;
      __builtin_memcpy(&inverse, &bits, sizeof(inverse));
      factor = 1 / inverse;
      float largest;
      __builtin_memcpy(&largest, &most, sizeof(largest));
      const float others = reduce_add(total) - largest;
      if (others > 0 && others < largest * static_cast<float>(count - 1) * least_share)
        return false;
    }
    to.factors[row * to.spans + s] = factor;
    I32 sums[split_parts] = {};
    for_vectors(count, [&](int64_t i, int64_t n) __attribute__((always_inline)) {
      constexpr int32_t half = 0x808080;  // the bytes of x + half are those of x, and 128 each
      const I32 x = (to_nearest_int(load(from + i, n, 0) * inverse) + half) ^ half;
      sums[0] += (x << 8) >> 24;
      sums[1] += (x << 16) >> 24;
      sums[2] += (x << 24) >> 24;
#pragma GCC unroll 3
      for (int p = 0; p < split_parts; ++p) {
        const __m128i part = _mm512_cvtepi32_epi8(reinterpret_cast<__m512i>(x >> (16 - 8 * p)));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(parts + p * to.part_step() + i),
                         _mm_shuffle_epi8(part, reinterpret_cast<__m128i>(order)));
      }
    });
    for (int p = 0; p < split_parts; ++p) {
      const int32_t sum = _mm512_reduce_add_epi32(reinterpret_cast<__m512i>(sums[p]));
      to.starts[(row * to.spans + s) * split_parts + p] = -sum * zero;
    }
  }
  return true;
}

namespace {

// GCC moves the sums of its intrinsic about; it leaves these where they are.
BASCULE_INLINE __m512i add_products(__m512i sum, __m512i weights, __m512i a) {
  __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(weights), "v"(a));
  return sum;
}
// The same with four bytes from memory, which need no register.
BASCULE_INLINE __m512i add_products(__m512i sum, __m512i weights, const int8_t* four) {
  using Four = const int8_t[4];
  __asm__("vpdpbusd %2%{1to16%}, %1, %0"
          : "+v"(sum)
          : "v"(weights), "m"(*reinterpret_cast<Four*>(four)));
  return sum;
}

// Some columns of the panel, from a vector on.
template <int bits, int rows>
void multiply_tile(const NBitsSplitRows& g, int first_vector) {
  constexpr int vectors = vectors_of(rows), per_word = 32 / bits, per_byte = 8 / bits;
  const NBitsPanels& b = *g.b;
  const NBitsSplit& a = g.a;
  const uint32_t* words =
      b.words + g.panel * b.word_rows * panel_width + int64_t{first_vector} * lanes;
  const int64_t row_step = a.span, part_step = a.part_step();
  const int64_t spans_a_block = b.block_size / a.span, words_a_span = a.span / per_word;
  F32 total[rows][vectors] = {};
  int64_t words_left = b.word_rows;
  for (int64_t s = 0; s < a.spans; ++s) {
    const int64_t numbers =
        (g.panel * b.blocks + s / spans_a_block) * panel_width + int64_t{first_vector} * lanes;
    __m512i sum[rows][split_parts][vectors];
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 3
      for (int p = 0; p < split_parts; ++p) {
        const int32_t start = a.starts[(r * a.spans + s) * split_parts + p];
#pragma GCC unroll 8
        for (int v = 0; v < vectors; ++v) {
          if (b.zeros == nullptr) {
            sum[r][p][v] = _mm512_set1_epi32(start);
          } else {
            const auto* zeros = static_cast<const uint8_t*>(b.zeros) + numbers + v * lanes;
            sum[r][p][v] = _mm512_madd_epi16(reinterpret_cast<__m512i>(load_narrow(zeros, lanes)),
                                             _mm512_set1_epi32(start & 0xffff));
          }
        }
      }
    }
    const int64_t count = words_left < words_a_span ? words_left : words_a_span;
    words_left -= count;
    const int8_t* parts = a.parts + s * a.span_step();
    for (int64_t i = 0; i < count; ++i, words += panel_width, parts += per_word) {
      if constexpr (rows == 1) {
#pragma GCC unroll 8
        for (int v = 0; v < vectors; ++v) {
          const U32 x = load_words(words + v * lanes);
          __builtin_prefetch(words + rows_ahead * panel_width + v * lanes);
#pragma GCC unroll 4
          for (int quad = 0; quad < per_byte; ++quad) {
            const __m512i weights = bytes_of<bits>(x, quad);
#pragma GCC unroll 3
            for (int p = 0; p < split_parts; ++p) {
              sum[0][p][v] = add_products(sum[0][p][v], weights, parts + p * part_step + quad * 4);
            }
          }
        }
        continue;
      }
#pragma GCC unroll 4
      for (int quad = 0; quad < per_byte; ++quad) {
        __m512i weights[vectors];
#pragma GCC unroll 8
        for (int v = 0; v < vectors; ++v) {
          weights[v] = bytes_of<bits>(load_words(words + v * lanes), quad);
        }
#pragma GCC unroll 4
        for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 3
          for (int p = 0; p < split_parts; ++p) {
            int32_t four;
            __builtin_memcpy(&four, parts + r * row_step + p * part_step + quad * 4, 4);
            const __m512i numbers_of_a = _mm512_set1_epi32(four);
#pragma GCC unroll 8
            for (int v = 0; v < vectors; ++v) {
              sum[r][p][v] = add_products(sum[r][p][v], weights[v], numbers_of_a);
            }
          }
        }
      }
    }
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) {
      const F32 scale = load_numbers(b.scales, b.scale_type, numbers + v * lanes);
#pragma GCC unroll 4
      for (int r = 0; r < rows; ++r) {
        total[r][v] = add_span(sum[r][0][v], sum[r][1][v], sum[r][2][v], scale,
                               a.factors[r * a.spans + s], total[r][v]);
      }
      const int64_t ahead = numbers + v * lanes + panel_width;
      prefetch_numbers(b.scales, b.scale_type, ahead);
      if (b.zeros != nullptr) prefetch_numbers(b.zeros, b.zero_type, ahead);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) store_columns(g, r, first_vector + v, total[r][v]);
  }
}

template <int bits, int rows>
void multiply_panel(const NBitsSplitRows& g) {
  for (int v = 0; v * lanes < g.columns; v += vectors_of(rows)) multiply_tile<bits, rows>(g, v);
}

template <int bits>
void multiply_bits(const NBitsSplitRows& g) {
  switch (g.rows) {
    case 1:
      return multiply_panel<bits, 1>(g);
    case 2:
      return multiply_panel<bits, 2>(g);
    case 3:
      return multiply_panel<bits, 3>(g);
    default:
      return multiply_panel<bits, 4>(g);
  }
}

}  // namespace

void multiply_split_rows(const NBitsSplitRows& g) {
  if (g.b->bits == 8) return multiply_bits<8>(g);
  if (g.b->bits == 4) return multiply_bits<4>(g);
  multiply_bits<2>(g);
}

}  // namespace bascule::BASCULE_ISA
#endif
