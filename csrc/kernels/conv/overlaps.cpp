// SPDX-License-Identifier: Apache-2.0
// Convolution to few channels: a product of the pixels with all taps at once,
// [pixels, C] [C, M * taps], then sums of what overlaps. It goes by rectangles of outputs, for
// which the results of the product stay in a cache.
#include <algorithm>
#include <cstddef>
#include <vector>

#include "kernels/conv/overlaps.h"
#include "kernels/conv/transposed.h"
#include "kernels/move/transpose_tile.h"

namespace bascule {

namespace {

// Positions [begin, end) of one axis.
struct Range {
  int64_t begin = 0;
  int64_t end = 0;

  int64_t count() const { return end - begin; }
  // Part `index` of those that have `step` positions each.
  static Range part(int64_t index, int64_t step, int64_t size) {
    return {index * step, std::min(size, (index + 1) * step)};
  }
};

// The inputs that some outputs of an axis read.
Range read_by(const ConvSizes& s, size_t axis, const Range& outputs) {
  const int64_t stride = s.stride[axis];
  const int64_t reach = (s.kernel[axis] - 1) * s.dilation[axis];
  const int64_t least = outputs.begin + s.pad[axis] - reach;
  Range range;
  range.begin = std::min(s.in[axis], least > 0 ? (least + stride - 1) / stride : 0);
  range.end = std::min(s.in[axis], (outputs.end - 1 + s.pad[axis]) / stride + 1);
  range.end = std::max(range.begin, range.end);
  return range;
}

// The input that tap k of an output reads, or -1.
int64_t source(const ConvSizes& s, size_t axis, int64_t out, int64_t k) {
  const int64_t at = out + s.pad[axis] - k * s.dilation[axis];
  const int64_t input = at / s.stride[axis];
  return at >= 0 && at % s.stride[axis] == 0 && input < s.in[axis] ? input : -1;
}

template <class T>
class Overlaps {
 public:
  explicit Overlaps(const Convolution<T>& convolution)
      : v_(convolution), s_(convolution.sizes), columns_(s_.taps() * s_.group_out()), phases_(s_) {}

  void run(RunContext& c) const {
    constexpr int64_t most_results = 1 << 17;  // of the product: half a megabyte of float32
    const int64_t most_pixels = std::clamp<int64_t>(most_results / columns_, 32, 1024);  // of a row
    const int64_t across = std::clamp<int64_t>(s_.in[2], 1, most_pixels);
    const int64_t width = std::min(s_.out[2], across * s_.stride[2]);
    const int64_t images = s_.batch * s_.out[0];
    const int64_t threads = c.threads();
    const int64_t wanted = (s_.out[1] + threads - 1) / threads;  // where there is one image
    const int64_t fit = std::max<int64_t>(1, most_results / (columns_ * across)) * s_.stride[1];
    const int64_t height = std::min(images >= threads ? s_.out[1] : wanted, fit);
    const int64_t strips = (s_.out[2] + width - 1) / width;
    const int64_t bands = (s_.out[1] + height - 1) / height;
    const int64_t tiles = images * bands * strips;
    const int64_t parts = std::min(tiles, threads);
    const int64_t pixels = read_at_most(1, height) * read_at_most(2, width);
    const int64_t space = 2 * pixels * columns_ + width;
    T* spaces = c.workspace<T>(space * parts);
    const double work = static_cast<double>(images * s_.in[1] * s_.in[2] * s_.in_channels) *
                        static_cast<double>(columns_) / 8;
    c.parallel_for(parts, work / static_cast<double>(parts), [&](int64_t first, int64_t last) {
      for (int64_t i = tiles * first / parts; i < tiles * last / parts; ++i) {
        Tile t;
        t.image = i / (bands * strips);
        t.y = Range::part(i / strips % bands, height, s_.out[1]);
        t.x = Range::part(i % strips, width, s_.out[2]);
        t.results = spaces + first * space;
        t.by_column = t.results + pixels * columns_;
        t.sums = t.by_column + pixels * columns_;
        run_tile(t);
      }
    });
  }

 private:
  // A rectangle of the outputs of one depth of an image, and scratch memory.
  struct Tile {
    int64_t image;
    Range y;
    Range x;
    Range in_y;  // what it reads
    Range in_x;
    T* results;    // of the product, [pixels, M * taps]
    T* by_column;  // the same as [M * taps, pixels]
    T* sums;
  };

  int64_t read_at_most(size_t axis, int64_t outputs) const {
    const int64_t reach = (s_.kernel[axis] - 1) * s_.dilation[axis];
    return std::min(s_.in[axis], (outputs + reach) / s_.stride[axis] + 1);
  }

  void run_tile(Tile& t) const {
    const int64_t depth = source(s_, 0, t.image % s_.out[0], 0);
    if (depth >= 0) {
      t.in_y = read_by(s_, 1, t.y);
      t.in_x = read_by(s_, 2, t.x);
    }
    const int64_t plane = t.image / s_.out[0] * s_.in[0] + depth;
    for (int64_t group = 0; group < s_.group; ++group) {
      if (t.in_y.count() * t.in_x.count() > 0) multiply_taps(t, plane, group);
      for (int64_t y = t.y.begin; y < t.y.end; ++y) {
        T* row = v_.y + ((t.image * s_.out[1] + y) * s_.out[2]) * s_.out_channels +
                 group * s_.group_out();
        for (int64_t m = 0; m < s_.group_out(); ++m) {
          for (const int64_t r : phases_.axes[2]) add_taps(t, group, m, y, r, row + m);
        }
        const GemmEpilogue<T>& e = v_.epilogue;
        if (e.activate == nullptr) continue;
        const bool whole = s_.group == 1;
        e.activate(row + t.x.begin * s_.out_channels, s_.out_channels, whole ? 1 : t.x.count(),
                   whole ? t.x.count() * s_.out_channels : s_.group_out(), e.activation_alpha,
                   e.activation_beta);
      }
    }
  }

  void multiply_taps(const Tile& t, int64_t plane, int64_t group) const {
    const int64_t pixels = t.in_y.count() * t.in_x.count();
    const int64_t channels = s_.in_channels;
    GemmBlock<T> g = matrix_block<T>(&v_.x, t.in_x.count(), s_.group_in(), channels,
                                     v_.w + group * packed_size<T>(s_.group_in(), columns_),
                                     t.results, columns_);
    g.groups = t.in_y.count();
    g.a_offset = ((plane * s_.in[1] + t.in_y.begin) * s_.in[2] + t.in_x.begin) * channels +
                 group * s_.group_in();
    g.a_group_stride = s_.in[2] * channels;
    g.c_group_stride = t.in_x.count() * columns_;
    if (t.in_x.count() == s_.in[2]) {
      g.groups = 1;
      g.rows = pixels;
    }
    multiply(g);
    constexpr auto bytes = static_cast<int64_t>(sizeof(T));
    transpose_tile<T>(reinterpret_cast<const std::byte*>(t.results), columns_ * bytes,
                      reinterpret_cast<std::byte*>(t.by_column), pixels * bytes, pixels, columns_);
  }

  // Phase r of one row and channel of the outputs.
  void add_taps(const Tile& t, int64_t group, int64_t m, int64_t y, int64_t r, T* row) const {
    const int64_t stride = s_.stride[2];
    const PhaseAxis outputs(s_, 2, r);
    const auto before = [&](int64_t x) {
      return x > outputs.first ? (x - outputs.first + stride - 1) / stride : 0;
    };
    const Range range{before(t.x.begin), before(t.x.end)};  // of the phase's outputs
    const GemmEpilogue<T>& e = v_.epilogue;
    std::fill_n(t.sums, range.count(),
                e.bias != nullptr ? e.bias[group * s_.group_out() + m] : T{});
    const int64_t pixels = t.in_y.count() * t.in_x.count();
    const PhaseTaps taps(s_, 2, r);
    for (int64_t kh = 0; kh < s_.kernel[1] && pixels > 0; ++kh) {
      const int64_t in_y = source(s_, 1, y, kh);
      if (in_y < 0) continue;
      for (int64_t kw = taps.first; kw < s_.kernel[2]; kw += taps.step) {
        const int64_t shift = outputs.shift(s_, 2, kw);
        const int64_t begin = std::max(range.begin, -shift);
        const int64_t end = std::min(range.end, s_.in[2] - shift);
        const T* from = t.by_column + (m * s_.taps() + kh * s_.kernel[2] + kw) * pixels +
                        (in_y - t.in_y.begin) * t.in_x.count() + shift - t.in_x.begin;
        T* sums = t.sums - range.begin;
        for (int64_t i = begin; i < end; ++i) sums[i] += from[i];
      }
    }
    T* to = row + (outputs.first + range.begin * stride) * s_.out_channels;
    const T* residual = e.residual != nullptr ? e.residual + (to - v_.y) : nullptr;
    const int64_t step = stride * s_.out_channels;
    for (int64_t i = 0; i < range.count(); ++i) {
      T sum = t.sums[i];
      if (residual != nullptr) sum += residual[i * step];
      if (e.clamp) sum = sum < e.low ? e.low : sum > e.high ? e.high : sum;  // NaN stays NaN
      to[i * step] = sum;
    }
  }

  const Convolution<T>& v_;
  const ConvSizes& s_;
  int64_t columns_;
  Phases phases_;
};

}  // namespace

template <class T>
void pack_overlaps(const ConvSizes& s, const T* w, T* packed) {
  const int64_t rows = s.group_in();
  const int64_t columns = s.taps() * s.group_out();
  for (int64_t g = 0; g < s.group; ++g) {
    pack_panels(w + g * rows * columns, columns, 1, rows, columns,
                packed + g * packed_size<T>(rows, columns));
  }
}

template <class T>
void run_overlaps(RunContext& c, const Convolution<T>& convolution) {
  Overlaps<T>(convolution).run(c);
}

template <class T>
void pack_conv_overlaps(const ConvSizes& s, const T* w, T* packed) {
  std::vector<T> transposed(static_cast<size_t>(s.out_channels * s.group_in() * s.taps()));
  auto to = transposed.begin();
  for (int64_t channel = 0; channel < s.in_channels; ++channel) {
    for (int64_t m = 0; m < s.group_out(); ++m) {
      const int64_t row = channel / s.group_in() * s.group_out() + m;
      const T* taps = w + (row * s.group_in() + channel % s.group_in()) * s.taps();
      to = std::reverse_copy(taps, taps + s.taps(), to);
    }
  }
  pack_overlaps(s, transposed.data(), packed);
}

template <class T>
void run_conv_overlaps(RunContext& c, const Convolution<T>& convolution) {
  Convolution<T> v = convolution;
  for (size_t i = 0; i < 3; ++i) {
    v.sizes.pad[i] = (v.sizes.kernel[i] - 1) * v.sizes.dilation[i] - v.sizes.pad[i];
  }
  run_overlaps(c, v);
}

#define BASCULE_OVERLAPS_FOR(T)                                     \
  template void pack_overlaps(const ConvSizes&, const T*, T*);      \
  template void run_overlaps(RunContext&, const Convolution<T>&);   \
  template void pack_conv_overlaps(const ConvSizes&, const T*, T*); \
  template void run_conv_overlaps(RunContext&, const Convolution<T>&)
BASCULE_OVERLAPS_FOR(float);
BASCULE_OVERLAPS_FOR(double);

}  // namespace bascule
