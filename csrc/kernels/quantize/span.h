// SPDX-License-Identifier: Apache-2.0
// The positions of an image that the taps of a convolution touch, from the padding on.
#pragma once

#include <algorithm>

#include "kernels/conv/geometry.h"

namespace bascule {

class Span {
 public:
  explicit Span(const ConvSizes& sizes) : sizes_(sizes) {
    for (size_t i = 0; i < 3; ++i) {
      extent_[i] =
          (sizes.out[i] - 1) * sizes.stride[i] + (sizes.kernel[i] - 1) * sizes.dilation[i] + 1;
    }
  }

  // False for one that is much larger than the image, by wide steps over padding.
  bool is_dense() const {
    double positions = 1;
    for (const int64_t extent : extent_) positions *= static_cast<double>(extent);
    return positions <= 4 * static_cast<double>(sizes_.in_pixels()) + 4096;
  }

  // True when there is no padding, and no step over the end.
  bool is_inside() const {
    for (size_t i = 0; i < 3; ++i) {
      if (sizes_.pad[i] != 0 || extent_[i] > sizes_.in[i]) return false;
    }
    return true;
  }

  int64_t width() const { return extent_[2]; }
  int64_t plane_rows() const { return extent_[1]; }
  int64_t rows() const { return extent_[0] * extent_[1]; }

  // Positions [begin, end) of a row are pixels of the input, the first of which is `pixel`.
  struct Row {
    int64_t begin;
    int64_t end;
    int64_t pixel;
  };
  Row row(int64_t index) const {
    const int64_t z = index / extent_[1] - sizes_.pad[0], y = index % extent_[1] - sizes_.pad[1];
    const int64_t width = extent_[2];
    if (z < 0 || z >= sizes_.in[0] || y < 0 || y >= sizes_.in[1]) return {width, width, 0};
    const int64_t begin = std::clamp<int64_t>(sizes_.pad[2], 0, width);
    const int64_t end = std::clamp(sizes_.pad[2] + sizes_.in[2], begin, width);
    return {begin, end, (z * sizes_.in[1] + y) * sizes_.in[2] + begin - sizes_.pad[2]};
  }

 private:
  const ConvSizes& sizes_;
  Spatial extent_;
};

}  // namespace bascule
