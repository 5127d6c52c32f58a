// SPDX-License-Identifier: Apache-2.0
// The phases of a ConvTranspose: outputs of equal position modulo the stride, which read the same
// taps.
#pragma once

#include <algorithm>
#include <array>
#include <numeric>
#include <vector>

#include "kernels/conv/run.h"

namespace bascule {

// The taps k of one axis whose k * dilation is r modulo the stride: every step-th from the first.
struct PhaseTaps {
  int64_t first = 0;
  int64_t step;

  PhaseTaps(const ConvSizes& s, size_t axis, int64_t r) {
    const int64_t stride = s.stride[axis];
    const int64_t dilation = s.dilation[axis] % stride;
    step = stride / std::gcd(stride, dilation);
    if (dilation == 1) {
      first = r;
      return;
    }
    const int64_t end = std::min(step, s.kernel[axis]);
    while (first < end && first * dilation % stride != r) ++first;
    if (first == end) first = s.kernel[axis];  // there is none
  }
};

// Calls body(kd, kh, kw) for the taps of the phase whose outputs are at r - pad modulo the stride.
template <class Body>
void for_taps(const ConvSizes& s, const Spatial& r, Body&& body) {
  const PhaseTaps depth(s, 0, r[0]);
  const PhaseTaps height(s, 1, r[1]);
  const PhaseTaps across(s, 2, r[2]);
  for (int64_t d = depth.first; d < s.kernel[0]; d += depth.step) {
    for (int64_t h = height.first; h < s.kernel[1]; h += height.step) {
      for (int64_t w = across.first; w < s.kernel[2]; w += across.step) body(d, h, w);
    }
  }
}

// The phases of each axis that have taps or outputs, in ascending order. A stride may be far
// greater than their number.
struct Phases {
  std::array<std::vector<int64_t>, 3> axes;

  explicit Phases(const ConvSizes& s) {
    for (size_t axis = 0; axis < 3; ++axis) {
      const int64_t stride = s.stride[axis];
      std::vector<int64_t>& found = axes[axis];
      for (int64_t k = 0; k < std::min(s.kernel[axis], stride); ++k) {
        found.push_back(k * s.dilation[axis] % stride);
      }
      for (int64_t i = 0; i < std::min(s.out[axis], stride); ++i) {
        found.push_back((i + s.pad[axis]) % stride);
      }
      std::sort(found.begin(), found.end());
      found.erase(std::unique(found.begin(), found.end()), found.end());
    }
  }

  template <class Body>
  void for_each(Body&& body) const {
    for (const int64_t d : axes[0]) {
      for (const int64_t h : axes[1]) {
        for (const int64_t w : axes[2]) body(Spatial{d, h, w});
      }
    }
  }
};

// Output positions a, a + stride, ... of one axis and phase, and the input they read: output i of
// the phase reads input i + shift(k).
struct PhaseAxis {
  int64_t first;  // output position
  int64_t count;

  PhaseAxis(const ConvSizes& s, size_t axis, int64_t r) {
    const int64_t stride = s.stride[axis];
    first = ((r - s.pad[axis]) % stride + stride) % stride;
    count = first < s.out[axis] ? (s.out[axis] - first + stride - 1) / stride : 0;
  }
  int64_t shift(const ConvSizes& s, size_t axis, int64_t k) const {
    return (first + s.pad[axis] - k * s.dilation[axis]) / s.stride[axis];
  }
};

// Depthwise, channels last; weights are packed by pack_weights.
void run_transposed_depthwise(RunContext& c, const Convolution<float>& convolution);

}  // namespace bascule
