// SPDX-License-Identifier: Apache-2.0
// The input of an integer convolution with quads of channels next to each other, and its border:
// what one tap reads of some pixels of a row is then one run of memory.
#pragma once

#include "kernels/quantize/integer_gemm.h"
#include "kernels/quantize/span.h"

namespace bascule {

class QuadImage {
 public:
  // What packed panels may be written beyond their end.
  static constexpr int64_t slack = 64;

  // `border` is the byte that stands outside of the input.
  QuadImage(RunContext& c, const ConvSizes& sizes, const uint8_t* x, uint8_t border, ByteSign sign);

  // Panels of `count` output pixels from `first` of one group of one image, with the sums of their
  // columns: [taps][quads of channels][panel_width][4].
  void pack(int64_t item, int64_t first, int64_t count, int8_t* panels, int32_t* column_sums) const;

 private:
  void fill_row(int64_t item, int64_t index, const uint8_t* x, const uint8_t* missing,
                uint8_t border, ByteSign sign);
  void pack_panel(int64_t item, int64_t first, int64_t count, int8_t* panel,
                  int32_t* column_sums) const;

  const ConvSizes& sizes_;
  Span span_;
  int64_t quads_;  // of the channels of a group
  int8_t* data_;   // [images and groups][quads][positions][4]
  int32_t* sums_;  // [images and groups][positions]: of the channels
};

}  // namespace bascule
