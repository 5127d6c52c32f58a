// SPDX-License-Identifier: Apache-2.0
// Sliding windows over up to three spatial axes: attributes, sizes of the output, and the part of
// each window that lies inside the input.
#pragma once

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "core/shape.h"
#include "runtime/node.h"

namespace bascule {

inline constexpr int max_spatial = 3;

// The windows along one axis.
struct WindowAxis {
  int64_t input = 1;
  int64_t output = 1;
  int64_t kernel = 1;
  int64_t stride = 1;
  int64_t dilation = 1;
  int64_t pad_begin = 0;
  int64_t pad_end = 0;

  // The window of output position o: taps [first, first + count) are inside the input, the first of
  // them at `start`. `padded` counts those inside the input and its declared padding.
  struct Range {
    int64_t start;
    int64_t first;
    int64_t count;
    int64_t padded;
  };
  Range window(int64_t o) const {
    const int64_t origin = o * stride - pad_begin;
    const auto below = [&](int64_t limit) {
      if (limit <= origin) return int64_t{0};
      return std::min(kernel, (limit - origin + dilation - 1) / dilation);
    };
    const int64_t first = below(0);
    const int64_t count = std::max<int64_t>(0, below(input) - first);
    return {origin + first * dilation, first, count, below(input + pad_end)};
  }
};

// Always three axes; those that the tensor does not have come first and have size 1.
using WindowAxes = std::array<WindowAxis, max_spatial>;

// The attributes that the pooling operators share.
struct PoolAttributes {
  explicit PoolAttributes(const NodeSpec& node);

  // The windows over the `spatial` sizes; an error when the attributes do not fit them.
  WindowAxes axes(const int64_t* spatial, int rank) const;

  std::vector<int64_t> kernel;
  std::vector<int64_t> strides;
  std::vector<int64_t> dilations;
  std::vector<int64_t> pads;
  std::string auto_pad;
  bool ceil_mode;
};

}  // namespace bascule
