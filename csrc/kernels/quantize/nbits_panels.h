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

struct NBitsFunctions {
  int64_t panel_width;
  int64_t most_rows;
  void (*multiply)(const NBitsRows& rows);
  // Rows [first, last) of B as floats, [k][expand_width], from a column that is a multiple of
  // expand_width on; `first` is at the beginning of a word.
  int64_t expand_width;
  void (*expand)(const NBitsPanels& b, int64_t column, int64_t first, int64_t last, float* to);
};

}  // namespace bascule
