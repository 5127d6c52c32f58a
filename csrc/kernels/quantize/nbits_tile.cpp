// SPDX-License-Identifier: Apache-2.0
// instruction sets: base avx2 avx512
// Products with weights of 2, 4 and 8 bits, dequantized in registers.
#include "kernels/quantize/nbits_lanes.h"

namespace bascule::BASCULE_ISA {
namespace {

#if defined(__AVX512F__)
constexpr bool has_table = true;
constexpr int vectors_of(int rows) { return rows == 1 ? 8 : 4; }
#else
constexpr bool has_table = false;
constexpr int vectors_of(int rows) { return rows == 1 ? 4 : 2; }
#endif
constexpr int most_rows = 4;
constexpr int expand_vectors = 2;  // as the panels of floats that the product reads
constexpr int expand_width = expand_vectors * lanes;

// What the lowest bits of each lane stand for, before the scale.
struct Table {
  float values[16];
};
#if defined(__AVX512F__)
BASCULE_INLINE F32 look_up(const Table& table, U32 word) {
  return reinterpret_cast<F32>(
      _mm512_permutexvar_ps(reinterpret_cast<__m512i>(word), _mm512_loadu_ps(table.values)));
}
#elif defined(__AVX2__)
BASCULE_INLINE F32 look_up(const Table& table, U32 word) {
  const __m256i index = reinterpret_cast<__m256i>(word);
  const __m256 low = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table.values), index);
  const __m256 high = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table.values + 8), index);
  return reinterpret_cast<F32>(
      _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32(index, 28))));
}
#else
BASCULE_INLINE F32 look_up(const Table& table, U32 word) {
  F32 result;
  for (int i = 0; i < lanes; ++i) result[i] = table.values[word[i] & 15];
  return result;
}
#endif

// How patterns become numbers: read from a table, or less a zero point. Where registers are many
// enough to hold the constants of it, an integer one is subtracted without a conversion: as the
// lowest bits of the float 2^23 an integer is added to it, and the difference of two such floats is
// the exact difference of the integers.
enum class Reading { table, zero, integer_zero };

template <int bits_, Reading reading_>
struct Form {
  static constexpr int bits = bits_;
  static constexpr Reading reading = reading_;
  static constexpr int per_word = 32 / bits;
};

constexpr float two_23 = 8388608.0f;

template <class F>
BASCULE_INLINE F32 decode(const Table& table, U32 word, F32 scale, F32 zero) {
  constexpr uint32_t mask = (1u << F::bits) - 1;
#if defined(__AVX512F__)
  if constexpr (F::reading == Reading::integer_zero) {
    const auto moved = reinterpret_cast<F32>(_mm512_ternarylogic_epi32(
        reinterpret_cast<__m512i>(word), _mm512_set1_epi32(static_cast<int>(mask)),
        _mm512_castps_si512(_mm512_set1_ps(two_23)), 0xea));  // word & mask | two_23
    return (moved - zero) * scale;
  }
#endif
  if constexpr (F::reading == Reading::table) return look_up(table, word) * scale;
  return (to_float(reinterpret_cast<I32>(word & mask)) - zero) * scale;
}

// body(Form{}, table) with the form that these weights ask for.
template <class Body>
BASCULE_INLINE void with_form(const NBitsPanels& b, Body&& body) {
  Table table;
  for (int i = 0; i < 16; ++i) {
    const float q = static_cast<float>(b.bits == 2 ? i & 3 : i);
    table.values[i] = b.values != nullptr ? b.values[i] : q - b.zero;
  }
  const auto with_bits = [&]<int bits>() __attribute__((always_inline)) {
    if constexpr (bits < 8) {
      if (b.values != nullptr || (has_table && b.zeros == nullptr)) {
        return body(Form<bits, Reading::table>{}, table);
      }
    }
    if constexpr (vector_bytes == 64) {
      if (b.zeros == nullptr || b.zero_type == NBitsNumber::u8) {
        return body(Form<bits, Reading::integer_zero>{}, table);
      }
    }
    return body(Form<bits, Reading::zero>{}, table);
  };
  if (b.bits == 8) return with_bits.template operator()<8>();
  if (b.bits == 4) return with_bits.template operator()<4>();
  return with_bits.template operator()<2>();
}

// Scales and zero points of the columns of some vectors of a panel.
template <class F, int vectors>
BASCULE_INLINE void load_block(const NBitsPanels& b, int64_t panel, int first_vector, int64_t block,
                               F32 (&scale)[vectors], F32 (&zero)[vectors]) {
  const int64_t first = (panel * b.blocks + block) * panel_width + first_vector * lanes;
#pragma GCC unroll 8
  for (int v = 0; v < vectors; ++v) {
    const int64_t at = first + v * lanes;
    scale[v] = load_numbers(b.scales, b.scale_type, at);
    prefetch_numbers(b.scales, b.scale_type, at + blocks_ahead * panel_width);
    if (F::reading != Reading::table && b.zeros != nullptr) {
      zero[v] = load_numbers(b.zeros, b.zero_type, at);
      prefetch_numbers(b.zeros, b.zero_type, at + blocks_ahead * panel_width);
    } else {
      zero[v] = set(b.zero);
    }
    if (F::reading == Reading::integer_zero) zero[v] = zero[v] + two_23;
  }
}

// Some columns of the panel, from a vector on.
template <class F, int rows>
void multiply_tile(const NBitsRows& g, const Table& table, int first_vector) {
  constexpr int vectors = vectors_of(rows);
  const NBitsPanels& b = *g.b;
  const uint32_t* words =
      b.words + g.panel * b.word_rows * panel_width + int64_t{first_vector} * lanes;
  F32 sum[rows][vectors] = {};
  F32 scale[vectors], zero[vectors];
  const float* a = g.a;
  // The next `steps` <= per_word values of k.
  const auto add_word = [&](int steps) __attribute__((always_inline)) {
    U32 x[vectors];
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) {
      __builtin_memcpy(&x[v], words + v * lanes, sizeof(x[v]));
      __builtin_prefetch(words + words_ahead * panel_width + v * lanes);
    }
    words += panel_width;
#pragma GCC unroll 16
    for (int j = 0; j < steps; ++j) {
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) {
        const F32 w = decode<F>(table, x[v], scale[v], zero[v]);
#pragma GCC unroll 4
        for (int r = 0; r < rows; ++r) sum[r][v] = fma(set(a[r * g.a_stride + j]), w, sum[r][v]);
        x[v] = x[v] >> F::bits;
      }
    }
    a += steps;
  };
  int64_t k = 0;
  for (int64_t block = 0; k < g.k; ++block) {
    load_block<F>(b, g.panel, first_vector, block, scale, zero);
    const int64_t stop = k + b.block_size < g.k ? k + b.block_size : g.k;
    for (; k + F::per_word <= stop; k += F::per_word) add_word(F::per_word);
    if (k < stop) add_word(static_cast<int>(stop - k));
    k = stop;
  }
  for (int v = 0; v < vectors; ++v) {
    const int64_t column = (first_vector + v) * lanes, count = g.columns - column;
    if (count <= 0) break;
    const F32 bias = g.bias != nullptr ? load(g.bias + column, count, 0) : F32{};
    for (int r = 0; r < rows; ++r) {
      const F32 y = g.bias != nullptr ? sum[r][v] + bias : sum[r][v];
      store(g.c + r * g.c_stride + column, y, count);
    }
  }
}

void multiply_rows(const NBitsRows& g) {
  with_form(*g.b, [&](auto form, const Table& table) __attribute__((always_inline)) {
    using F = decltype(form);
    for (int v = 0; v * lanes < g.columns; v += vectors_of(static_cast<int>(g.rows))) {
      switch (g.rows) {
        case 1:
          multiply_tile<F, 1>(g, table, v);
          break;
        case 2:
          multiply_tile<F, 2>(g, table, v);
          break;
        case 3:
          multiply_tile<F, 3>(g, table, v);
          break;
        default:
          multiply_tile<F, 4>(g, table, v);
      }
    }
  });
}

template <class F>
void expand_tile(const NBitsPanels& b, const Table& table, int64_t column, int64_t first,
                 int64_t last, float* to) {
  const int64_t panel = column / panel_width, start = column % panel_width;
  const int first_vector = static_cast<int>(start / lanes);
  const uint32_t* words =
      b.words + (panel * b.word_rows + first / F::per_word) * panel_width + start;
  F32 scale[expand_vectors] = {}, zero[expand_vectors] = {};
  // The next `steps` <= per_word rows, each of which may begin a block of its own.
  const auto expand_word = [&](int steps, auto&& begin) __attribute__((always_inline)) {
    U32 x[expand_vectors];
    __builtin_memcpy(x, words, sizeof(x));
    words += panel_width;
#pragma GCC unroll 16
    for (int j = 0; j < steps; ++j, to += expand_width) {
      begin(j);
#pragma GCC unroll 2
      for (int v = 0; v < expand_vectors; ++v) {
        store(to + v * lanes, decode<F>(table, x[v], scale[v], zero[v]));
        x[v] = x[v] >> F::bits;
      }
    }
  };
  int64_t k = first;
  while (k < last) {
    int64_t stop = (k / b.block_size + 1) * b.block_size;
    if (stop > last) stop = last;
    if (b.groups != nullptr) {
      for (; k < stop; k += F::per_word) {
        expand_word(static_cast<int>(stop - k < F::per_word ? stop - k : F::per_word), [&](int j) {
          load_block<F>(b, panel, first_vector, b.groups[k + j], scale, zero);
        });
      }
    } else {
      load_block<F>(b, panel, first_vector, k / b.block_size, scale, zero);
      const auto nothing = [](int) {};
      for (; k + F::per_word <= stop; k += F::per_word) expand_word(F::per_word, nothing);
      if (k < stop) expand_word(static_cast<int>(stop - k), nothing);
    }
    k = stop;
  }
}

void expand_columns(const NBitsPanels& b, int64_t column, int64_t first, int64_t last, float* to) {
  with_form(b, [&](auto form, const Table& table) __attribute__((always_inline)) {
    expand_tile<decltype(form)>(b, table, column, first, last, to);
  });
}

}  // namespace

const NBitsFunctions& nbits_functions() {
  static constexpr NBitsFunctions functions = {panel_width, most_rows, multiply_rows, expand_width,
                                               expand_columns};
  return functions;
}

}  // namespace bascule::BASCULE_ISA

#if BASCULE_ONCE
#include "kernels/quantize/nbits.h"
#include "simd/isa.h"

namespace bascule {
BASCULE_PER_ISA(const NBitsFunctions& nbits_functions());

const NBitsFunctions& nbits() {
  static const NBitsFunctions& functions = BASCULE_PICK(nbits_functions)();
  return functions;
}
}  // namespace bascule
#endif
