// SPDX-License-Identifier: Apache-2.0
#include "kernels/quantize/integer_gemm.h"

#include <cstring>

namespace bascule {

void copy_rows(const uint8_t* from, int64_t rows, int64_t depth, ByteSign sign, uint8_t* data,
               int32_t* sums) {
  const int64_t padded = quads_of(depth) * 4;
  for (int64_t i = 0; i < rows; ++i) {
    sums[i] =
        integer_gemm().copy_row(from + i * depth, depth, padded, sign.flip, data + i * padded);
  }
}

void pack_integer_panels(const uint8_t* from, int64_t depth, int64_t columns, int64_t stride,
                         ByteSign sign, int64_t first, int64_t count, int8_t* panels,
                         int32_t* column_sums) {
  const IntegerGemmFunctions& functions = integer_gemm();
  const int64_t width = functions.panel_width;
  // What stands for rows beyond the last: zero after the flip.
  constexpr int64_t widest = 64;
  uint8_t nothing[widest];
  std::memset(nothing, sign.flip, widest);
  const int64_t bytes = panel_bytes(depth);
  for (int64_t panel = first; panel < first + count; ++panel) {
    const int64_t column = panel * width;
    const int64_t wide = std::min(width, columns - column);
    std::fill_n(column_sums + column, wide, 0);
    int8_t* to = panels + panel * bytes;
    for (int64_t k = 0; k < depth; k += 4, to += width * 4) {
      const uint8_t* rows[4];
      for (int64_t i = 0; i < 4; ++i) {
        rows[i] = k + i < depth ? from + (k + i) * stride + column : nothing;
      }
      functions.interleave(rows, wide, sign.flip, to, column_sums + column);
    }
  }
}

}  // namespace bascule
