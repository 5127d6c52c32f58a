// SPDX-License-Identifier: Apache-2.0
// instruction sets: base avx2 avx512
// 3x3 convolution without stride by Winograd's F(4x4, 3x3): 36 products per 4 x 4 results and pair
// of channels, where the direct form has 144; or by F(2x2, 3x3), 16 instead of 36 per 2 x 2.
// Y = A' [(G g G') * (B' d B)] A for each tile d of 6 x 6 (4 x 4) input pixels; the products of all
// tiles in one plane are a matrix product over channels.
//
// The interpolation points are 0, +-3/4, +-3/2 and infinity (0, +-1 and infinity). With the usual
// 0, +-1, +-2 the largest error over 128 channels was 6e-6 of the largest result; with these it
// is 1.4e-6 (direct: 2e-7).
#include "kernels/conv/winograd.h"

#include "simd/vec.h"

namespace bascule::BASCULE_ISA {
namespace {

constexpr float p = 0.75f;
constexpr float q = 1.5f;
constexpr float p2 = p * p;
constexpr float q2 = q * q;

// B' d for tile + 2 vectors, written with a step.
template <int tile>
BASCULE_INLINE void transform_input(const F32* d, F32* to, int step) {
  if constexpr (tile == 2) {
    to[0] = d[0] - d[2];
    to[step] = d[1] + d[2];
    to[2 * step] = d[2] - d[1];
    to[3 * step] = d[1] - d[3];
  } else {
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
}

// A' m for tile + 2 vectors, written with a step.
template <int tile>
BASCULE_INLINE void transform_output(const F32* m, F32* to, int step) {
  if constexpr (tile == 2) {
    to[0] = m[0] + m[1] + m[2];
    to[step] = m[1] - m[2] - m[3];
  } else {
    const F32 sum_p = m[1] + m[2];
    const F32 difference_p = m[1] - m[2];
    const F32 sum_q = m[3] + m[4];
    const F32 difference_q = m[3] - m[4];
    to[0] = m[0] + sum_p + sum_q;
    to[step] = fma(difference_q, set(q), difference_p * p);
    to[2 * step] = fma(sum_q, set(q2), sum_p * p2);
    to[3 * step] = fma(difference_q, set(q2 * q), fma(difference_p, set(p2 * p), m[5]));
  }
}

template <int tile, bool inside>
void input_tile(const WinogradInput& t) {
  constexpr int side = tile + 2;
  for_vectors(t.channels, [&](int64_t channel, int64_t count) {
    F32 half[side * side];  // [row][column]
    for (int column = 0; column < side; ++column) {
      F32 d[side];
      const int64_t x = t.left + column;
#pragma GCC unroll 6
      for (int row = 0; row < side; ++row) {
        const int64_t y = t.top + row;
        const float* from = t.x + (y * t.width + x) * t.channels + channel;
        if constexpr (inside) {
          d[row] = load(from, count, 0);
        } else {
          d[row] = y >= 0 && y < t.height && x >= 0 && x < t.width ? load(from, count, 0) : F32{};
        }
      }
      transform_input<tile>(d, half + column, side);
    }
    float* v = t.v + channel;
    for (int row = 0; row < side; ++row) {
      F32 d[side];
      transform_input<tile>(half + side * row, d, 1);
#pragma GCC unroll 6
      for (int column = 0; column < side; ++column) {
        store(v, d[column], count);
        v += t.plane_stride;
      }
    }
  });
}

template <int tile>
void input_of(const WinogradInput& t) {
  constexpr int side = tile + 2;
  if (t.top >= 0 && t.left >= 0 && t.top + side <= t.height && t.left + side <= t.width) {
    input_tile<tile, true>(t);
  } else {
    input_tile<tile, false>(t);
  }
}

template <int tile>
void output_of(const WinogradOutput& t) {
  constexpr int side = tile + 2;
  for_vectors(t.channels, [&](int64_t channel, int64_t count) {
    F32 half[tile * side];  // [row][column]
    const float* from = t.sums + channel;
    for (int column = 0; column < side; ++column) {
      F32 m[side];
#pragma GCC unroll 6
      for (int row = 0; row < side; ++row) {
        m[row] = load(from + (side * row + column) * t.plane_stride, count, 0);
      }
      transform_output<tile>(m, half + column, side);
    }
    const F32 bias = t.bias != nullptr ? load(t.bias + channel, count, 0) : F32{};
    for (int64_t row = 0; row < t.rows; ++row) {
      F32 result[tile];
      transform_output<tile>(half + side * row, result, 1);
#pragma GCC unroll 4
      for (int64_t column = 0; column < tile; ++column) {
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

}  // namespace

void winograd_input(const WinogradInput& t) { t.tile == 2 ? input_of<2>(t) : input_of<4>(t); }

void winograd_output(const WinogradOutput& t) { t.tile == 2 ? output_of<2>(t) : output_of<4>(t); }

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

// Tiles that are in work together: their planes stay in the second cache, and they are enough rows
// to use each weight a few times.
int64_t block_size(const ConvSizes& s, int64_t planes, int64_t tiles) {
  constexpr int64_t cache = 768 * 1024 / sizeof(float);
  const int64_t most =
      std::clamp<int64_t>(cache / (planes * (s.in_channels + s.out_channels)), 16, 56);
  const int64_t blocks = (tiles + most - 1) / most;
  return (tiles + blocks - 1) / blocks;
}

// The tiles of one convolution.
class Tiles {
 public:
  explicit Tiles(const Convolution<float>& v)
      : v_(v),
        s_(v.sizes),
        tile_(v.winograd_tile),
        down_((s_.out[1] + tile_ - 1) / tile_),
        across_((s_.out[2] + tile_ - 1) / tile_),
        panel_(gemm_functions<float>().panel_width) {}

  int64_t count() const { return s_.batch * down_ * across_; }
  int64_t planes() const { return winograd_planes(v_.winograd_tile); }
  int64_t panels() const { return (s_.out_channels + panel_ - 1) / panel_; }
  int64_t panel_width() const { return panel_; }

  // Tiles [from, to) into planes of v.
  void transform_in(int64_t from, int64_t to, float* v, int64_t plane_stride) const {
    static const auto transform = BASCULE_PICK(winograd_input);
    WinogradInput in{};
    in.tile = v_.winograd_tile;
    in.height = s_.in[1];
    in.width = s_.in[2];
    in.channels = s_.in_channels;
    in.plane_stride = plane_stride;
    for (int64_t tile = from; tile < to; ++tile) {
      in.x = v_.x + tile / (down_ * across_) * s_.in_pixels() * s_.in_channels;
      in.top = tile / across_ % down_ * tile_ - s_.pad[1];
      in.left = tile % across_ * tile_ - s_.pad[2];
      in.v = v + (tile - from) * s_.in_channels;
      transform(in);
    }
  }

  // The products of `count` tiles with panels [first, last), plane by plane. Rows of the sums are
  // `row` apart.
  void multiply_planes(const float* v, int64_t v_stride, int64_t count, int64_t first, int64_t last,
                       float* sums, int64_t sums_stride, int64_t row) const {
    const int64_t size = s_.in_channels * panel_;
    for (int64_t plane = 0; plane < planes(); ++plane) {
      const float* a = v + plane * v_stride;
      const int64_t columns = std::min(last * panel_, s_.out_channels) - first * panel_;
      GemmBlock<float> g = matrix_block<float>(&a, count, s_.in_channels, s_.in_channels,
                                               v_.w + (first * planes() + plane) * size,
                                               sums + plane * sums_stride, columns);
      // Of a single panel the next plane comes next.
      g.b_panel_stride = last - first > 1 ? planes() * size : size;
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
    out.tile = v_.winograd_tile;
    out.plane_stride = sums_stride;
    out.channels = channels;
    out.row_stride = s_.out[2] * s_.out_channels;
    out.pixel_stride = s_.out_channels;
    out.bias = e.bias != nullptr ? e.bias + channel : nullptr;
    out.clamp = e.clamp;
    out.low = e.low;
    out.high = e.high;
    for (int64_t tile = from; tile < to; ++tile) {
      const int64_t top = tile / across_ % down_ * tile_;
      const int64_t left = tile % across_ * tile_;
      const int64_t offset = tile / (down_ * across_) * s_.out_pixels() * s_.out_channels +
                             (top * s_.out[2] + left) * s_.out_channels + channel;
      out.sums = sums + (tile - from) * row;
      out.rows = std::min(tile_, s_.out[1] - top);
      out.columns = std::min(tile_, s_.out[2] - left);
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
  int64_t tile_;
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
  const int64_t planes = tiles.planes();
  const int64_t block = block_size(s, planes, (count + parts - 1) / parts);
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
  const int64_t planes = tiles.planes();
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
  const double work = static_cast<double>(tiles.count() * tiles.planes()) *
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
