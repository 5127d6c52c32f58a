// SPDX-License-Identifier: Apache-2.0
// Whether Winograd's form pays, and its weights G g G'.
#include <algorithm>
#include <vector>

#include "kernels/conv/run.h"

namespace bascule {

namespace {

constexpr double a = 0.75;
constexpr double b = 1.5;
constexpr double n0 = a * a * b * b;
constexpr double na = 2 * a * a * (a * a - b * b);
constexpr double nb = 2 * b * b * (b * b - a * a);
constexpr double g4[6][3] = {{1 / n0, 0, 0},
                             {1 / na, a / na, a * a / na},
                             {1 / na, -a / na, a * a / na},
                             {1 / nb, b / nb, b * b / nb},
                             {1 / nb, -b / nb, b * b / nb},
                             {0, 0, 1}};
constexpr double g2[4][3] = {{1, 0, 0}, {0.5, 0.5, 0.5}, {0.5, -0.5, 0.5}, {0, 0, 1}};

}  // namespace

bool takes_winograd(const ConvSizes& s) {
  // The weights of more channels would take more memory than the speed is worth.
  return s.kernel == Spatial{1, 3, 3} && s.stride == Spatial{1, 1, 1} &&
         s.dilation == Spatial{1, 1, 1} && s.group == 1 && s.in[0] == 1 && s.out[0] == 1 &&
         s.in_channels * s.out_channels <= 512 * 512;
}

int winograd_tile(const ConvSizes& s) {
  if (!takes_winograd(s)) return 0;
  const int64_t pairs = s.in_channels * s.out_channels;
  // In multiplications: a weight comes from memory in the time of about 12, and the transforms of a
  // channel take about 6 for each plane. The direct form needs 9 for each result; it is simpler,
  // and preferred where the other hardly gains.
  constexpr int64_t from_memory = 12;
  const int64_t direct = 9 * (s.out_pixels() + from_memory) * pairs;
  int best = 0;
  int64_t least = direct * 9 / 10;
  for (const int tile : {2, 4}) {
    const int64_t planes = winograd_planes(tile);
    const int64_t tiles = ((s.out[1] + tile - 1) / tile) * ((s.out[2] + tile - 1) / tile);
    const int64_t work =
        planes * ((tiles + from_memory) * pairs + tiles * 6 * (s.in_channels + s.out_channels));
    if (work < least) {
      best = tile;
      least = work;
    }
  }
  return best;
}

int64_t winograd_weights_size(const ConvSizes& s, int tile) {
  return winograd_planes(tile) * packed_size<float>(s.in_channels, s.out_channels);
}

void pack_winograd(const ConvSizes& s, int tile, const float* w, float* packed) {
  const double (*const g)[3] = tile == 2 ? g2 : g4;
  const int64_t side = tile + 2;
  const int64_t planes = winograd_planes(tile);
  const int64_t pairs = s.in_channels * s.out_channels;
  std::vector<float> planes_of(static_cast<size_t>(planes * pairs));
  // Some pairs at a time: written one by one, the planes would push each other out of the cache.
  constexpr int64_t step = 64;
  for (int64_t from = 0; from < pairs; from += step) {
    const int64_t count = std::min(step, pairs - from);
    double taps[9][step] = {};
    for (int64_t i = 0; i < count; ++i) {
      for (int64_t k = 0; k < 9; ++k) taps[k][i] = w[(from + i) * 9 + k];
    }
    for (int64_t row = 0; row < side; ++row) {
      double half[3][step];
      for (int64_t k = 0; k < 3; ++k) {
        for (int64_t i = 0; i < step; ++i) {
          half[k][i] =
              g[row][0] * taps[k][i] + g[row][1] * taps[3 + k][i] + g[row][2] * taps[6 + k][i];
        }
      }
      for (int64_t column = 0; column < side; ++column) {
        float* to = planes_of.data() + (side * row + column) * pairs + from;
        float part[step];
        for (int64_t i = 0; i < step; ++i) {
          part[i] = static_cast<float>(g[column][0] * half[0][i] + g[column][1] * half[1][i] +
                                       g[column][2] * half[2][i]);
        }
        std::copy_n(part, count, to);
      }
    }
  }
  // A plane is [M, C] here.
  const int64_t width = gemm_functions<float>().panel_width;
  const int64_t size = s.in_channels * width;
  for (int64_t m = 0; m < s.out_channels; m += width) {
    for (int64_t plane = 0; plane < planes; ++plane) {
      pack_panels<float>(planes_of.data() + plane * pairs + m * s.in_channels, 1, s.in_channels,
                         s.in_channels, std::min(width, s.out_channels - m),
                         packed + (m / width * planes + plane) * size);
    }
  }
}

}  // namespace bascule
