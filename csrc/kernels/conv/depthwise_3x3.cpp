// SPDX-License-Identifier: Apache-2.0
// instruction sets: base avx2 avx512
// Depthwise 3x3 convolution of some rows of an image, vectorized over channels: a vector of
// channels goes over all of the rows before the next, with its nine taps in registers.
#include "kernels/conv/depthwise.h"
#include "kernels/conv/depthwise_pixels.h"

namespace bascule::BASCULE_ISA {
namespace {

// One vector of channels.
template <bool whole, int stride>
struct Plane {
  const DepthwisePlane& d;
  ChannelVector<whole> on;
  F32 tap[9];
  F32 bias;

  // `pixels` neighbouring results; `x` is the first pixel that they read, in the row of tap row
  // `first`. Tap rows from `last` on and tap columns outside [left, right) are outside the image.
  template <int first, int last, int pixels, int left = 0, int right = 3>
  __attribute__((always_inline)) void block(const float* x, int64_t at) const {
    const int64_t step = d.x_stride;
    F32 sum[pixels];
#pragma GCC unroll 7
    for (int p = 0; p < pixels; ++p) sum[p] = bias;
#pragma GCC unroll 3
    for (int r = first; r < last; ++r) {
      const float* from = x;
      // Each input pixel, and the sums that it is part of. A sum still meets its taps in order.
#pragma GCC unroll 15
      for (int i = left; i < (pixels - 1) * stride + right; ++i) {
        const F32 value = on.get(from);
        from += step;
#pragma GCC unroll 7
        for (int p = 0; p < pixels; ++p) {
          const int k = i - p * stride;
          if (k >= 0 && k < 3) sum[p] = fma(value, tap[3 * r + k], sum[p]);
        }
      }
      x += d.x_row;
    }
    on.template put<pixels>(d, at, sum);
  }

  // One row of results; `x` is the image's row of tap row `first`.
  template <int first, int last>
  __attribute__((always_inline)) void row(const float* x, int64_t at) const {
    // Sums enough to hide their latency, and a divisor of most widths: edges are parts of blocks.
    constexpr int wide = lanes == 16 ? 7 : 4;
    const int64_t pad = d.pad_left;
    const int64_t inside = d.width + pad >= 3 ? (d.width + pad - 3) / stride + 1 : 0;
    const int64_t end = inside < d.out_width ? inside : d.out_width;
    int64_t left = d.out_width;
    const auto next = [&](int64_t pixels, int64_t skip) __attribute__((always_inline)) {
      x += (pixels * stride - skip) * d.x_stride;
      at += pixels * d.y_stride;
      left -= pixels;
    };
    const int64_t beyond = left - end;
    if (pad > 0) {
      if (left == wide && beyond == 1) return block<first, last, wide, 1, 2>(x, at);
      if (left - beyond >= wide) {
        block<first, last, wide, 1>(x, at);
        next(wide, 1);
      } else {
        block<first, last, 1, 1>(x, at);
        next(1, 1);
      }
    }
    for (; left - beyond >= wide; next(wide, 0)) block<first, last, wide>(x, at);
    if (left == wide) return block<first, last, wide, 0, 2>(x, at);
    for (; left - beyond >= 2; next(2, 0)) block<first, last, 2>(x, at);
    if (left > beyond) {
      block<first, last, 1>(x, at);
      next(1, 0);
    }
    if (left > 0) block<first, last, 1, 0, 2>(x, at);
  }

  void run() const {
    for (int64_t out = d.begin; out < d.end; ++out) {
      const int64_t top = out * stride - d.pad_top;
      const float* x = d.x + (top - d.first_row) * d.x_row + on.channel;
      const int64_t at = (out * d.out_width) * d.y_stride + on.channel;
      if (top < 0) {
        row<1, 3>(x + d.x_row, at);
      } else if (top + 3 > d.height) {
        row<0, 2>(x, at);
      } else {
        row<0, 3>(x, at);
      }
    }
  }
};

template <bool whole, int stride>
void run_channels(const DepthwisePlane& d, int64_t channel) {
  const int64_t count = d.channels - channel < lanes ? d.channels - channel : lanes;
  Plane<whole, stride> plane{d, {channel, count}, {}, {}};
  for (int k = 0; k < 9; ++k) plane.tap[k] = plane.on.get(d.w + k * d.w_stride + channel);
  if (d.bias != nullptr) plane.bias = plane.on.get(d.bias + channel);
  plane.run();
}

}  // namespace

void depthwise_3x3(const DepthwisePlane& d) {
  for (int64_t channel = 0; channel < d.channels; channel += lanes) {
    if (d.channels - channel >= lanes) {
      d.stride == 1 ? run_channels<true, 1>(d, channel) : run_channels<true, 2>(d, channel);
    } else {
      d.stride == 1 ? run_channels<false, 1>(d, channel) : run_channels<false, 2>(d, channel);
    }
  }
}

}  // namespace bascule::BASCULE_ISA
