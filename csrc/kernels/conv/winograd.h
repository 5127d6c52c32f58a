// SPDX-License-Identifier: Apache-2.0
// One tile of Winograd's F(4x4, 3x3) or F(2x2, 3x3), channels last. Plain data: no functions here.
#pragma once

#include <cstdint>

namespace bascule {

// Input pixels [top, top + tile + 2) x [left, left + tile + 2), zero outside the image -> planes of
// v.
struct WinogradInput {
  int tile;        // 4 or 2
  const float* x;  // the image [height, width, channels]
  int64_t height;
  int64_t width;
  int64_t channels;
  int64_t top;
  int64_t left;
  float* v;  // plane p, channel c at v[p * plane_stride + c]
  int64_t plane_stride;
};

// The planes of sums -> y[rows, columns] = clamp(result + bias + residual, low, high).
struct WinogradOutput {
  int tile;
  const float* sums;  // plane p, channel c at sums[p * plane_stride + c]
  int64_t plane_stride;
  int64_t channels;
  float* y;  // pixel (r, i) at y[r * row_stride + i * pixel_stride]
  int64_t row_stride;
  int64_t pixel_stride;
  int64_t rows;  // up to `tile`
  int64_t columns;
  const float* bias;      // [channels], or null
  const float* residual;  // like y, or null
  bool clamp;
  float low;
  float high;
};

}  // namespace bascule
