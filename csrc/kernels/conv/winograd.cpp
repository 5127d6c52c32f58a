// SPDX-License-Identifier: Apache-2.0
// instruction sets: base avx2 avx512
// 3x3 convolution without stride by Winograd's F(4x4, 3x3): 36 products per 4 x 4 results and pair
// of channels, where the direct form has 144. Y = A' [(G g G') * (B' d B)] A for each tile d of
// 6 x 6 input pixels; the products of all tiles in one plane are a matrix product over channels.
//
// The interpolation points are 0, +-3/4, +-3/2 and infinity. With the usual 0, +-1, +-2 the largest
// error over 128 channels was 6e-6 of the largest result; with these it is 1.4e-6 (direct: 2e-7).
#include "kernels/conv/winograd.h"

#include "simd/vec.h"

namespace bascule::BASCULE_ISA {
namespace {

constexpr float p = 0.75f;
constexpr float q = 1.5f;
constexpr float p2 = p * p;
constexpr float q2 = q * q;

// B' d for six vectors, written with a step.
BASCULE_INLINE void transform_input(const F32* d, F32* to, int step) {
  const F32 even_p = fma(d[2], set(-q2), d[4]);
  const F32 odd_p = fma(d[1], set(-q2), d[3]) * p;
  const F32 even_q = fma(d[2], set(-p2), d[4]);
  const F32 odd_q = fma(d[1], set(-p2), d[3]) * q;
  to[0] = fma(d[0], set(p2 * q2), fma(d[2], set(-(p2 + q2)), d[4]));
  to[step] = even_p + odd_p;
  to[2 * step] = even_p - odd_p;
  to[3 * step] = even_q + odd_q;
  to[4 * step] = even_q - odd_q;
  to[5 * step] = fma(d[1], set(p2 * q2), fma(d[3], set(-(p2 + q2)), d[5]));
}

// A' m for six vectors, written with a step.
BASCULE_INLINE void transform_output(const F32* m, F32* to, int step) {
  const F32 sum_p = m[1] + m[2];
  const F32 difference_p = m[1] - m[2];
  const F32 sum_q = m[3] + m[4];
  const F32 difference_q = m[3] - m[4];
  to[0] = m[0] + sum_p + sum_q;
  to[step] = fma(difference_q, set(q), difference_p * p);
  to[2 * step] = fma(sum_q, set(q2), sum_p * p2);
  to[3 * step] = fma(difference_q, set(q2 * q), fma(difference_p, set(p2 * p), m[5]));
}

template <bool inside>
void input_tile(const WinogradInput& t) {
  for_vectors(t.channels, [&](int64_t channel, int64_t count) {
    F32 half[36];  // [row][column]
    for (int column = 0; column < 6; ++column) {
      F32 d[6];
      const int64_t x = t.left + column;
#pragma GCC unroll 6
      for (int row = 0; row < 6; ++row) {
        const int64_t y = t.top + row;
        const float* from = t.x + (y * t.width + x) * t.channels + channel;
        if constexpr (inside) {
          d[row] = load(from, count, 0);
        } else {
          d[row] = y >= 0 && y < t.height && x >= 0 && x < t.width ? load(from, count, 0) : F32{};
        }
      }
      transform_input(d, half + column, 6);
    }
    float* v = t.v + channel;
    for (int row = 0; row < 6; ++row) {
      F32 d[6];
      transform_input(half + 6 * row, d, 1);
#pragma GCC unroll 6
      for (int column = 0; column < 6; ++column) {
        store(v, d[column], count);
        v += t.plane_stride;
      }
    }
  });
}

}  // namespace

void winograd_input(const WinogradInput& t) {
  if (t.top >= 0 && t.left >= 0 && t.top + 6 <= t.height && t.left + 6 <= t.width) {
    input_tile<true>(t);
  } else {
    input_tile<false>(t);
  }
}

void winograd_output(const WinogradOutput& t) {
  for_vectors(t.channels, [&](int64_t channel, int64_t count) {
    F32 half[24];  // [row][column], 4 x 6
    const float* from = t.sums + channel;
    for (int column = 0; column < 6; ++column) {
      F32 m[6];
#pragma GCC unroll 6
      for (int row = 0; row < 6; ++row) {
        m[row] = load(from + (6 * row + column) * t.plane_stride, count, 0);
      }
      transform_output(m, half + column, 6);
    }
    const F32 bias = t.bias != nullptr ? load(t.bias + channel, count, 0) : F32{};
    for (int64_t row = 0; row < t.rows; ++row) {
      F32 result[4];
      transform_output(half + 6 * row, result, 1);
#pragma GCC unroll 4
      for (int64_t column = 0; column < 4; ++column) {
        if (column >= t.columns) break;
        const int64_t at = row * t.row_stride + column * t.pixel_stride + channel;
        F32 y = result[column] + bias;
        if (t.residual != nullptr) y = y + load(t.residual + at, count, 0);
        if (t.clamp) y = at_most(set(t.high), at_least(set(t.low), y));
        store(t.y + at, y, count);
      }
    }
  });
}

}  // namespace bascule::BASCULE_ISA

#if BASCULE_ONCE
#include <algorithm>
#include <vector>

#include "kernels/conv/run.h"
#include "simd/isa.h"
namespace bascule {
BASCULE_PER_ISA(void winograd_input(const WinogradInput& tile);
                void winograd_output(const WinogradOutput& tile));

namespace {

constexpr int64_t planes = 36;

int64_t tiles_of(int64_t size) { return (size + 3) / 4; }

// Tiles that are in work together: their planes stay in the second cache, and they are enough rows
// to use each weight a few times.
int64_t block_size(const ConvSizes& s, int64_t tiles) {
  constexpr int64_t cache = 768 * 1024 / sizeof(float);
  const int64_t most =
      std::clamp<int64_t>(cache / (planes * (s.in_channels + s.out_channels)), 16, 56);
  const int64_t blocks = (tiles + most - 1) / most;
  return (tiles + blocks - 1) / blocks;
}

}  // namespace

bool winograd_pays(const ConvSizes& s) {
  if (s.kernel != Spatial{1, 3, 3} || s.stride != Spatial{1, 1, 1} ||
      s.dilation != Spatial{1, 1, 1} || s.group != 1 || s.in[0] != 1 || s.out[0] != 1) {
    return false;
  }
  const int64_t tiles = tiles_of(s.out[1]) * tiles_of(s.out[2]);
  const int64_t pairs = s.in_channels * s.out_channels;
  // Fewer tiles read four times the weights for too little work; the weights of more channels would
  // take more memory than the speed is worth.
  if (tiles < 12 || pairs > 512 * 512) return false;
  // Multiplications, with the transforms at their measured cost of about 200 a channel.
  const int64_t direct = s.out_pixels() * 9 * pairs;
  const int64_t here = tiles * (planes * pairs + 200 * (s.in_channels + s.out_channels));
  return here * 5 < direct * 4;
}

int64_t winograd_weights_size(const ConvSizes& s) {
  return planes * packed_size<float>(s.in_channels, s.out_channels);
}

void pack_winograd(const ConvSizes& s, const float* w, float* packed) {
  constexpr double a = 0.75;
  constexpr double b = 1.5;
  constexpr double n0 = a * a * b * b;
  constexpr double na = 2 * a * a * (a * a - b * b);
  constexpr double nb = 2 * b * b * (b * b - a * a);
  constexpr double g[6][3] = {{1 / n0, 0, 0},
                              {1 / na, a / na, a * a / na},
                              {1 / na, -a / na, a * a / na},
                              {1 / nb, b / nb, b * b / nb},
                              {1 / nb, -b / nb, b * b / nb},
                              {0, 0, 1}};
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
    for (int64_t row = 0; row < 6; ++row) {
      double half[3][step];
      for (int64_t k = 0; k < 3; ++k) {
        for (int64_t i = 0; i < step; ++i) {
          half[k][i] =
              g[row][0] * taps[k][i] + g[row][1] * taps[3 + k][i] + g[row][2] * taps[6 + k][i];
        }
      }
      for (int64_t column = 0; column < 6; ++column) {
        float* to = planes_of.data() + (6 * row + column) * pairs + from;
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

namespace {

// The tiles of one convolution.
class Tiles {
 public:
  explicit Tiles(const Convolution<float>& v)
      : v_(v),
        s_(v.sizes),
        down_(tiles_of(s_.out[1])),
        across_(tiles_of(s_.out[2])),
        panel_(gemm_functions<float>().panel_width) {}

  int64_t count() const { return s_.batch * down_ * across_; }
  int64_t panels() const { return (s_.out_channels + panel_ - 1) / panel_; }
  int64_t panel_width() const { return panel_; }

  // Tiles [from, to) into planes of v.
  void transform_in(int64_t from, int64_t to, float* v, int64_t plane_stride) const {
    static const auto transform = BASCULE_PICK(winograd_input);
    WinogradInput in{};
    in.height = s_.in[1];
    in.width = s_.in[2];
    in.channels = s_.in_channels;
    in.plane_stride = plane_stride;
    for (int64_t tile = from; tile < to; ++tile) {
      in.x = v_.x + tile / (down_ * across_) * s_.in_pixels() * s_.in_channels;
      in.top = tile / across_ % down_ * 4 - s_.pad[1];
      in.left = tile % across_ * 4 - s_.pad[2];
      in.v = v + (tile - from) * s_.in_channels;
      transform(in);
    }
  }

  // The products of `count` tiles with panels [first, last), plane by plane. Rows of the sums are
  // `row` apart.
  void multiply_planes(const float* v, int64_t v_stride, int64_t count, int64_t first, int64_t last,
                       float* sums, int64_t sums_stride, int64_t row) const {
    const int64_t size = s_.in_channels * panel_;
    for (int64_t plane = 0; plane < planes; ++plane) {
      const float* a = v + plane * v_stride;
      const int64_t columns = std::min(last * panel_, s_.out_channels) - first * panel_;
      GemmBlock<float> g = matrix_block<float>(&a, count, s_.in_channels, s_.in_channels,
                                               v_.w + (first * planes + plane) * size,
                                               sums + plane * sums_stride, columns);
      // Of a single panel the next plane comes next.
      g.b_panel_stride = last - first > 1 ? planes * size : size;
      g.c_stride = row;
      multiply(g);
    }
  }

  // Tiles [from, to) of channels [channel, channel + channels) from planes of sums.
  void transform_out(int64_t from, int64_t to, int64_t channel, int64_t channels, const float* sums,
                     int64_t sums_stride, int64_t row) const {
    static const auto transform = BASCULE_PICK(winograd_output);
    const GemmEpilogue<float>& e = v_.epilogue;
    WinogradOutput out{};
    out.plane_stride = sums_stride;
    out.channels = channels;
    out.row_stride = s_.out[2] * s_.out_channels;
    out.pixel_stride = s_.out_channels;
    out.bias = e.bias != nullptr ? e.bias + channel : nullptr;
    out.clamp = e.clamp;
    out.low = e.low;
    out.high = e.high;
    for (int64_t tile = from; tile < to; ++tile) {
      const int64_t top = tile / across_ % down_ * 4;
      const int64_t left = tile % across_ * 4;
      const int64_t offset = tile / (down_ * across_) * s_.out_pixels() * s_.out_channels +
                             (top * s_.out[2] + left) * s_.out_channels + channel;
      out.sums = sums + (tile - from) * row;
      out.rows = std::min<int64_t>(4, s_.out[1] - top);
      out.columns = std::min<int64_t>(4, s_.out[2] - left);
      out.y = v_.y + offset;
      out.residual = e.residual != nullptr ? e.residual + offset : nullptr;
      transform(out);
      for (int64_t r = 0; e.activate != nullptr && r < out.rows; ++r) {
        e.activate(out.y + r * out.row_stride, out.pixel_stride, out.columns, channels,
                   e.activation_alpha, e.activation_beta);
      }
    }
  }

 private:
  const Convolution<float>& v_;
  const ConvSizes& s_;
  int64_t down_;
  int64_t across_;
  int64_t panel_;
};

// The planes are a little apart, or their lines would meet in the same sets of the caches.
constexpr int64_t apart = 32;

// Each thread takes some tiles through all steps, and reads all weights.
void run_by_tiles(RunContext& c, const ConvSizes& s, const Tiles& tiles, double work) {
  const int64_t count = tiles.count();
  const int64_t parts = std::min<int64_t>(c.threads(), count);
  const int64_t block = block_size(s, (count + parts - 1) / parts);
  const int64_t in_stride = block * s.in_channels + apart;
  const int64_t out_stride = block * s.out_channels + apart;
  const int64_t space = planes * (in_stride + out_stride);
  float* workspace = c.workspace<float>(parts * space);
  c.parallel_for(
      parts, work / static_cast<double>(parts), [&](int64_t first_part, int64_t last_part) {
        float* v = workspace + first_part * space;
        float* sums = v + planes * in_stride;
        const int64_t last = count * last_part / parts;
        for (int64_t from = count * first_part / parts; from < last; from += block) {
          const int64_t to = std::min(from + block, last);
          tiles.transform_in(from, to, v, in_stride);
          tiles.multiply_planes(v, in_stride, to - from, 0, tiles.panels(), sums, out_stride,
                                s.out_channels);
          tiles.transform_out(from, to, 0, s.out_channels, sums, out_stride, s.out_channels);
        }
      });
}

// Each thread takes some panels of output channels, and reads all tiles.
void run_by_panels(RunContext& c, const ConvSizes& s, const Tiles& tiles, double work) {
  const int64_t count = tiles.count();
  const int64_t width = tiles.panel_width();
  const int64_t in_stride = count * s.in_channels + apart;
  const int64_t out_stride = count * width + apart;
  const int64_t parts = std::min<int64_t>(c.threads(), tiles.panels());
  float* v = c.workspace<float>(planes * in_stride);
  float* workspace = c.workspace<float>(parts * planes * out_stride);
  c.parallel_for(count, static_cast<double>(200 * s.in_channels) / 8,
                 [&](int64_t begin, int64_t end) {
                   tiles.transform_in(begin, end, v + begin * s.in_channels, in_stride);
                 });
  c.parallel_for(
      parts, work / static_cast<double>(parts), [&](int64_t first_part, int64_t last_part) {
        float* sums = workspace + first_part * planes * out_stride;
        const int64_t last = tiles.panels() * last_part / parts;
        for (int64_t panel = tiles.panels() * first_part / parts; panel < last; ++panel) {
          tiles.multiply_planes(v, in_stride, count, panel, panel + 1, sums, out_stride, width);
          const int64_t channel = panel * width;
          tiles.transform_out(0, count, channel, std::min(width, s.out_channels - channel), sums,
                              out_stride, width);
        }
      });
}

}  // namespace

void run_winograd(RunContext& c, const Convolution<float>& v) {
  const ConvSizes& s = v.sizes;
  const Tiles tiles(v);
  const double work = static_cast<double>(tiles.count() * planes) *
                      static_cast<double>(s.in_channels * s.out_channels) / 8;
  // Whatever is smaller is read by all threads: the weights, or the tiles.
  if (tiles.count() < s.out_channels) {
    run_by_panels(c, s, tiles, work);
  } else {
    run_by_tiles(c, s, tiles, work);
  }
}

}  // namespace bascule
#endif
