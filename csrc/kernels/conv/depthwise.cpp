// SPDX-License-Identifier: Apache-2.0
// instruction sets: base avx2 avx512
// Depthwise convolution of one output row, vectorized over channels. A block of neighbouring pixels
// goes over the channels together: a tap is loaded once for the block, and a pixel of the input
// once for all taps of a row that fall on it.
#include "kernels/conv/depthwise.h"

#include "simd/vec.h"

namespace bascule::BASCULE_ISA {
namespace {

BASCULE_INLINE F32 finish(const DepthwiseRow& d, F32 sum, int64_t at, int64_t count) {
  if (d.residual != nullptr) sum = sum + load(d.residual + at, count, 0);
  if (d.clamp) {
    sum = sum < d.low ? set(d.low) : sum;
    sum = sum > d.high ? set(d.high) : sum;
  }
  return sum;
}

BASCULE_INLINE F32 start(const DepthwiseRow& d, int64_t channel, int64_t count) {
  return d.bias != nullptr ? load(d.bias + channel, count, 0) : F32{};
}

// One pixel, with the taps [first, last) of each row.
void pixel(const DepthwiseRow& d, int64_t out, int64_t first, int64_t last) {
  const int64_t from = out * d.stride - d.pad;
  for_vectors(d.channels, [&](int64_t channel, int64_t count) {
    F32 sum = start(d, channel, count);
    for (int64_t r = 0; r < d.rows; ++r) {
      const float* x = d.x[r] + channel;
      const float* w = d.w[r] + channel;
      for (int64_t k = first; k < last; ++k) {
        sum = fma(load(x + (from + k * d.dilation) * d.channels, count, 0),
                  load(w + k * d.channels, count, 0), sum);
      }
    }
    const int64_t at = out * d.channels + channel;
    store(d.y + at, finish(d, sum, at, count), count);
  });
}

// `pixels` pixels from `out` whose taps all lie inside the input, dilation 1.
template <int kernel, int stride, int pixels>
void pixel_block(const DepthwiseRow& d, int64_t out) {
  const int64_t channels = d.channels;
  const int64_t from = (out * stride - d.pad) * channels;
  for_vectors(channels, [&](int64_t channel, int64_t count) {
    F32 sum[pixels];
    const F32 bias = start(d, channel, count);
#pragma GCC unroll 8
    for (int p = 0; p < pixels; ++p) sum[p] = bias;
    for (int64_t r = 0; r < d.rows; ++r) {
      const float* x = d.x[r] + from + channel;
      const float* w = d.w[r] + channel;
      F32 tap[kernel];
#pragma GCC unroll 7
      for (int k = 0; k < kernel; ++k) tap[k] = load(w + k * channels, count, 0);
      // Each input pixel, and the sums that it is part of. A sum still meets its taps in order.
#pragma GCC unroll 24
      for (int i = 0; i < (pixels - 1) * stride + kernel; ++i) {
        const F32 value = load(x + i * channels, count, 0);
#pragma GCC unroll 8
        for (int p = 0; p < pixels; ++p) {
          const int k = i - p * stride;
          if (k >= 0 && k < kernel) sum[p] = fma(value, tap[k], sum[p]);
        }
      }
    }
#pragma GCC unroll 8
    for (int p = 0; p < pixels; ++p) {
      const int64_t at = (out + p) * channels + channel;
      store(d.y + at, finish(d, sum[p], at, count), count);
    }
  });
}

template <int kernel, int stride>
void inside(const DepthwiseRow& d, int64_t begin, int64_t end) {
  constexpr int pixels = lanes == 16 ? 8 : 4;
  int64_t out = begin;
  for (; out + pixels <= end; out += pixels) pixel_block<kernel, stride, pixels>(d, out);
  for (; out + 2 <= end; out += 2) pixel_block<kernel, stride, 2>(d, out);
  if (out < end) pixel_block<kernel, stride, 1>(d, out);
}

}  // namespace

void depthwise_row(const DepthwiseRow& d) {
  const int64_t reach = (d.kernel - 1) * d.dilation + 1;
  // Pixels [begin, end) have all their taps inside.
  int64_t begin = (d.pad + d.stride - 1) / d.stride;
  int64_t end = d.width + d.pad >= reach ? (d.width + d.pad - reach) / d.stride + 1 : 0;
  if (end > d.out_width) end = d.out_width;
  if (begin > end) begin = end;
  const auto border = [&](int64_t from, int64_t to) {
    for (int64_t out = from; out < to; ++out) {
      const int64_t x = out * d.stride - d.pad;
      int64_t first = x < 0 ? (-x + d.dilation - 1) / d.dilation : 0;
      int64_t last = x < d.width ? (d.width - 1 - x) / d.dilation + 1 : 0;
      if (last > d.kernel) last = d.kernel;
      if (first > last) first = last;
      pixel(d, out, first, last);
    }
  };
  border(0, begin);
  const bool plain = d.dilation == 1 && d.stride <= 2;
  if (plain && d.kernel == 3) {
    d.stride == 1 ? inside<3, 1>(d, begin, end) : inside<3, 2>(d, begin, end);
  } else if (plain && d.kernel == 5) {
    d.stride == 1 ? inside<5, 1>(d, begin, end) : inside<5, 2>(d, begin, end);
  } else if (plain && d.kernel == 7) {
    d.stride == 1 ? inside<7, 1>(d, begin, end) : inside<7, 2>(d, begin, end);
  } else {
    for (int64_t out = begin; out < end; ++out) pixel(d, out, 0, d.kernel);
  }
  border(end, d.out_width);
}

}  // namespace bascule::BASCULE_ISA

#if BASCULE_ONCE
#include <algorithm>

#include "kernels/conv/run.h"
#include "simd/isa.h"
namespace bascule {
BASCULE_PER_ISA(void depthwise_row(const DepthwiseRow& row));

void run_depthwise(RunContext& c, const Convolution<float>& convolution) {
  static const auto run_row = BASCULE_PICK(depthwise_row);
  const ConvSizes& s = convolution.sizes;
  const GemmEpilogue<float>& e = convolution.epilogue;
  const int64_t channels = s.in_channels;
  const int64_t tap_rows = s.kernel[0] * s.kernel[1];
  const int64_t out_row = s.out[2] * channels;
  const int64_t rows = s.batch * s.out[0] * s.out[1];
  const int64_t parts = std::max<int64_t>(1, std::min<int64_t>(rows, c.threads()));
  const float** pointers = c.workspace<const float*>(2 * tap_rows * parts);
  const double work = static_cast<double>(out_row * s.taps()) / 8;
  c.parallel_for(
      parts, work * static_cast<double>(rows) / static_cast<double>(parts),
      [&](int64_t first, int64_t last) {
        const float** x = pointers + 2 * tap_rows * first;
        const float** w = x + tap_rows;
        DepthwiseRow d{};
        d.x = x;
        d.w = w;
        d.width = s.in[2];
        d.channels = channels;
        d.kernel = s.kernel[2];
        d.stride = s.stride[2];
        d.dilation = s.dilation[2];
        d.pad = s.pad[2];
        d.out_width = s.out[2];
        d.bias = e.bias;
        d.clamp = e.clamp;
        d.low = e.low;
        d.high = e.high;
        for (int64_t row = rows * first / parts; row < rows * last / parts; ++row) {
          const int64_t oh = row % s.out[1];
          const int64_t od = row / s.out[1] % s.out[0];
          const int64_t n = row / s.out[1] / s.out[0];
          d.rows = 0;
          for (int64_t kd = 0; kd < s.kernel[0]; ++kd) {
            const int64_t z = od * s.stride[0] - s.pad[0] + kd * s.dilation[0];
            if (z < 0 || z >= s.in[0]) continue;
            for (int64_t kh = 0; kh < s.kernel[1]; ++kh) {
              const int64_t y = oh * s.stride[1] - s.pad[1] + kh * s.dilation[1];
              if (y < 0 || y >= s.in[1]) continue;
              x[d.rows] = convolution.x + ((n * s.in[0] + z) * s.in[1] + y) * s.in[2] * channels;
              w[d.rows] = convolution.w + (kd * s.kernel[1] + kh) * s.kernel[2] * channels;
              ++d.rows;
            }
          }
          d.y = convolution.y + row * out_row;
          d.residual = e.residual != nullptr ? e.residual + row * out_row : nullptr;
          run_row(d);
          if (e.activate != nullptr) {
            e.activate(d.y, out_row, 1, out_row, e.activation_alpha, e.activation_beta);
          }
        }
      });
}
}  // namespace bascule
#endif
