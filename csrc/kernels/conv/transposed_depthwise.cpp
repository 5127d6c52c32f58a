// SPDX-License-Identifier: Apache-2.0
// Depthwise ConvTranspose: each phase of a row of outputs is a row of a depthwise convolution
// without stride, whose results are a stride apart.
#include "kernels/conv/depthwise.h"
#include "kernels/conv/transposed.h"
#include "simd/isa.h"

namespace bascule {

BASCULE_PER_ISA(void depthwise_row(const DepthwiseRow& row));

namespace {

// Input and weights for one row of outputs, by rows of taps.
struct TapRows {
  const float** x;
  const float** w;
  int64_t count = 0;
};

// The rows of taps that meet the input for output row `oh` of depth `od`.
void find_rows(const ConvSizes& s, const float* x, const float* w, int64_t od, int64_t oh,
               TapRows& rows) {
  // The input that a tap reads, or -1.
  const auto source = [&](size_t axis, int64_t out, int64_t k) {
    const int64_t at = out + s.pad[axis] - k * s.dilation[axis];
    return at >= 0 && at % s.stride[axis] == 0 && at / s.stride[axis] < s.in[axis]
               ? at / s.stride[axis]
               : -1;
  };
  rows.count = 0;
  for (int64_t kd = 0; kd < s.kernel[0]; ++kd) {
    const int64_t z = source(0, od, kd);
    for (int64_t kh = 0; kh < s.kernel[1] && z >= 0; ++kh) {
      const int64_t y = source(1, oh, kh);
      if (y < 0) continue;
      rows.x[rows.count] = x + (z * s.in[1] + y) * s.in[2] * s.in_channels;
      rows.w[rows.count] = w + (kd * s.kernel[1] + kh) * s.kernel[2] * s.in_channels;
      ++rows.count;
    }
  }
}

// The phase r of a row, as a convolution that reads its taps from the last to the first: they then
// meet the input from left to right. `w` is scratch memory.
DepthwiseRow phase_row(const ConvSizes& s, int64_t r, const TapRows& rows, const float** w,
                       float* y) {
  const PhaseTaps taps(s, 2, r);
  const PhaseAxis outputs(s, 2, r);
  DepthwiseRow d{};
  d.channels = d.x_stride = s.in_channels;
  d.w_stride = -taps.step * s.in_channels;
  d.y_stride = s.stride[2] * s.in_channels;
  d.kernel = taps.first < s.kernel[2] ? (s.kernel[2] - 1 - taps.first) / taps.step + 1 : 0;
  d.stride = 1;
  d.dilation = taps.step * s.dilation[2] / s.stride[2];
  const int64_t last = taps.first + (d.kernel - 1) * taps.step;
  d.pad = d.kernel > 0 ? -outputs.shift(s, 2, last) : 0;
  for (int64_t i = 0; i < rows.count; ++i) w[i] = rows.w[i] + last * s.in_channels;
  d.x = rows.x;
  d.w = w;
  d.rows = d.kernel > 0 ? rows.count : 0;
  d.width = s.in[2];
  d.y = y + outputs.first * s.in_channels;
  d.out_width = outputs.count;
  return d;
}

}  // namespace

void run_transposed_depthwise(RunContext& c, const Convolution<float>& v) {
  static const auto run_row = BASCULE_PICK(depthwise_row);
  const ConvSizes& s = v.sizes;
  const GemmEpilogue<float>& e = v.epilogue;
  const Phases phases(s);
  const int64_t rows = s.batch * s.out[0] * s.out[1];
  const int64_t parts = std::max<int64_t>(1, std::min<int64_t>(rows, c.threads()));
  const int64_t most = s.kernel[0] * s.kernel[1];
  const float** pointers = c.workspace<const float*>(3 * most * parts);
  const double work = static_cast<double>(s.in_pixels() * s.batch * s.in_channels * s.taps()) / 8;
  c.parallel_for(parts, work / static_cast<double>(parts), [&](int64_t first, int64_t last) {
    const float** at = pointers + 3 * most * first;
    TapRows taps{at, at + most};
    for (int64_t row = rows * first / parts; row < rows * last / parts; ++row) {
      const int64_t oh = row % s.out[1];
      const int64_t od = row / s.out[1] % s.out[0];
      const int64_t n = row / s.out[1] / s.out[0];
      find_rows(s, v.x + n * s.in_pixels() * s.in_channels, v.w, od, oh, taps);
      float* y = v.y + row * s.out[2] * s.in_channels;
      for (const int64_t r : phases.axes[2]) {
        DepthwiseRow d = phase_row(s, r, taps, at + 2 * most, y);
        if (d.out_width <= 0) continue;
        d.bias = e.bias;
        d.clamp = e.clamp;
        d.low = e.low;
        d.high = e.high;
        run_row(d);
      }
      if (e.activate != nullptr) {
        e.activate(y, s.in_channels, 1, s.out[2] * s.in_channels, e.activation_alpha,
                   e.activation_beta);
      }
    }
  });
}

}  // namespace bascule
