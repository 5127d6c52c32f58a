// SPDX-License-Identifier: Apache-2.0
// instruction sets: base avx2 avx512
// Depthwise convolution of one output row, vectorized over channels. One vector of channels goes
// over all pixels of the row before the next: its taps stay in registers or in the first cache, and
// a pixel of the input is loaded once for the block of neighbouring results that it is part of.
#include "kernels/conv/depthwise.h"
#include "kernels/conv/depthwise_pixels.h"

namespace bascule::BASCULE_ISA {
namespace {

// Pixels [begin, end) of a row have all their taps inside the input.
struct Inside {
  int64_t begin;
  int64_t end;

  explicit Inside(const DepthwiseRow& d) {
    const int64_t reach = (d.kernel - 1) * d.dilation + 1;
    begin = d.pad > 0 ? (d.pad + d.stride - 1) / d.stride : 0;
    end = d.width + d.pad >= reach ? (d.width + d.pad - reach) / d.stride + 1 : 0;
    if (end > d.out_width) end = d.out_width;
    if (begin > end) begin = end;
  }
};

// One vector of channels of a row.
template <bool whole>
struct Row {
  const DepthwiseRow& d;
  ChannelVector<whole> on;
  F32 bias;

  // One pixel of any kind: the taps that fall outside are left out.
  void pixel(int64_t out) const {
    const int64_t from = out * d.stride - d.pad;
    int64_t first = from < 0 ? (-from + d.dilation - 1) / d.dilation : 0;
    int64_t last = from < d.width ? (d.width - 1 - from) / d.dilation + 1 : 0;
    if (last > d.kernel) last = d.kernel;
    F32 sum = bias;
    for (int64_t r = 0; r < d.rows; ++r) {
      const float* x = d.x[r] + on.channel;
      const float* w = d.w[r] + on.channel;
      for (int64_t k = first; k < last; ++k) {
        sum =
            fma(on.get(x + (from + k * d.dilation) * d.x_stride), on.get(w + k * d.w_stride), sum);
      }
    }
    on.template put<1>(d, out * d.y_stride + on.channel, &sum);
  }

  // `pixels` pixels from `out`, dilation 1. The taps all lie inside the input, but for those on the
  // first `skip` columns of the block and the last `drop`, which are left out.
  template <int kernel, int stride, int pixels, int skip = 0, int drop = 0>
  __attribute__((always_inline)) void block(int64_t out) const {
    const int64_t x_stride = d.x_stride;
    const int64_t from = (out * stride - d.pad) * x_stride + on.channel;
    F32 sum[pixels];
#pragma GCC unroll 16
    for (int p = 0; p < pixels; ++p) sum[p] = bias;
    for (int64_t r = 0; r < d.rows; ++r) {
      const float* x = d.x[r] + from + skip * x_stride;
      const float* w = d.w[r] + on.channel;
      F32 tap[kernel];
#pragma GCC unroll 7
      for (int k = 0; k < kernel; ++k) tap[k] = on.get(w + k * d.w_stride);
      // Each input pixel, and the sums that it is part of. A sum still meets its taps in order.
#pragma GCC unroll 24
      for (int i = skip; i < (pixels - 1) * stride + kernel - drop; ++i) {
        const F32 value = on.get(x);
        x += x_stride;
#pragma GCC unroll 16
        for (int p = 0; p < pixels; ++p) {
          const int k = i - p * stride;
          if (k >= 0 && k < kernel) sum[p] = fma(value, tap[k], sum[p]);
        }
      }
    }
    on.template put<pixels>(d, out * d.y_stride + on.channel, sum);
  }

  // A row of blocks that are wide enough to hide the latency of their sums. Of the first, `skip`
  // columns are outside the input, of the last `drop`.
  template <int kernel, int stride, int pixels, int skip, int drop>
  void in_blocks() const {
    const int64_t last = d.out_width - pixels;
    if (last == 0) {
      block<kernel, stride, pixels, skip, drop>(0);
      return;
    }
    block<kernel, stride, pixels, skip>(0);
    for (int64_t out = pixels; out < last; out += pixels) block<kernel, stride, pixels>(out);
    block<kernel, stride, pixels, 0, drop>(last);
  }

  // False if the width is not a multiple of such a block, or the padding is of another kind.
  template <int kernel>
  bool in_wide_blocks() const {
    constexpr int half = kernel / 2;
    if (lanes < 16) return false;
    const int64_t width = d.out_width;
    const int64_t drop = (width - 1) * d.stride - d.pad + kernel - d.width;
    if (d.stride == 2) {
      if (kernel != 5 || width % 7 != 0) return false;
      if (d.pad == 2 && drop == 1) return in_blocks<5, 2, 7, 2, 1>(), true;
      if (d.pad == 1 && drop == 2) return in_blocks<5, 2, 7, 1, 2>(), true;
      return false;
    }
    if (d.pad != half || drop != half) return false;
    if (width % 16 == 0) {
      in_blocks<kernel, 1, 16, half, half>();
    } else if (width % 14 == 0) {
      in_blocks<kernel, 1, 14, half, half>();
    } else if (width % 7 == 0) {
      in_blocks<kernel, 1, 7, half, half>();
    } else {
      return false;
    }
    return true;
  }

  template <int kernel, int stride>
  void narrow_blocks(int64_t out, int64_t end) const {
    constexpr int pixels = lanes == 16 ? 8 : 4;
    for (; out + pixels <= end; out += pixels) block<kernel, stride, pixels>(out);
    for (; out + 2 <= end; out += 2) block<kernel, stride, 2>(out);
    if (out < end) block<kernel, stride, 1>(out);
  }

  // The row of a kernel with at most half of it as padding.
  template <int kernel, int stride>
  void padded(int64_t begin, int64_t end) const {
    constexpr int pad = kernel / 2;
    constexpr int left = (pad + stride - 1) / stride;
    if (d.pad == pad && begin == left && begin < end) {
      block<kernel, stride, left, pad>(0);
    } else {
      for (int64_t out = 0; out < begin; ++out) edge<kernel, stride>(out);
    }
    narrow_blocks<kernel, stride>(begin, end);
    if (stride == 1 && begin < end && d.out_width - end == pad) {
      block<kernel, stride, pad, 0, pad>(end);
    } else {
      for (int64_t out = end; out < d.out_width; ++out) edge<kernel, stride>(out);
    }
  }

  // The row of a kernel that is not often met, without padding for the most part.
  template <int kernel>
  void bare(int64_t begin, int64_t end) const {
    for (int64_t out = 0; out < begin; ++out) pixel(out);
    narrow_blocks<kernel, 1>(begin, end);
    for (int64_t out = end; out < d.out_width; ++out) pixel(out);
  }

  // A pixel that `outside` or more taps of each row are outside of, on one side.
  template <int kernel, int stride, int outside = 1>
  void edge(int64_t out) const {
    const int64_t before = d.pad - out * stride;
    const int64_t after = kernel - before - d.width;
    if constexpr (outside > kernel / 2) {
      pixel(out);
    } else if (before == outside && after <= 0) {
      block<kernel, stride, 1, outside>(out);
    } else if (after == outside && before <= 0) {
      block<kernel, stride, 1, 0, outside>(out);
    } else {
      edge<kernel, stride, outside + 1>(out);
    }
  }

  void run(const Inside& inside) const {
    const auto [begin, end] = inside;
    const bool plain = d.dilation == 1 && d.stride <= 2 && d.pad <= d.kernel / 2;
    if (plain && d.kernel == 3) {
      d.stride == 1 ? padded<3, 1>(begin, end) : padded<3, 2>(begin, end);
    } else if (plain && d.kernel == 5) {
      if (in_wide_blocks<5>()) return;
      d.stride == 1 ? padded<5, 1>(begin, end) : padded<5, 2>(begin, end);
    } else if (plain && d.kernel == 7) {
      if (in_wide_blocks<7>()) return;
      d.stride == 1 ? padded<7, 1>(begin, end) : padded<7, 2>(begin, end);
    } else if (d.dilation == 1 && d.stride == 1 && d.kernel == 1) {
      bare<1>(begin, end);
    } else if (d.dilation == 1 && d.stride == 1 && d.kernel == 2) {
      bare<2>(begin, end);
    } else if (d.dilation == 1 && d.stride == 1 && d.kernel == 4) {
      bare<4>(begin, end);
    } else {
      for (int64_t out = 0; out < d.out_width; ++out) pixel(out);
    }
  }
};

}  // namespace

void depthwise_row(const DepthwiseRow& d) {
  const Inside inside(d);
  for (int64_t i = 0; i < d.channels; i += lanes) {
    const int64_t count = d.channels - i;
    if (count >= lanes) {
      Row<true>{d, {i, lanes}, d.bias != nullptr ? load(d.bias + i) : F32{}}.run(inside);
    } else {
      Row<false>{d, {i, count}, d.bias != nullptr ? load(d.bias + i, count, 0) : F32{}}.run(inside);
    }
  }
}

}  // namespace bascule::BASCULE_ISA

#if BASCULE_ONCE
#include <algorithm>

#include "kernels/conv/run.h"
#include "simd/isa.h"
namespace bascule {
BASCULE_PER_ISA(void depthwise_row(const DepthwiseRow& row);
                void depthwise_3x3(const DepthwisePlane& plane));

namespace {

// Whether depthwise_3x3 does what is asked for.
bool fits_3x3(const ConvSizes& s) {
  if (s.kernel != Spatial{1, 3, 3} || s.dilation != Spatial{1, 1, 1} || s.in[0] != 1 ||
      s.stride[1] != s.stride[2] || s.stride[1] > 2) {
    return false;
  }
  for (const size_t axis : {1, 2}) {
    const int64_t beyond = (s.out[axis] - 1) * s.stride[axis] - s.pad[axis] + 3 - s.in[axis];
    if (s.in[axis] < 2 || s.pad[axis] > 1 || beyond > 1) return false;
  }
  return true;
}

void activate_rows(const ConvSizes& s, const DepthwiseStrip& t, int64_t begin, int64_t end) {
  const GemmEpilogue<float>& e = t.epilogue;
  if (e.activate == nullptr) return;
  float* y = t.y + begin * s.out[2] * s.in_channels;
  const int64_t pixels = (end - begin) * s.out[2];
  const bool whole = t.channels == s.in_channels;
  e.activate(y, s.in_channels, whole ? 1 : pixels, whole ? pixels * s.in_channels : t.channels,
             e.activation_alpha, e.activation_beta);
}

void run_3x3(const ConvSizes& s, const DepthwiseStrip& t, int64_t begin, int64_t end) {
  static const auto run_plane = BASCULE_PICK(depthwise_3x3);
  const GemmEpilogue<float>& e = t.epilogue;
  DepthwisePlane d{};
  d.x = t.x;
  d.first_row = t.first_row;
  d.height = s.in[1];
  d.width = s.in[2];
  d.channels = t.channels;
  d.x_stride = t.x_stride;
  d.x_row = s.in[2] * t.x_stride;
  d.w = t.w;
  d.w_stride = s.in_channels;
  d.stride = s.stride[1];
  d.pad_top = s.pad[1];
  d.pad_left = s.pad[2];
  d.y = t.y;
  d.y_stride = s.in_channels;
  d.out_width = s.out[2];
  d.bias = e.bias;
  d.residual = e.residual;
  d.clamp = e.clamp;
  d.low = e.low;
  d.high = e.high;
  // A few rows at a time: they stay in the second cache for the next channels.
  const int64_t step = std::max<int64_t>(1, 65536 / (s.in[2] * s.stride[1] * t.channels));
  for (d.begin = begin; d.begin < end; d.begin = d.end) {
    d.end = std::min(end, d.begin + step);
    run_plane(d);
    activate_rows(s, t, d.begin, d.end);
  }
}

}  // namespace

void run_depthwise_rows(const ConvSizes& s, const DepthwiseStrip& t, int64_t begin, int64_t end,
                        const float** pointers) {
  if (fits_3x3(s)) {
    run_3x3(s, t, begin, end);
    return;
  }
  static const auto run_row = BASCULE_PICK(depthwise_row);
  const GemmEpilogue<float>& e = t.epilogue;
  const float** x = pointers;
  const float** w = x + s.kernel[0] * s.kernel[1];
  DepthwiseRow d{};
  d.x = x;
  d.w = w;
  d.width = s.in[2];
  d.channels = t.channels;
  d.x_stride = t.x_stride;
  d.w_stride = s.in_channels;
  d.y_stride = s.in_channels;
  d.kernel = s.kernel[2];
  d.stride = s.stride[2];
  d.dilation = s.dilation[2];
  d.pad = s.pad[2];
  d.out_width = s.out[2];
  d.bias = e.bias;
  d.clamp = e.clamp;
  d.low = e.low;
  d.high = e.high;
  for (int64_t row = begin; row < end; ++row) {
    const int64_t oh = row % s.out[1];
    const int64_t od = row / s.out[1];
    d.rows = 0;
    for (int64_t kd = 0; kd < s.kernel[0]; ++kd) {
      const int64_t z = od * s.stride[0] - s.pad[0] + kd * s.dilation[0];
      if (z < 0 || z >= s.in[0]) continue;
      for (int64_t kh = 0; kh < s.kernel[1]; ++kh) {
        const int64_t y = oh * s.stride[1] - s.pad[1] + kh * s.dilation[1];
        if (y < 0 || y >= s.in[1]) continue;
        x[d.rows] = t.x + (z * s.in[1] + y - t.first_row) * s.in[2] * t.x_stride;
        w[d.rows] = t.w + (kd * s.kernel[1] + kh) * s.kernel[2] * s.in_channels;
        ++d.rows;
      }
    }
    const int64_t offset = row * s.out[2] * s.in_channels;
    d.y = t.y + offset;
    d.residual = e.residual != nullptr ? e.residual + offset : nullptr;
    run_row(d);
    activate_rows(s, t, row, row + 1);
  }
}

void run_depthwise(RunContext& c, const Convolution<float>& convolution) {
  const ConvSizes& s = convolution.sizes;
  const int64_t image_rows = s.out[0] * s.out[1];
  const int64_t rows = s.batch * image_rows;
  const int64_t parts = std::max<int64_t>(1, std::min<int64_t>(rows, c.threads()));
  const int64_t space = depthwise_pointers(s);
  const float** pointers = c.workspace<const float*>(space * parts);
  const double work = static_cast<double>(s.out[2] * s.in_channels * s.taps()) / 8;
  c.parallel_for(parts, work * static_cast<double>(rows) / static_cast<double>(parts),
                 [&](int64_t first, int64_t last) {
                   const int64_t last_row = rows * last / parts;
                   for (int64_t row = rows * first / parts; row < last_row;) {
                     const int64_t n = row / image_rows;
                     const int64_t end = std::min(last_row, (n + 1) * image_rows);
                     const int64_t y_offset = n * s.out_pixels() * s.in_channels;
                     DepthwiseStrip t{};
                     t.x = convolution.x + n * s.in_pixels() * s.in_channels;
                     t.x_stride = s.in_channels;
                     t.channels = s.in_channels;
                     t.w = convolution.w;
                     t.y = convolution.y + y_offset;
                     t.epilogue = convolution.epilogue;
                     if (t.epilogue.residual != nullptr) t.epilogue.residual += y_offset;
                     run_depthwise_rows(s, t, row - n * image_rows, end - n * image_rows,
                                        pointers + space * first);
                     row = end;
                   }
                 });
}
}  // namespace bascule
#endif
