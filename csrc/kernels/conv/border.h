// SPDX-License-Identifier: Apache-2.0
// A copy of an image with a border of zeros, so that every tap of a convolution reads memory.
#pragma once

#include <algorithm>
#include <cstring>

#include "kernels/conv/geometry.h"

namespace bascule {

// The input of one image as the taps read it, in pixels, border included.
struct Bordered {
  Spatial size;
  Spatial before{0, 0, 0};  // pixels of border before the image
  bool copied = false;      // otherwise the image itself will do
};

// Row `row` of the bordered buffer (depth and height as one index). `copy(pixel, count, to)` copies
// pixels of the image.
template <class T, class Copy>
void fill_bordered_row(const ConvSizes& s, const Bordered& b, T* border, int64_t row, Copy&& copy) {
  const int64_t channels = s.in_channels;
  if (channels == 0) return;  // pixels of nothing
  const int64_t width = b.size[2] * channels;
  T* to = border + row * width;
  const int64_t z = row / b.size[1] - b.before[0];
  const int64_t y = row % b.size[1] - b.before[1];
  if (z < 0 || z >= s.in[0] || y < 0 || y >= s.in[1]) {
    std::fill_n(to, width, T{});
    return;
  }
  const int64_t left = std::min(b.before[2] * channels, width);
  const int64_t middle = std::min(s.in[2] * channels, width - left);
  std::fill_n(to, left, T{});
  copy((z * s.in[1] + y) * s.in[2], middle / channels, to + left);
  std::fill_n(to + left + middle, width - left - middle, T{});
}

// The same from an image with channels last.
template <class T>
void copy_bordered_row(const ConvSizes& s, const Bordered& b, const T* image, T* border,
                       int64_t row) {
  fill_bordered_row(s, b, border, row, [&](int64_t pixel, int64_t count, T* to) {
    std::memcpy(to, image + pixel * s.in_channels,
                static_cast<size_t>(count * s.in_channels) * sizeof(T));
  });
}

}  // namespace bascule
