// SPDX-License-Identifier: Apache-2.0
// instruction sets: base avx2 avx512
// A factor for each input channel of a convolution, applied to the weights or to the input.
#include "simd/vec.h"

namespace bascule::BASCULE_ISA {

// to[row][column] = from[row][column] * factor[row % channels].
void scale_rows(const float* from, const float* factor, int64_t channels, int64_t rows,
                int64_t columns, float* to) {
  int64_t channel = 0;
  for (int64_t row = 0; row < rows; ++row) {
    const F32 f = set(factor[channel]);
    for_vectors(columns, [&](int64_t i, int64_t count) {
      store(to + row * columns + i, load(from + row * columns + i, count, 0) * f, count);
    });
    if (++channel == channels) channel = 0;
  }
}

// to[row][column] = from[row][column] * factor[column].
void scale_columns(const float* from, const float* factor, int64_t rows, int64_t columns,
                   float* to) {
  for (int64_t row = 0; row < rows; ++row) {
    for_vectors(columns, [&](int64_t i, int64_t count) {
      const F32 x = load(from + row * columns + i, count, 0);
      store(to + row * columns + i, x * load(factor + i, count, 0), count);
    });
  }
}

}  // namespace bascule::BASCULE_ISA

#if BASCULE_ONCE
#include <algorithm>

#include "kernels/conv/run.h"
#include "simd/isa.h"
namespace bascule {
BASCULE_PER_ISA(void scale_rows(const float* from, const float* factor, int64_t channels,
                                int64_t rows, int64_t columns, float* to);
                void scale_columns(const float* from, const float* factor, int64_t rows,
                                   int64_t columns, float* to));

namespace {

// Packed weights with a factor for each input channel.
void scale_weights(RunContext& c, const ConvSizes& s, const float* w, const float* factor,
                   float* to) {
  static const auto scale = BASCULE_PICK(scale_rows);
  const int64_t width = gemm_functions<float>().panel_width;
  const int64_t rows = s.taps() * s.in_channels;
  c.parallel_for((s.out_channels + width - 1) / width, static_cast<double>(rows * width) / 8,
                 [&](int64_t begin, int64_t end) {
                   const int64_t from = begin * rows * width;
                   scale(w + from, factor, s.in_channels, (end - begin) * rows, width, to + from);
                 });
}

// All images with a factor for each of their channels.
void scale_input(RunContext& c, const ConvSizes& s, const float* x, const float* factor,
                 float* to) {
  static const auto scale = BASCULE_PICK(scale_columns);
  const int64_t pixels = s.in_pixels();
  const int64_t channels = s.in_channels;
  c.parallel_for(s.batch * pixels, static_cast<double>(channels) / 8,
                 [&](int64_t begin, int64_t end) {
                   while (begin < end) {
                     const int64_t n = begin / pixels;
                     const int64_t count = std::min(end, (n + 1) * pixels) - begin;
                     scale(x + begin * channels, factor + n * channels, count, channels,
                           to + begin * channels);
                     begin += count;
                   }
                 });
}

}  // namespace

void run_scaled_convolution(RunContext& c, const float* factor, Convolution<float> v) {
  const ConvSizes s = v.sizes;
  if (s.group > 1 || v.winograd_tile > 0 || v.overlaps ||
      s.in_pixels() <= s.taps() * s.out_channels) {
    float* x = c.workspace<float>(s.batch * s.in_pixels() * s.in_channels);
    scale_input(c, s, v.x, factor, x);
    v.x = x;
    return run_convolution(c, v);
  }
  const float* w = v.w;
  float* scaled = c.workspace<float>(packed_weights_size<float>(s));
  v.w = scaled;
  v.sizes.batch = 1;
  for (int64_t n = 0; n < s.batch; ++n) {
    scale_weights(c, s, w, factor + n * s.in_channels, scaled);
    run_convolution(c, v);
    v.x += s.in_pixels() * s.in_channels;
    v.y += s.out_pixels() * s.out_channels;
    if (v.epilogue.residual != nullptr) v.epilogue.residual += s.out_pixels() * s.out_channels;
  }
}
}  // namespace bascule
#endif
