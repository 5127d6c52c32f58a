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

void scale_channels(RunContext& c, const float* factor, Convolution<float>& v) {
  const ConvSizes& s = v.sizes;
  const int64_t channels = s.in_channels;
  // One image of many pixels: there is less of the weights than of the input.
  if (s.batch == 1 && s.group == 1 && !v.winograd && s.in_pixels() > s.taps() * s.out_channels) {
    static const auto scale = BASCULE_PICK(scale_rows);
    const int64_t width = gemm_functions<float>().panel_width;
    const int64_t rows = s.taps() * channels;
    float* w = c.workspace<float>(packed_weights_size<float>(s));
    c.parallel_for((s.out_channels + width - 1) / width, static_cast<double>(rows * width) / 8,
                   [&](int64_t begin, int64_t end) {
                     for (int64_t panel = begin; panel < end; ++panel) {
                       const int64_t offset = panel * rows * width;
                       scale(v.w + offset, factor, channels, rows, width, w + offset);
                     }
                   });
    v.w = w;
    return;
  }
  static const auto scale = BASCULE_PICK(scale_columns);
  const int64_t pixels = s.in_pixels();
  float* x = c.workspace<float>(s.batch * pixels * channels);
  c.parallel_for(s.batch * pixels, static_cast<double>(channels) / 8,
                 [&](int64_t begin, int64_t end) {
                   while (begin < end) {
                     const int64_t n = begin / pixels;
                     const int64_t count = std::min(end, (n + 1) * pixels) - begin;
                     scale(v.x + begin * channels, factor + n * channels, count, channels,
                           x + begin * channels);
                     begin += count;
                   }
                 });
  v.x = x;
}
}  // namespace bascule
#endif
