// SPDX-License-Identifier: Apache-2.0
// Weights of 2, 4 or 8 bits as matrix products read them. Plain data, shared by code of every
// instruction set.
#pragma once

#include <cstdint>

namespace bascule {

enum class NBitsNumber : uint8_t { u8, f32, f16, bf16 };

// B[k, n] = (q - zero) * scale, or values[q] * scale, where the q of a column share scale and zero
// point in blocks of `block_size`. Columns come in panels of panel_width, the missing ones with
// scale 0; a word holds the bits of 32 / bits successive k of a column, the first in the lowest.
struct NBitsPanels {
  int bits;
  int64_t block_size;
  int64_t blocks;
  int64_t word_rows;
  const uint32_t* words;  // [panel][word_rows][panel_width]
  const void* scales;     // [panel][blocks][panel_width]
  NBitsNumber scale_type;
  const void* zeros;  // like scales; null: all are `zero`
  NBitsNumber zero_type;
  float zero;
  const float* values;    // of the 16 patterns of the lowest 4 bits, in place of q - zero; or null
  const int32_t* groups;  // [k], in place of k / block_size; or null
};

// C = A B + bias for a few rows of A and the columns of a panel. The sums run over k in rising
// order, one fused multiply-add per step.
struct NBitsRows {
  const NBitsPanels* b;
  int64_t panel;
  int64_t k;
  const float* a;
  int64_t a_stride;
  int64_t rows;  // at most most_rows
  const float* bias;
  float* c;  // the first column of the panel
  int64_t c_stride;
  int64_t columns;  // of the panel, > 0
};

// Signed bytes of a number of A.
inline constexpr int64_t nbits_split_parts = 3;

// Rows of A in integers. A span of k (a block of B, or a part of one) is
// factor * (65536 p0 + 256 p1 + p2) with signed bytes p: 23 bits and a sign under its largest
// number.
struct NBitsSplit {
  int64_t span;   // k of a span
  int64_t spans;  // of a row
  int64_t group;  // rows whose parts lie together
  // [row / group][span][part][row % group][k]; the four k that share a quad lie as the bits of a
  // word of B do.
  int8_t* parts;
  float* factors;   // [row][spans]
  int32_t* starts;  // [row][spans][part]: minus the sum of the bytes, times a common zero point

  int64_t part_step() const { return group * span; }
  int64_t span_step() const { return nbits_split_parts * part_step(); }
  int8_t* parts_of(int64_t row) const {
    return parts + row / group * spans * span_step() + row % group * span;
  }
};

// A sum of so many bytes fits 16 bits.
inline constexpr int64_t nbits_longest_span = 128;

// C = A B + bias for a few split rows and the columns of a panel. Sums of a span are exact
// integers; those of the spans are added in rising order.
struct NBitsSplitRows {
  const NBitsPanels* b;
  int64_t panel;
  NBitsSplit a;  // its first row
  int64_t rows;
  const float* bias;
  float* c;
  int64_t c_stride;
  int64_t columns;
};

struct NBitsFunctions {
  int64_t panel_width;
  int64_t most_rows;
  void (*multiply)(const NBitsRows& rows);
  // Rows [first, last) of B as floats, [k][expand_width], from a column that is a multiple of
  // expand_width on; `first` is at the beginning of a word.
  int64_t expand_width;
  void (*expand)(const NBitsPanels& b, int64_t column, int64_t first, int64_t last, float* to);
};

inline constexpr int64_t nbits_split_rows = 4;

namespace avx512_vnni {
// Spans [first, last) of a row of k numbers as those of row `row` of `to`. False where numbers are
// not finite, are beyond what sums of floats hold, or where one so outweighs its span that the
// others would lose most of their bits: then the row must be multiplied as floats.
bool split_spans(const NBitsPanels& b, const float* a, int64_t k, const NBitsSplit& to, int64_t row,
                 int64_t first, int64_t last);
// Up to nbits_split_rows rows, for weights whose zero points are bytes.
void multiply_split_rows(const NBitsSplitRows& rows);
}  // namespace avx512_vnni
namespace avx512_amx {
// The same for any number of rows, and weights whose distances from their zero points are signed
// bytes.
void multiply_split_tiles(const NBitsSplitRows& rows);
}  // namespace avx512_amx

}  // namespace bascule
