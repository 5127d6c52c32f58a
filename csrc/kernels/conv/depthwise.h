// SPDX-License-Identifier: Apache-2.0
// Parts of a depthwise convolution, channels last. Plain data: no functions here.
#pragma once

#include <cstdint>

namespace bascule {

// y[pixel, channel] = clamp(bias + sum over rows and columns of taps + residual, low, high). Each
// sum runs over the taps in order, those outside the input left out.
struct DepthwiseRow {
  const float* const* x;  // an input row of `width` pixels for each row of taps inside the input
  const float* const* w;  // the row's `kernel` taps
  int64_t rows;
  int64_t width;
  int64_t channels;
  int64_t x_stride;  // between pixels
  int64_t w_stride;  // between taps
  int64_t y_stride;
  int64_t kernel;
  int64_t stride;
  int64_t dilation;
  int64_t pad;
  float* y;
  int64_t out_width;
  const float* bias;      // [channels], or null
  const float* residual;  // like y, or null
  bool clamp;
  float low;
  float high;
};

// Rows [begin, end) of a 3x3 convolution of one image, stride 1 or 2, at least two rows and
// columns, and at most one of padding on each side. The sums are the same.
struct DepthwisePlane {
  const float* x;  // the image from row `first_row` on; rows that no tap meets are not read
  int64_t first_row;
  int64_t height;
  int64_t width;
  int64_t channels;
  int64_t x_stride;  // between pixels
  int64_t x_row;     // between rows
  const float* w;    // 9 taps
  int64_t w_stride;
  int64_t stride;
  int64_t pad_top;
  int64_t pad_left;
  float* y;  // row 0, `out_width` pixels each
  int64_t y_stride;
  int64_t out_width;
  int64_t begin;
  int64_t end;
  const float* bias;      // [channels], or null
  const float* residual;  // like y, or null
  bool clamp;
  float low;
  float high;
};

}  // namespace bascule
