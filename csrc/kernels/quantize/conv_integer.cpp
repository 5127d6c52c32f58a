// SPDX-License-Identifier: Apache-2.0
// ConvInteger and QLinearConv: each group is a product of its weights [channels out, taps x
// channels in] and the pixels under the taps, gathered panel by panel.
#include <cstring>
#include <numeric>
#include <optional>

#include "kernels/conv/geometry.h"
#include "kernels/quantize/byte_taps.h"
#include "kernels/quantize/integer_gemm.h"
#include "kernels/quantize/number.h"
#include "kernels/quantize/quad_image.h"
#include "kernels/quantize/row_functions.h"
#include "runtime/kernel.h"
#include "runtime/prepack.h"

namespace bascule {
namespace {

// The bytes of `count` output pixels from `first` under one tap of one channel; `border` outside.
void gather_pixels(const ConvSizes& s, const uint8_t* channel, const Spatial& tap, int64_t first,
                   int64_t count, uint8_t border, uint8_t* to) {
  int64_t x = first % s.out[2];
  int64_t y = first / s.out[2] % s.out[1];
  int64_t z = first / s.out[2] / s.out[1];
  const int64_t offset = tap[2] * s.dilation[2] - s.pad[2];
  const int64_t stride = s.stride[2];
  while (count > 0) {
    const int64_t n = std::min(count, s.out[2] - x);
    const int64_t in_z = z * s.stride[0] + tap[0] * s.dilation[0] - s.pad[0];
    const int64_t in_y = y * s.stride[1] + tap[1] * s.dilation[1] - s.pad[1];
    if (in_z < 0 || in_z >= s.in[0] || in_y < 0 || in_y >= s.in[1]) {
      std::memset(to, border, static_cast<size_t>(n));
    } else {
      const uint8_t* row = channel + (in_z * s.in[1] + in_y) * s.in[2];
      // Pixels [from, until) of the row lie inside.
      const int64_t start = x * stride + offset;
      const int64_t before = start < 0 ? (-start + stride - 1) / stride : 0;
      const int64_t from = std::min(n, before);
      const int64_t room = s.in[2] - start;
      const int64_t until = std::clamp(room > 0 ? (room + stride - 1) / stride : 0, from, n);
      if (from > 0) std::memset(to, border, static_cast<size_t>(from));
      if (stride == 1) {
        std::memcpy(to + from, row + start + from, static_cast<size_t>(until - from));
      } else {
        for (int64_t i = from; i < until; ++i) to[i] = row[start + i * stride];
      }
      if (until < n) std::memset(to + until, border, static_cast<size_t>(n - until));
    }
    to += n;
    count -= n;
    x = 0;
    if (++y == s.out[1]) {
      y = 0;
      ++z;
    }
  }
}

// Quads of k are of neighbouring channels under one tap, unless that would leave most of them
// empty: then k counts the taps of each channel.
bool is_by_tap(int64_t channels, int64_t taps) { return channels >= 3 && taps > 1; }

// Weights [rows, channels, taps] as `copy_rows` has them, or in quads of channels.
void copy_weights(const uint8_t* from, int64_t rows, int64_t channels, int64_t taps, ByteSign sign,
                  uint8_t* data, int32_t* sums) {
  if (!is_by_tap(channels, taps)) {
    return copy_rows(from, rows, channels * taps, sign, data, sums);
  }
  const int64_t padded = quads_of(channels) * 4;
  for (int64_t row = 0; row < rows; ++row, from += channels * taps) {
    sums[row] = 0;
    for (int64_t tap = 0; tap < taps; ++tap, data += padded) {
      for (int64_t i = 0; i < padded; ++i) {
        data[i] = i < channels ? from[i * taps + tap] ^ sign.flip : 0;
        sums[row] += data[i];
      }
    }
  }
}

// Bytes of a row of them.
int64_t weight_depth(int64_t channels, int64_t taps) {
  return is_by_tap(channels, taps) ? taps * quads_of(channels) * 4 : quads_of(channels * taps) * 4;
}

class IntegerConvolution {
 public:
  IntegerConvolution(const NodeSpec& node, size_t weights)
      : attributes_(node),
        weights_input_(weights),
        w_sign_(as_unsigned(node.dtype(weights))),
        x_sign_(as_signed(node.dtype(0))),
        x_taps_sign_(as_unsigned(node.dtype(0))) {
    const Tensor* constant = node.constant(weights);
    if (constant == nullptr || constant->rank() < 3) return;
    shape_ = constant->shape();
    const int64_t rows = shape_[0], channels = shape_[1], taps = shape_.product(2, shape_.rank());
    const auto packed =
        prepack(node, {weights}, "W and sums",
                {{DType::uint8, {rows, weight_depth(channels, taps)}}, {DType::int32, {rows}}},
                [&](std::vector<Tensor>& to) {
                  copy_weights(constant->data<uint8_t>(), rows, channels, taps, w_sign_,
                               to[0].data<uint8_t>(), to[1].data<int32_t>());
                });
    copied_ = packed[0];
    sums_ = packed[1];
    is_copied_ = true;
    node.release_constant(weights);
  }

  ConvSizes sizes(RunContext& c) const { return attributes_.conv(c.input(0).shape(), w_shape(c)); }
  Shape output_shape(RunContext& c, const ConvSizes& s) const {
    return attributes_.output_shape(s, c.input(0).rank());
  }

  // finish(channel, sums, pixels, index of the first result) for pieces of output channels with
  // their bias and zero points. `w_zero` is null, or has one value or one for each channel.
  template <class Finish>
  void run(RunContext& c, const ConvSizes& s, int32_t x_zero, const Tensor* w_zero,
           const int32_t* bias, Finish&& finish) const {
    if (w_zero != nullptr && w_zero->size() != 1 && w_zero->size() != s.out_channels) {
      invalid("w_zero_point has shape " + w_zero->shape().text() + ", expected a scalar or " +
              Shape{s.out_channels}.text());
    }
    const IntegerGemmFunctions& functions = integer_gemm();
    const int64_t depth = s.group_in() * s.taps(), pixels = s.out_pixels();
    if (s.batch * s.out_channels * pixels == 0) return;
    const int64_t padded = weight_depth(s.group_in(), s.taps());
    const uint8_t* rows = copied_.data<uint8_t>();
    const int32_t* row_sums = sums_.data<int32_t>();
    if (!is_copied_) {
      auto* to = c.workspace<uint8_t>(s.out_channels * padded);
      auto* sums = c.workspace<int32_t>(s.out_channels);
      copy_weights(c.input(static_cast<int>(weights_input_)).data<uint8_t>(), s.out_channels,
                   s.group_in(), s.taps(), w_sign_, to, sums);
      rows = to;
      row_sums = sums;
    }
    const auto w_zero_at = [&](int64_t channel) {
      if (w_zero == nullptr) return w_sign_.shift;
      const int64_t i = w_zero->size() == 1 ? 0 : channel;
      const int32_t value = w_zero->dtype() == DType::int8
                                ? static_cast<int32_t>(w_zero->data<int8_t>()[i])
                                : static_cast<int32_t>(w_zero->data<uint8_t>()[i]);
      return value + w_sign_.shift;
    };

    const bool dense = Span(s).is_dense();
    if (dense && has_few_products(s)) {
      const auto weights = [&](int64_t row, int32_t* to) {
        for (int64_t i = 0; i < depth; ++i) to[i] = rows[row * padded + i] - w_zero_at(row);
      };
      return run_taps(c, s, x_zero, bias, weights, finish);
    }

    // Pieces of some panels of pixels of one group of one image.
    constexpr int64_t cache_bytes = 128 * 1024;
    const int64_t threads = c.threads(), width = functions.panel_width;
    const int64_t panels = panels_of(pixels), bytes = panel_bytes(padded);
    const int64_t items = s.batch * s.group;
    int64_t wide = std::min(std::clamp<int64_t>(cache_bytes / bytes, 1, 16), panels);
    if (items < threads) wide = std::min(wide, (panels + threads - 1) / threads);
    const int64_t chunks = (panels + wide - 1) / wide;
    const int64_t pieces = items * chunks;
    const int64_t tile_size = functions.tile_rows * wide * width;
    // Of each thread: panels, four rows of pixels, sums of the panels' columns, zero points of
    // them, and a tile.
    const int64_t columns_most = wide * width;
    const int64_t panel_room = wide * bytes + QuadImage::slack;
    auto* panel_space = c.workspace<int8_t>(threads * panel_room);
    auto* line_space = c.workspace<uint8_t>(threads * 4 * columns_most);
    auto* int_space = c.workspace<int32_t>(threads * (2 * columns_most + tile_size));
    const auto* x = c.input(0).data<uint8_t>();
    const int32_t x_shifted = x_zero + x_sign_.shift;
    std::optional<QuadImage> quads;
    if (dense && is_by_tap(s.group_in(), s.taps())) {
      quads.emplace(c, s, x, static_cast<uint8_t>(x_zero), x_sign_);
    }
    const double work = static_cast<double>(items * pixels) *
                        (static_cast<double>(depth) * static_cast<double>(s.group_out() + 16) / 32);
    c.parallel_for(threads, work / static_cast<double>(threads), [&](int64_t begin, int64_t end) {
      for (int64_t part = begin; part < end; ++part) {
        int8_t* packed = panel_space + part * panel_room;
        uint8_t* lines = line_space + part * 4 * columns_most;
        int32_t* column_sums = int_space + part * (2 * columns_most + tile_size);
        int32_t* column_zeros = column_sums + columns_most;
        int32_t* tile = column_zeros + columns_most;
        std::fill_n(column_zeros, columns_most, x_shifted);
        for (int64_t i = pieces * part / threads; i < pieces * (part + 1) / threads; ++i) {
          const int64_t item = i / chunks, group = item % s.group;
          const int64_t first = i % chunks * columns_most;
          const int64_t count = std::min(columns_most, pixels - first);
          if (quads.has_value()) {
            quads->pack(item, first, count, packed, column_sums);
          } else {
            const uint8_t* image = x + item * s.group_in() * s.in_pixels();
            pack_pixels(s, image, first, count, static_cast<uint8_t>(x_zero), lines, packed,
                        column_sums);
          }
          const int64_t channel = group * s.group_out();
          IntegerCorrection correction{};
          correction.depth = depth;
          correction.column_sums = column_sums;
          correction.b_zero = x_shifted != 0 ? column_zeros : nullptr;
          multiply_integers(rows + channel * padded, s.group_out(), padded, packed, count, tile,
                            [&](int64_t row, int32_t* sums) {
                              const int64_t at = channel + row;
                              correction.a_zero = w_zero_at(at);
                              correction.row_sum = row_sums[at];
                              correction.bias = bias != nullptr ? bias[at] : 0;
                              functions.correct(sums, count, correction);
                              finish(at, sums, count,
                                     (item * s.group_out() + row) * pixels + first);
                            });
        }
      }
    });
  }

 private:
  const Shape& w_shape(RunContext& c) const {
    return is_copied_ ? shape_ : c.input(static_cast<int>(weights_input_)).shape();
  }

  // Of depthwise convolutions, and the like: panels would be mostly empty.
  static bool has_few_products(const ConvSizes& s) {
    return s.group_in() < 3 && s.group_in() * s.group_out() <= 4;
  }

  // weights(channel, to) gives those of a channel without their zero point.
  template <class Weights, class Finish>
  void run_taps(RunContext& c, const ConvSizes& s, int32_t x_zero, const int32_t* bias,
                Weights&& weights, Finish&& finish) const {
    const Span span(s);
    const int64_t channels = s.group_in(), taps = s.taps(), depth = channels * taps;
    auto* offsets = c.workspace<int64_t>(depth);
    for (int64_t i = 0; i < depth; ++i) {
      offsets[i] = i / taps * span.positions() + span.of_tap(i % taps);
    }
    // Lines of neighbouring results; short rows are one line, with what lies between them.
    constexpr int64_t short_row = 64;
    const bool joined = s.stride[1] == 1 && s.stride[2] == 1 && s.out[2] < short_row;
    const int64_t rows = joined ? s.out[1] : 1, lines = s.out[0] * s.out[1] / rows;
    const int64_t results = rows * s.out[2];
    ByteTaps line{};
    line.offsets = offsets;
    line.taps = depth;
    line.stride = s.stride[2];
    line.count = (rows - 1) * span.width() + s.out[2];
    const int64_t items = s.batch * s.group, threads = c.threads();
    const int64_t plane_room = channels * span.positions() + ByteTaps::slack;
    const int64_t int_room = depth + line.count + ByteTaps::slack;
    auto* planes = c.workspace<uint8_t>(threads * plane_room);
    auto* ints = c.workspace<int32_t>(threads * int_room);
    const auto* x = c.input(0).data<uint8_t>();
    const int32_t zero = x_zero + x_taps_sign_.shift;
    const auto run_item = [&](int64_t item, uint8_t* plane, int32_t* own_weights) {
      for (int64_t i = 0; i < channels; ++i) {
        fill_plane(span, x + (item * channels + i) * s.in_pixels(), static_cast<uint8_t>(zero),
                   plane + i * span.positions());
      }
      ByteTaps t = line;
      t.weights = own_weights;
      t.sums = own_weights + depth;
      for (int64_t row = 0; row < s.group_out(); ++row) {
        const int64_t at = item % s.group * s.group_out() + row;
        weights(at, own_weights);
        const int64_t sum = std::accumulate(own_weights, own_weights + depth, int64_t{0});
        t.start = static_cast<int32_t>((bias != nullptr ? bias[at] : 0) - zero * sum);
        const int64_t first = (item * s.group_out() + row) * s.out_pixels();
        for (int64_t i = 0; i < lines; ++i) {
          const int64_t y = i * rows;
          t.x = plane + span.of_output(y / s.out[1], y % s.out[1], 0);
          sum_byte_taps(t);
          for (int64_t j = 1; j < rows; ++j) {
            std::copy_n(t.sums + j * span.width(), s.out[2], t.sums + j * s.out[2]);
          }
          finish(at, t.sums, results, first + i * results);
        }
      }
    };
    const double work = static_cast<double>(items * s.group_out() * s.out_pixels() * (depth + 4));
    c.parallel_for(
        threads, work / 8 / static_cast<double>(threads), [&](int64_t begin, int64_t end) {
          for (int64_t i = begin; i < end; ++i) {
            for (int64_t item = items * i / threads; item < items * (i + 1) / threads; ++item) {
              run_item(item, planes + i * plane_room, ints + i * int_room);
            }
          }
        });
  }

  // One channel, with its border.
  void fill_plane(const Span& span, const uint8_t* x, uint8_t border, uint8_t* to) const {
    for (int64_t i = 0; i < span.rows(); ++i, to += span.width()) {
      const Span::Row row = span.row(i);
      const uint8_t* from = x + row.pixel - row.begin;
      std::fill_n(to, row.begin, border);
      for (int64_t j = row.begin; j < row.end; ++j) to[j] = from[j] ^ x_taps_sign_.flip;
      std::fill_n(to + row.end, span.width() - row.end, border);
    }
  }

  // With one tap that moves nothing the rows are there already.
  static bool is_in_place(const ConvSizes& s) {
    const Spatial ones{1, 1, 1}, nothing{0, 0, 0};
    return s.kernel == ones && s.stride == ones && s.pad == nothing && s.in == s.out;
  }

  // Panels of `count` output pixels from `first`: a row for each channel and tap.
  void pack_pixels(const ConvSizes& s, const uint8_t* image, int64_t first, int64_t count,
                   uint8_t border, uint8_t* lines, int8_t* packed, int32_t* column_sums) const {
    const IntegerGemmFunctions& functions = integer_gemm();
    const int64_t width = functions.panel_width, channels = s.group_in();
    const int64_t depth = weight_depth(channels, s.taps()), bytes = panel_bytes(depth);
    const bool in_place = is_in_place(s), by_tap = is_by_tap(channels, s.taps());
    const int64_t padded = quads_of(channels) * 4;
    std::fill_n(column_sums, count, 0);
    for (int64_t k = 0; k < depth; k += 4) {
      const uint8_t* rows[4];
      for (int64_t i = 0; i < 4; ++i) {
        uint8_t* line = lines + i * count;
        rows[i] = line;
        const int64_t at = k + i, tap = by_tap ? at / padded : at % s.taps();
        const int64_t index = by_tap ? at % padded : at / s.taps();
        const uint8_t* channel = image + index * s.in_pixels();
        if (index >= channels) {
          std::memset(line, x_sign_.flip, static_cast<size_t>(count));
        } else if (in_place) {
          rows[i] = channel + first;
        } else {
          const Spatial place{tap / (s.kernel[1] * s.kernel[2]), tap / s.kernel[2] % s.kernel[1],
                              tap % s.kernel[2]};
          gather_pixels(s, channel, place, first, count, border, line);
        }
      }
      for (int64_t column = 0; column < count; column += width) {
        functions.interleave(rows, std::min(width, count - column), x_sign_.flip,
                             packed + column / width * bytes + k * width, column_sums + column);
        for (const uint8_t*& row : rows) row += width;
      }
    }
  }

  ConvAttributes attributes_;
  size_t weights_input_;
  ByteSign w_sign_;
  ByteSign x_sign_;       // in panels
  ByteSign x_taps_sign_;  // where there are none
  bool is_copied_ = false;
  Shape shape_;
  Tensor copied_;
  Tensor sums_;
};

int32_t zero_point(RunContext& c, int i) {
  return c.has_input(i) ? static_cast<int32_t>(c.input(i).to_int()) : 0;
}

const Tensor* optional_input(RunContext& c, int i) {
  return c.has_input(i) ? &c.input(i) : nullptr;
}

class ConvInteger final : public Kernel {
 public:
  static Capability capability(const NodeSpec& node) {
    const Capability typed = require_dtype(node, 0, ByteTypes{});
    return typed.accepted() ? require_dtype(node, 1, ByteTypes{}) : typed;
  }
  explicit ConvInteger(const NodeSpec& node) : convolution_(node, 1) {}

  void run(RunContext& c) const override {
    const ConvSizes s = convolution_.sizes(c);
    auto* y = c.output(0, DType::int32, convolution_.output_shape(c, s)).data<int32_t>();
    convolution_.run(c, s, zero_point(c, 2), optional_input(c, 3), nullptr,
                     [&](int64_t, const int32_t* sums, int64_t count, int64_t at) {
                       std::memcpy(y + at, sums, static_cast<size_t>(count) * sizeof(int32_t));
                     });
  }

 private:
  IntegerConvolution convolution_;
};
BASCULE_KERNEL("ConvInteger", ConvInteger);

class QLinearConv final : public Kernel {
 public:
  static Capability capability(const NodeSpec& node) {
    for (const size_t i : {size_t{0}, size_t{3}, size_t{7}}) {
      const Capability typed = require_dtype(node, i, ByteTypes{});
      if (!typed.accepted()) return typed;
    }
    return accept;
  }
  explicit QLinearConv(const NodeSpec& node) : convolution_(node, 3) {}

  void run(RunContext& c) const override {
    const ConvSizes s = convolution_.sizes(c);
    const Tensor& w_scale = c.input(4);
    const int64_t scales = w_scale.size();
    if (scales != 1 && scales != s.out_channels) {
      invalid("w_scale has shape " + w_scale.shape().text() + ", expected a scalar or " +
              Shape{s.out_channels}.text());
    }
    const auto x_scale = static_cast<float>(c.input(1).to_double());
    const auto y_scale = static_cast<float>(c.input(6).to_double());
    float* factors = c.workspace<float>(scales);
    for (int64_t i = 0; i < scales; ++i) factors[i] = x_scale * w_scale.data<float>()[i] / y_scale;
    const int32_t* bias = nullptr;
    if (c.has_input(8)) {
      if (c.input(8).shape() != Shape{s.out_channels}) {
        invalid("bias has shape " + c.input(8).shape().text() + ", expected " +
                Shape{s.out_channels}.text());
      }
      bias = c.input(8).data<int32_t>();
    }
    const DType dtype = c.input(7).dtype();
    const QuantizedType type = quantized_type(dtype);
    const auto y_zero = static_cast<float>(zero_point(c, 7));
    auto* y = c.output(0, dtype, convolution_.output_shape(c, s)).data<uint8_t>();
    convolution_.run(c, s, zero_point(c, 2), optional_input(c, 5), bias,
                     [&](int64_t channel, const int32_t* sums, int64_t count, int64_t at) {
                       rows_.requantize({sums, factors + (scales == 1 ? 0 : channel), false, y_zero,
                                         type.low, type.high, y + at, count});
                     });
  }

 private:
  IntegerConvolution convolution_;
  const QuantizedRows& rows_ = quantized_rows();
};
BASCULE_KERNEL("QLinearConv", QLinearConv);

}  // namespace
}  // namespace bascule
