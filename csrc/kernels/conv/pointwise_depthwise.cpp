// SPDX-License-Identifier: Apache-2.0
// bascule.PointwiseDepthwiseConv: a 1x1 convolution and the depthwise one that alone reads it. Some
// channels of some rows at a time: what lies between the two stays in the second cache.
#include <algorithm>
#include <utility>

#include "kernels/activation.h"
#include "kernels/conv/run.h"
#include "kernels/gemm/prepack_floats.h"
#include "kernels/work_view.h"
#include "runtime/kernel.h"

namespace bascule {

namespace {

// Channels of a strip, a whole number of panels of every instruction set.
constexpr int64_t strip_channels = 32;
// Pixels of a strip, which then takes 400 KB.
constexpr int64_t strip_pixels = 3200;

// One depthwise convolution cut into bands of output rows.
class Bands {
 public:
  Bands(const ConvSizes& s, int64_t strips, int threads) : s_(s) {
    const int64_t fewest =
        std::min(s.out[1], (s.in[1] * s.in[2] + strip_pixels - 1) / strip_pixels);
    // Neighbouring bands share some input rows, but few units may leave threads without work.
    int64_t least = 0;
    for (int64_t count = fewest; count <= std::min(s.out[1], fewest + threads); ++count) {
      const int64_t turns = (s.batch * strips * count + threads - 1) / threads;
      const int64_t cost = turns * input_rows((s.out[1] + count - 1) / count);
      if (count == fewest || cost < least) {
        count_ = count;
        least = cost;
      }
    }
  }

  int64_t count() const { return count_; }
  int64_t begin(int64_t band) const { return s_.out[1] * band / count_; }
  // Input rows [first, last) that output rows [begin, end) read.
  int64_t first(int64_t begin) const {
    return std::clamp<int64_t>(begin * s_.stride[1] - s_.pad[1], 0, s_.in[1]);
  }
  int64_t last(int64_t end) const {
    const int64_t reach = (s_.kernel[1] - 1) * s_.dilation[1] + 1;
    return std::clamp<int64_t>((end - 1) * s_.stride[1] - s_.pad[1] + reach, 0, s_.in[1]);
  }
  // The most input rows of any band.
  int64_t most_rows() const {
    int64_t most = 0;
    for (int64_t band = 0; band < count_; ++band) {
      most = std::max(most, last(begin(band + 1)) - first(begin(band)));
    }
    return most;
  }

 private:
  int64_t input_rows(int64_t rows) const {
    return std::min(s_.in[1], (rows - 1) * s_.stride[1] + (s_.kernel[1] - 1) * s_.dilation[1] + 1);
  }

  const ConvSizes& s_;
  int64_t count_ = 1;
};

class PointwiseDepthwiseConv final : public Kernel {
 public:
  static Capability capability(const NodeSpec& node) {
    if (const Capability typed = require_dtype(node, 0, Types<float, Float16, BFloat16>{});
        !typed.accepted()) {
      return typed;
    }
    for (const size_t i : {size_t{1}, size_t{3}}) {
      const Tensor* w = node.constant(i);
      if (w == nullptr || w->rank() != 4 || w->size() == 0) {
        return reject("the weights are not constants of four axes");
      }
    }
    return accept;
  }

  explicit PointwiseDepthwiseConv(const NodeSpec& node)
      : attributes_(node),
        inner_activation_(parse_activation(node, "inner_")),
        activation_(parse_activation(node)) {
    const Tensor& w = *node.constant(1);
    const Tensor& taps = *node.constant(3);
    w_shape_ = w.shape();
    taps_shape_ = taps.shape();
    const int64_t channels = w_shape_[0];
    if (w_shape_[2] != 1 || w_shape_[3] != 1) {
      fail("weights have shape " + w_shape_.text() + ", expected a 1x1 convolution");
    }
    const ConvSizes s = attributes_.conv_weights(taps_shape_);
    if (s.group != channels || s.in_channels != channels || s.out_channels != channels) {
      fail("weights have shape " + taps_shape_.text() + " in " + std::to_string(s.group) +
           " groups, expected a depthwise convolution of " + std::to_string(channels) +
           " channels");
    }
    panels_ =
        prepack_floats<float>(node, {1}, "W", packed_size<float>(w_shape_[1], channels), w,
                              [&](const float* from, float* to) {
                                pack_panels<float>(from, 1, w_shape_[1], w_shape_[1], channels, to);
                              });
    taps_ = prepack_floats<float>(node, {3}, "taps", s.taps() * channels, taps,
                                  [&](const float* from, float* to) {
                                    for (int64_t i = 0; i < channels; ++i) {
                                      for (int64_t tap = 0; tap < s.taps(); ++tap) {
                                        to[tap * channels + i] = from[i * s.taps() + tap];
                                      }
                                    }
                                  });
    node.release_constant(1);
    node.release_constant(3);
  }

  void run(RunContext& c) const override {
    const Tensor& x = c.input(0);
    const int64_t channels = w_shape_[0];
    const int64_t depth = w_shape_[1];
    if (x.rank() != 4 || x.shape()[3] != depth) {
      fail("input has shape " + x.shape().text() + ", expected four axes and " +
           std::to_string(depth) + " channels in the last");
    }
    for (const int i : {2, 4}) {
      if (c.has_input(i) && c.input(i).shape() != Shape{channels}) {
        fail("bias has shape " + c.input(i).shape().text() + ", expected " +
             Shape{channels}.text());
      }
    }
    Shape inner_shape = x.shape();
    inner_shape[3] = channels;
    const ConvSizes s = attributes_.conv(inner_shape, taps_shape_);
    Tensor& y = c.output(0, x.dtype(), attributes_.output_shape(s, 4));
    if (y.size() == 0) return;
    const auto bias = [&](int i) { return c.has_input(i) ? as_floats(c, c.input(i)) : nullptr; };
    GemmEpilogue<float> inner;
    inner.bias = bias(2);
    set_activation(inner, inner_activation_);
    GemmEpilogue<float> outer;
    outer.bias = bias(4);
    set_activation(outer, activation_);
    float* out = work_target<float>(c, y);
    run_strips(c, s, as_floats(c, x), inner, outer, out);
    store_work(c, out, y);
  }

 private:
  void run_strips(RunContext& c, const ConvSizes& s, const float* x,
                  const GemmEpilogue<float>& inner, const GemmEpilogue<float>& outer,
                  float* y) const {
    const int64_t channels = s.in_channels;
    const int64_t depth = w_shape_[1];
    const int64_t strips = (channels + strip_channels - 1) / strip_channels;
    const Bands bands(s, strips, c.threads());
    const int64_t units = s.batch * bands.count() * strips;
    const int64_t parts = std::min<int64_t>(units, c.threads());
    const int64_t size = bands.most_rows() * s.in[2] * strip_channels;
    float* space = c.workspace<float>(parts * size);
    const float** pointers = c.workspace<const float*>(parts * depthwise_pointers(s));
    const double work = static_cast<double>(s.batch * s.in_pixels() * channels) *
                        static_cast<double>(depth + s.taps()) / 8;
    c.parallel_for(
        parts, work / static_cast<double>(parts), [&](int64_t first_part, int64_t last_part) {
          float* strip = space + first_part * size;
          for (int64_t unit = units * first_part / parts; unit < units * last_part / parts;
               ++unit) {
            const int64_t channel = unit % strips * strip_channels;
            const int64_t band = unit / strips % bands.count();
            const int64_t n = unit / strips / bands.count();
            const int64_t begin = bands.begin(band);
            const int64_t end = bands.begin(band + 1);
            const int64_t first = bands.first(begin);
            const int64_t rows = bands.last(end) - first;
            const int64_t count = std::min(strip_channels, channels - channel);
            if (rows > 0) {
              const float* a = x + (n * s.in[1] + first) * s.in[2] * depth;
              GemmBlock<float> g =
                  matrix_block<float>(&a, rows * s.in[2], depth, depth,
                                      panels_.data<float>() + channel * depth, strip, count);
              g.c_stride = strip_channels;
              g.epilogue = from_channel(inner, channel);
              multiply(g);
            }
            DepthwiseStrip t{};
            t.x = strip;
            t.first_row = first;
            t.x_stride = strip_channels;
            t.channels = count;
            t.w = taps_.data<float>() + channel;
            t.y = y + n * s.out_pixels() * channels + channel;
            t.epilogue = from_channel(outer, channel);
            run_depthwise_rows(s, t, begin, end, pointers + first_part * depthwise_pointers(s));
          }
        });
  }

  static GemmEpilogue<float> from_channel(GemmEpilogue<float> epilogue, int64_t channel) {
    if (epilogue.bias != nullptr) epilogue.bias += channel;
    return epilogue;
  }

  ConvAttributes attributes_;
  Activation inner_activation_;
  Activation activation_;
  Tensor panels_;
  Tensor taps_;
  Shape w_shape_;
  Shape taps_shape_;
};
BASCULE_KERNEL_IN("bascule", "PointwiseDepthwiseConv", PointwiseDepthwiseConv);

}  // namespace
}  // namespace bascule
