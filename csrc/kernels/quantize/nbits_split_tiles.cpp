// SPDX-License-Identifier: Apache-2.0
// instruction sets: avx512_amx
// Products of many split rows with weights of few bits by tile registers. The sums are exact, so
// that they are those of the products of a few rows.
#if defined(__AMX_INT8__)
#include "kernels/quantize/nbits_lanes.h"
#include "simd/tile_config.h"
#include "simd/tiles.h"

namespace bascule::BASCULE_ISA {
namespace {

constexpr int split_parts = static_cast<int>(nbits_split_parts);
constexpr int64_t tile_rows = 16;
constexpr int64_t quad_bytes = 64;  // of a vector of columns
constexpr int64_t most_quads = 16;  // of a tile

// A vector of columns as signed bytes, [quad][column][4], their zero points taken off.
template <int bits>
void expand_vector(const NBitsSplitRows& g, int vector, int8_t* to) {
  constexpr int per_word = 32 / bits, per_byte = 8 / bits;
  const NBitsPanels& b = *g.b;
  const uint32_t* words = b.words + g.panel * b.word_rows * panel_width + int64_t{vector} * lanes;
  const uint8_t* zeros = b.zeros == nullptr
                             ? nullptr
                             : static_cast<const uint8_t*>(b.zeros) +
                                   g.panel * b.blocks * panel_width + int64_t{vector} * lanes;
  const int64_t words_a_block = b.block_size / per_word;
  __m512i zero = _mm512_set1_epi8(static_cast<char>(b.zero));
  for (int64_t word = 0; word < b.word_rows; ++word) {
    if (zeros != nullptr && word % words_a_block == 0) {
      zero = _mm512_mullo_epi32(
          reinterpret_cast<__m512i>(load_narrow(zeros + word / words_a_block * panel_width, lanes)),
          _mm512_set1_epi32(0x01010101));
    }
    const U32 x = load_words(words + word * panel_width);
    for (int quad = 0; quad < per_byte; ++quad, to += quad_bytes) {
      _mm512_store_si512(to, _mm512_sub_epi8(bytes_of<bits>(x, quad), zero));
    }
  }
}

// Tiles 0 to 2 are sums of the parts, 3 to 5 parts of A, 6 weights.
void configure(int64_t rows, int64_t quads) {
  TileConfig config;
  for (int p = 0; p < split_parts; ++p) {
    config.set(p, rows, 64);
    config.set(split_parts + p, rows, quads * 4);
  }
  config.set(6, quads, 64);
  load_config(config);
}

// Rows [first, first + rows) and a vector of columns.
void multiply_vector(const NBitsSplitRows& g, int64_t first, int64_t rows, int vector,
                     const int8_t* weights) {
  const NBitsPanels& b = *g.b;
  const NBitsSplit& a = g.a;
  const int64_t spans_a_block = b.block_size / a.span, part_step = a.part_step();
  const int64_t quads = a.span / 4 < most_quads ? a.span / 4 : most_quads;
  const int8_t* parts = a.parts_of(first);
  const float* factors = a.factors + first * a.spans;
  alignas(64) float total[tile_rows][lanes] = {};
  alignas(64) int32_t sums[split_parts][tile_rows][lanes];
  for (int64_t s = 0; s < a.spans; ++s) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    const int8_t* from = parts + s * a.span_step();
    for (int64_t i = 0; i < a.span; i += quads * 4, weights += quads * quad_bytes) {
      _tile_loadd(6, weights, quad_bytes);
      _tile_loadd(3, from + i, a.span);
      _tile_loadd(4, from + i + part_step, a.span);
      _tile_loadd(5, from + i + 2 * part_step, a.span);
      _tile_dpbssd(0, 3, 6);
      _tile_dpbssd(1, 4, 6);
      _tile_dpbssd(2, 5, 6);
    }
    _tile_stored(0, sums[0], 64);
    _tile_stored(1, sums[1], 64);
    _tile_stored(2, sums[2], 64);
    const int64_t numbers =
        (g.panel * b.blocks + s / spans_a_block) * panel_width + int64_t{vector} * lanes;
    const F32 scale = load_numbers(b.scales, b.scale_type, numbers);
    for (int64_t r = 0; r < rows; ++r) {
      const auto sum = [&](int p)
                           __attribute__((always_inline)) { return _mm512_load_si512(sums[p][r]); };
      store(total[r],
            add_span(sum(0), sum(1), sum(2), scale, factors[r * a.spans + s], load(total[r])));
    }
  }
  for (int64_t r = 0; r < rows; ++r) store_columns(g, first + r, vector, load(total[r]));
}

}  // namespace

void multiply_split_tiles(const NBitsSplitRows& g) {
  const NBitsPanels& b = *g.b;
  const int64_t quads = g.a.span / 4 < most_quads ? g.a.span / 4 : most_quads;
  const int64_t padded = g.a.spans * g.a.span;  // k, in whole spans
  auto* weights = static_cast<int8_t*>(tile_space(static_cast<size_t>(padded * lanes)));
  const int64_t written = b.word_rows * (32 / b.bits);
  for (int64_t i = written * lanes; i < padded * lanes; ++i) weights[i] = 0;
  int64_t configured = 0;
  for (int vector = 0; vector * lanes < g.columns; ++vector) {
    if (b.bits == 8) expand_vector<8>(g, vector, weights);
    if (b.bits == 4) expand_vector<4>(g, vector, weights);
    if (b.bits == 2) expand_vector<2>(g, vector, weights);
    before_tile_loads();
    for (int64_t row = 0; row < g.rows; row += tile_rows) {
      const int64_t rows = g.rows - row < tile_rows ? g.rows - row : tile_rows;
      if (rows != configured) configure(rows, quads);
      configured = rows;
      multiply_vector(g, row, rows, vector, weights);
    }
  }
  _tile_release();
}

}  // namespace bascule::BASCULE_ISA
#endif
