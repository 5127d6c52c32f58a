// SPDX-License-Identifier: Apache-2.0
// The channels-last input of an integer convolution, with its border where it has one.
#pragma once

#include "kernels/conv/geometry.h"
#include "runtime/run_context.h"

namespace bascule {

// Distances are in bytes. `sizes` are those of the same convolution on this image.
struct PixelImage {
  const uint8_t* data;
  ConvSizes sizes;
  int64_t row;
  int64_t plane;
  int64_t image;

  // From the first tap of an output pixel to tap `index`.
  int64_t of_tap(int64_t index) const {
    const ConvSizes& s = sizes;
    const int64_t x = index % s.kernel[2], y = index / s.kernel[2] % s.kernel[1];
    const int64_t z = index / s.kernel[2] / s.kernel[1];
    return z * s.dilation[0] * plane + y * s.dilation[1] * row + x * s.dilation[2] * s.in_channels;
  }
};

// Rows of output pixels that read input pixels of one distance: those of the output, or, where
// each pixel is made of one, all pixels in one row.
struct PixelRows {
  explicit PixelRows(const PixelImage& image);
  // Where the first tap of the first pixel of a row is.
  int64_t at(int64_t index) const {
    const ConvSizes& s = image_.sizes;
    const int64_t y = index % s.out[1], z = index / s.out[1] % s.out[0];
    return index / s.out[1] / s.out[0] * image_.image + z * s.stride[0] * image_.plane +
           y * s.stride[1] * image_.row;
  }

  int64_t width;
  int64_t count;

 private:
  const PixelImage& image_;
};

// An image that is not much larger than x even with its border: x, or the pixels under each tap of
// each output pixel. `border` is the byte outside.
PixelImage dense_image(RunContext& c, const ConvSizes& s, const uint8_t* x, uint8_t border);

// Each byte ^ flip, with its border: x itself, or a copy, which may be read some bytes beyond its
// end. `copied`: always a copy.
PixelImage unsigned_image(RunContext& c, const ConvSizes& s, const uint8_t* x, uint8_t border,
                          uint8_t flip, bool copied);

}  // namespace bascule
