// SPDX-License-Identifier: Apache-2.0
// Convolution as a product for each tap, over those outputs alone for which the tap lies inside the
// input. No padding is copied or multiplied, which pays where dilated kernels reach far outside.
#include <algorithm>

#include "kernels/conv/run.h"

namespace bascule {

namespace {

// The outputs [begin, end) of one axis for which a tap lies inside the input.
struct Inside {
  int64_t from;  // the input position of output 0
  int64_t begin;
  int64_t end;

  Inside(const ConvSizes& s, size_t axis, int64_t tap)
      : from(tap * s.dilation[axis] - s.pad[axis]) {
    const int64_t stride = s.stride[axis];
    const int64_t out = s.out[axis];
    begin = std::min(out, from < 0 ? (-from + stride - 1) / stride : 0);
    end = from < s.in[axis] ? (s.in[axis] - 1 - from) / stride + 1 : 0;
    end = std::clamp(end, begin, out);
  }
  int64_t count() const { return end - begin; }
};

// One tap and its outputs.
struct TapBox {
  int64_t tap;
  Inside depth;
  Inside height;
  Inside across;

  bool covers(const Spatial& out) const {
    return Spatial{depth.count(), height.count(), across.count()} == out;
  }
};

// Calls body(TapBox) for the taps that any output reads, in order.
template <class Body>
void for_boxes(const ConvSizes& s, Body&& body) {
  int64_t tap = 0;
  for (int64_t d = 0; d < s.kernel[0]; ++d) {
    for (int64_t h = 0; h < s.kernel[1]; ++h) {
      for (int64_t w = 0; w < s.kernel[2]; ++w, ++tap) {
        const TapBox box{tap, Inside(s, 0, d), Inside(s, 1, h), Inside(s, 2, w)};
        if (box.depth.count() * box.height.count() * box.across.count() > 0) body(box);
      }
    }
  }
}

// How the rows of a product lie: groups of neighbours, a stride apart.
struct Rows {
  int64_t groups;
  int64_t rows;
  int64_t a_group_stride;
  int64_t a_stride;
  int64_t c_group_stride;
  int64_t c_stride;

  // In as few groups as can be.
  Rows(const ConvSizes& s, const TapBox& box)
      : groups(box.height.count()),
        rows(box.across.count()),
        a_group_stride(s.stride[1] * s.in[2] * s.in_channels),
        a_stride(s.stride[2] * s.in_channels),
        c_group_stride(s.out[2] * s.out_channels),
        c_stride(s.out_channels) {
    if (rows * a_stride == a_group_stride && rows * c_stride == c_group_stride) {
      rows *= groups;
      groups = 1;
    } else if (groups > rows) {
      std::swap(groups, rows);
      std::swap(a_group_stride, a_stride);
      std::swap(c_group_stride, c_stride);
    }
  }
};

template <class T>
class TapByTap {
 public:
  explicit TapByTap(const Convolution<T>& convolution)
      : v_(convolution), s_(convolution.sizes), width_(gemm_functions<T>().panel_width) {
    for_boxes(s_, [&](const TapBox& box) {
      if (first_ < 0) {
        first_ = box.tap;
        starts_ = box.covers(s_.out);
      }
      last_ = box.tap;
      finishes_ = box.covers(s_.out);
    });
  }

  void run(RunContext& c) const {
    const int64_t threads = c.threads();
    if (s_.batch > 1 && (s_.batch >= 2 * threads || s_.batch % threads == 0)) {
      const double work = static_cast<double>(s_.out_pixels() * s_.out_channels * s_.in_channels);
      c.parallel_for(s_.batch, work, [&](int64_t begin, int64_t end) {
        for (int64_t n = begin; n < end; ++n) {
          run_image(n, [](const GemmBlock<T>& g) { multiply(g); });
        }
      });
      return;
    }
    for (int64_t n = 0; n < s_.batch; ++n) {
      run_image(n, [&](const GemmBlock<T>& g) { multiply(c, g); });
    }
  }

 private:
  // A tap that covers all outputs starts their sums or finishes them, otherwise a product over
  // nothing does.
  template <class Multiply>
  void run_image(int64_t n, Multiply&& multiply_block) const {
    const T* x = v_.x + n * s_.in_pixels() * s_.in_channels;
    const int64_t y_offset = n * s_.out_pixels() * s_.out_channels;
    const auto finish = [&](GemmBlock<T>& g, int64_t offset) {
      g.epilogue = v_.epilogue;
      if (g.epilogue.residual != nullptr) g.epilogue.residual += y_offset + offset;
    };
    GemmBlock<T> nothing = matrix_block<T>(&x, s_.out_pixels(), 0, s_.in_channels, v_.w,
                                           v_.y + y_offset, s_.out_channels);
    if (!starts_) multiply_block(nothing);
    for_boxes(s_, [&](const TapBox& box) {
      for (int64_t depth = box.depth.begin; depth < box.depth.end; ++depth) {
        const int64_t offset =
            ((depth * s_.out[1] + box.height.begin) * s_.out[2] + box.across.begin) *
            s_.out_channels;
        GemmBlock<T> g = block(box, depth, &x);
        g.c = v_.y + y_offset + offset;
        g.accumulate = !(starts_ && box.tap == first_);
        if (finishes_ && box.tap == last_) finish(g, offset);
        multiply_block(g);
      }
    });
    if (finishes_) return;
    nothing.accumulate = true;
    finish(nothing, 0);
    multiply_block(nothing);
  }

  // One tap for all outputs of one depth that it is inside the input for.
  GemmBlock<T> block(const TapBox& box, int64_t depth, const T* const* x) const {
    const Rows rows(s_, box);
    const int64_t z = box.depth.from + depth * s_.stride[0];
    const int64_t y = box.height.from + box.height.begin * s_.stride[1];
    const int64_t across = box.across.from + box.across.begin * s_.stride[2];
    GemmBlock<T> g{};
    g.a = x;
    g.taps = 1;
    g.tap_length = s_.in_channels;
    g.a_offset = ((z * s_.in[1] + y) * s_.in[2] + across) * s_.in_channels;
    g.a_stride = rows.a_stride;
    g.a_group_stride = rows.a_group_stride;
    g.groups = rows.groups;
    g.rows = rows.rows;
    g.b = v_.w + box.tap * s_.in_channels * width_;
    g.b_stride = width_;
    g.b_panel_stride = width_ * s_.taps() * s_.in_channels;
    g.c_stride = rows.c_stride;
    g.c_group_stride = rows.c_group_stride;
    g.columns = s_.out_channels;
    g.by_parts = v_.by_parts;
    return g;
  }

  const Convolution<T>& v_;
  const ConvSizes& s_;
  int64_t width_;
  int64_t first_ = -1;  // the first tap that any output reads
  int64_t last_ = -1;
  bool starts_ = false;  // whether the first covers all outputs
  bool finishes_ = false;
};

// The time of some groups of rows, in rows: a tile of few rows waits for its own sums.
int64_t row_work(int64_t groups, int64_t rows) {
  const int64_t tile = gemm_functions<float>().tile_rows;
  return groups * std::max(rows, 5 * ((rows + tile - 1) / tile));
}

}  // namespace

bool pays_tap_by_tap(const ConvSizes& s) {
  if (s.group != 1 || s.taps() == 1 || s.dilation == Spatial{1, 1, 1}) return false;
  int64_t by_tap = 0;
  for_boxes(s, [&](const TapBox& box) {
    const Rows rows(s, box);
    by_tap += box.depth.count() * row_work(rows.groups, rows.rows);
  });
  const int64_t whole = s.out[0] * row_work(s.out[1], s.out[2]) * s.taps();
  // Each product reads and writes its sums.
  return static_cast<double>(by_tap) * static_cast<double>(s.in_channels + 8) <
         0.8 * static_cast<double>(whole) * static_cast<double>(s.in_channels);
}

template <class T>
void run_tap_by_tap(RunContext& c, const Convolution<T>& convolution) {
  TapByTap<T>(convolution).run(c);
}
template void run_tap_by_tap(RunContext&, const Convolution<float>&);
template void run_tap_by_tap(RunContext&, const Convolution<double>&);

}  // namespace bascule
