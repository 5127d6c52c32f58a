// SPDX-License-Identifier: Apache-2.0
// Channels-last convolutions of 8-bit integers: each group is a product of the pixels under the
// taps, read where they are, and its packed weights.
#include "kernels/quantize/integer_convolution.h"

#include <cstring>

#include "kernels/conv/layout.h"
#include "kernels/quantize/pixel_image.h"
#include "runtime/prepack.h"

namespace bascule {
namespace {

// Bytes that lie next to each other in the input and are multiplied as one: the channels under a
// tap, or, where nothing comes between them, under all taps of a row.
struct TapBytes {
  TapBytes(const ConvSizes& s, bool is_undilated) {
    joined = s.group == 1 && is_undilated ? s.kernel[2] : 1;
    count = s.taps() / joined;
    bytes = joined * s.group_in();
  }
  int64_t padded() const { return quads_of(bytes) * 4; }
  int64_t depth() const { return count * padded(); }

  int64_t joined;
  int64_t count;
  int64_t bytes;
};

int64_t rounded_up(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

// Rows of quads of taps that lie above each other.
int64_t depthwise_quads(const ConvSizes& s) { return quads_of(s.kernel[0] * s.kernel[1]); }

// Channels of a group, with those that fill up its last vectors.
int64_t padded_channels(const ConvSizes& s, bool depthwise) {
  return depthwise ? rounded_up(s.out_channels, integer_pixels().lanes)
                   : panels_of(s.group_out()) * integer_gemm().panel_width;
}

// [blocks of lanes][quads][taps of a row][lanes] quads of weights [channels][taps].
void pack_depthwise(const ConvSizes& s, const uint8_t* from, ByteSign sign, int8_t* to,
                    int32_t* sums) {
  const int64_t lanes = integer_pixels().lanes, quads = depthwise_quads(s), kernel = s.kernel[2];
  std::memset(to, 0, static_cast<size_t>(padded_channels(s, true) * quads * kernel * 4));
  for (int64_t channel = 0; channel < s.out_channels; ++channel) {
    sums[channel] = 0;
    int8_t* block = to + channel / lanes * quads * kernel * lanes * 4 + channel % lanes * 4;
    for (int64_t i = 0; i < s.taps(); ++i) {
      const auto weight = static_cast<int8_t>(from[channel * s.taps() + i] ^ sign.flip);
      const int64_t row = i / kernel;
      block[((row / 4 * kernel + i % kernel) * lanes) * 4 + row % 4] = weight;
      sums[channel] += weight;
    }
  }
}

// Panels of the weights [channels][group_in][taps] of each group.
void pack_groups(const ConvSizes& s, const TapBytes& taps, const uint8_t* from, ByteSign sign,
                 int8_t* to, int32_t* sums) {
  const int64_t width = integer_gemm().panel_width, depth = taps.depth();
  const int64_t panels = panels_of(s.group_out()), bytes = panel_bytes(depth);
  Tensor space = Tensor::allocate(DType::uint8, {depth * width});
  auto* rows = space.data<uint8_t>();
  std::memset(rows, sign.flip, static_cast<size_t>(depth * width));
  for (int64_t i = 0; i < s.group * panels; ++i) {
    const int64_t first = i % panels * width, count = std::min(width, s.group_out() - first);
    for (int64_t column = 0; column < count; ++column) {
      const uint8_t* channel =
          from + (i / panels * s.group_out() + first + column) * s.group_in() * s.taps();
      for (int64_t tap = 0; tap < s.taps(); ++tap) {
        const int64_t k = tap / taps.joined * taps.padded() + tap % taps.joined * s.group_in();
        for (int64_t j = 0; j < s.group_in(); ++j) {
          rows[(k + j) * width + column] = channel[j * s.taps() + tap];
        }
      }
    }
    pack_integer_panels(rows, depth, count, width, sign, 0, 1, to + i * bytes, sums + i * width);
  }
}

}  // namespace

IntegerConvolution::IntegerConvolution(const NodeSpec& node, size_t weights)
    : attributes_(node),
      weights_input_(weights),
      w_sign_(as_signed(node.dtype(weights))),
      x_sign_(as_unsigned(node.dtype(0))) {
  const auto dilations = node.get_ints("dilations");
  is_undilated_ = dilations.empty() || dilations.back() == 1;
  const Tensor* constant = node.constant(weights);
  if (constant == nullptr || constant->rank() < 3 || constant->rank() > 5) return;
  const ConvSizes s = attributes_.conv_weights(constant->shape());
  if (s.out_channels % s.group != 0 || constant->size() == 0) return;
  shape_ = constant->shape();
  const auto packed =
      prepack(node, {weights}, "W and sums",
              {{DType::int8, {packed_bytes(s)}},
               {DType::int32, {s.group * padded_channels(s, is_depthwise(s))}}},
              [&](std::vector<Tensor>& to) {
                pack(s, constant->data<uint8_t>(), to[0].data<int8_t>(), to[1].data<int32_t>());
              });
  packed_ = packed[0];
  sums_ = packed[1];
  is_packed_ = true;
  node.release_constant(weights);
}

ConvSizes IntegerConvolution::sizes(RunContext& c) const {
  return attributes_.conv(c.input(0).shape(),
                          is_packed_ ? shape_ : c.input(static_cast<int>(weights_input_)).shape());
}

bool IntegerConvolution::is_depthwise(const ConvSizes& s) const {
  return s.group_in() == 1 && s.group_out() == 1;
}

int64_t IntegerConvolution::packed_bytes(const ConvSizes& s) const {
  if (is_depthwise(s)) return padded_channels(s, true) * depthwise_quads(s) * s.kernel[2] * 4;
  return s.group * panels_of(s.group_out()) * panel_bytes(TapBytes(s, is_undilated_).depth());
}

void IntegerConvolution::pack(const ConvSizes& s, const uint8_t* from, int8_t* to,
                              int32_t* sums) const {
  if (is_depthwise(s)) return pack_depthwise(s, from, w_sign_, to, sums);
  pack_groups(s, TapBytes(s, is_undilated_), from, w_sign_, to, sums);
}

IntegerConvolution::Weights IntegerConvolution::packed(RunContext& c, const ConvSizes& s) const {
  if (is_packed_) return {packed_.data<int8_t>(), sums_.data<int32_t>()};
  auto* data = c.workspace<int8_t>(packed_bytes(s));
  auto* sums = c.workspace<int32_t>(s.group * padded_channels(s, is_depthwise(s)));
  pack(s, c.input(static_cast<int>(weights_input_)).data<uint8_t>(), data, sums);
  return {data, sums};
}

// Zero points of x and the bias become one number for each output channel, and those of the
// weights a factor of each pixel's sum.
template <class Memory>
IntegerFinish IntegerConvolution::make_finish(Memory& memory, const ConvSizes& s,
                                              const int32_t* sums, int32_t x_zero,
                                              const Tensor* w_zero, const int32_t* bias,
                                              const Scaling* scaling) const {
  if (w_zero != nullptr && w_zero->size() != 1 && w_zero->size() != s.out_channels) {
    invalid("w_zero_point has shape " + w_zero->shape().text() + ", expected a scalar or " +
            Shape{s.out_channels}.text());
  }
  x_zero += x_sign_.shift;
  const bool depthwise = is_depthwise(s);
  const int64_t groups = depthwise ? 1 : s.group, channels = s.out_channels / groups;
  const int64_t padded = padded_channels(s, depthwise), count = groups * padded;
  auto* offsets = memory.template workspace<int32_t>(count);
  auto* zeros = memory.template workspace<int32_t>(count);
  auto* factors = scaling != nullptr ? memory.template workspace<float>(count) : nullptr;
  const auto depth = static_cast<uint32_t>(s.group_in() * s.taps());
  const int64_t zero_step = w_zero != nullptr && w_zero->size() > 1 ? 1 : 0;
  const bool is_signed = w_zero != nullptr && w_zero->dtype() == DType::int8;
  uint32_t any = 0;
  for (int64_t group = 0; group < groups; ++group) {
    for (int64_t i = 0; i < padded; ++i) {
      const int64_t at = group * padded + i, channel = group * channels + i;
      offsets[at] = zeros[at] = 0;
      if (factors != nullptr) factors[at] = 0;
      if (i >= channels) continue;
      int32_t zero = w_sign_.shift;
      if (w_zero != nullptr) {
        const int64_t index = channel * zero_step;
        zero += is_signed ? static_cast<int32_t>(w_zero->data<int8_t>()[index])
                          : static_cast<int32_t>(w_zero->data<uint8_t>()[index]);
      }
      const auto moved = static_cast<uint32_t>(sums[at]) - depth * static_cast<uint32_t>(zero);
      const auto start = bias != nullptr ? static_cast<uint32_t>(bias[channel]) : 0u;
      offsets[at] = static_cast<int32_t>(start - static_cast<uint32_t>(x_zero) * moved);
      zeros[at] = zero;
      any |= static_cast<uint32_t>(zero);
      if (factors != nullptr) factors[at] = scaling->factors[scaling->count > 1 ? channel : 0];
    }
  }
  IntegerFinish result{};
  result.bias = offsets;
  result.weight_zero = any != 0 ? zeros : nullptr;
  result.factors = factors;
  if (scaling != nullptr) {
    result.zero = scaling->zero;
    result.low = scaling->low;
    result.high = scaling->high;
  }
  return result;
}

IntegerFinish IntegerConvolution::finish(KeptMemory& memory, int32_t x_zero, const Tensor* w_zero,
                                         const int32_t* bias, const Scaling& scaling) const {
  return make_finish(memory, attributes_.conv_weights(shape_), sums_.data<int32_t>(), x_zero,
                     w_zero, bias, &scaling);
}

void IntegerConvolution::run(RunContext& c, const ConvSizes& s, int32_t x_zero,
                             const Tensor* w_zero, const int32_t* bias, const Scaling* scaling,
                             const Residual* residual, void* y) const {
  const Weights weights = packed(c, s);
  const IntegerFinish f = make_finish(c, s, weights.sums, x_zero, w_zero, bias, scaling);
  run(c, s, weights, x_zero, f, residual, y);
}

void IntegerConvolution::run(RunContext& c, const ConvSizes& s, int32_t x_zero,
                             const IntegerFinish& finish, const Residual* residual, void* y) const {
  run(c, s, packed(c, s), x_zero, finish, residual, y);
}

void IntegerConvolution::run(RunContext& c, const ConvSizes& s, const Weights& weights,
                             int32_t x_zero, const IntegerFinish& finish, const Residual* residual,
                             void* y) const {
  if (s.batch * s.out_channels * s.out_pixels() == 0) return;
  IntegerFinish f = finish;
  if (residual != nullptr) f.residual = &residual->how;
  const uint8_t* added = residual != nullptr ? residual->data : nullptr;
  const auto border = static_cast<uint8_t>(x_zero);
  const auto* x = c.input(0).data<uint8_t>();
  if (attributes_.channels_last()) {
    return run_last(c, s, x, border, weights, f, added, static_cast<uint8_t*>(y));
  }
  x = to_channels_last(c, x, s.batch, s.in_channels, s.in_pixels());
  if (s.out_channels == 1 || s.out_pixels() == 1) {
    return run_last(c, s, x, border, weights, f, added, static_cast<uint8_t*>(y));
  }
  const int64_t count = s.batch * s.out_channels * s.out_pixels();
  if (f.factors != nullptr) {
    auto* last = c.workspace<uint8_t>(count);
    added = to_channels_last(c, added, s.batch, s.out_channels, s.out_pixels());
    run_last(c, s, x, border, weights, f, added, last);
    transpose_images(c, last, static_cast<uint8_t*>(y), s.batch, s.out_pixels(), s.out_channels);
  } else {
    auto* last = c.workspace<int32_t>(count);
    run_last(c, s, x, border, weights, f, nullptr, reinterpret_cast<uint8_t*>(last));
    transpose_images(c, last, static_cast<int32_t*>(y), s.batch, s.out_pixels(), s.out_channels);
  }
}

void IntegerConvolution::run_last(RunContext& c, const ConvSizes& s, const uint8_t* x,
                                  uint8_t border, const Weights& weights,
                                  const IntegerFinish& finish, const uint8_t* residual,
                                  uint8_t* y) const {
  (this->*(is_depthwise(s) ? &IntegerConvolution::run_depthwise : &IntegerConvolution::run_panels))(
      c, s, x, border, weights, finish, residual, y);
}

void IntegerConvolution::run_panels(RunContext& c, const ConvSizes& sizes, const uint8_t* x,
                                    uint8_t border, const Weights& weights,
                                    const IntegerFinish& finish, const uint8_t* residual,
                                    uint8_t* y) const {
  const TapBytes taps(sizes, is_undilated_);
  const PixelImage image = unsigned_image(c, sizes, x, border, x_sign_.flip, taps.bytes % 4 != 0);
  const ConvSizes& s = image.sizes;
  auto* offsets = c.workspace<int64_t>(taps.count);
  for (int64_t i = 0; i < taps.count; ++i) offsets[i] = image.of_tap(i * taps.joined);

  // Runs of pixels, of one length, the last of a row ending where the row does.
  const PixelRows rows(image);
  const PixelTiles run_tile(quads_of(taps.bytes), finish);
  const int64_t run_count = (rows.width + run_tile.longest_run - 1) / run_tile.longest_run;
  const int64_t length = (rows.width + run_count - 1) / run_count;
  const int64_t runs = rows.count * run_count, tiles = (runs + 1) / 2;

  const int64_t size = finish.factors != nullptr ? 1 : 4, width = integer_gemm().panel_width;
  const int64_t bytes = panel_bytes(taps.depth()), panels = panels_of(s.group_out());
  PixelTile common{};
  common.pixels = length;
  common.a_stride = s.stride[2] * s.in_channels;
  common.taps = offsets;
  common.tap_count = taps.count;
  common.tap_quads = quads_of(taps.bytes);
  common.tap_bytes = taps.bytes;
  common.b_panel_stride = bytes;
  common.y_stride = s.out_channels * size;

  // Pieces: panels that stay in the second cache for all tiles, or a part of the tiles. Few tiles
  // wait for the first panels longest: they get less at a time.
  constexpr int64_t few_tiles = 8;
  const int64_t cache_bytes = (tiles > few_tiles ? 384 : 128) * int64_t{1024};
  const int64_t threads = c.threads();
  int64_t chunks = (panels * bytes + cache_bytes - 1) / cache_bytes;
  if (chunks > 1) chunks = rounded_up(chunks, threads);
  chunks = std::clamp<int64_t>(chunks, 1, panels);
  const int64_t blocks = std::min(s.group * chunks % threads == 0 ? 1 : threads, tiles);
  const int64_t pieces = s.group * chunks * blocks;
  const auto run_piece = [&](int64_t piece, bool is_last) {
    const int64_t block = piece % blocks, chunk = piece / blocks % chunks;
    const int64_t group = piece / blocks / chunks;
    const int64_t panel = panels * chunk / chunks, last = panels * (chunk + 1) / chunks;
    const int64_t channel = group * panels * width + panel * width;
    const IntegerFinish f = at_channel(finish, channel);
    PixelTile tile = common;
    tile.b = weights.data + (group * panels + panel) * bytes;
    tile.columns = std::min(last * width, s.group_out()) - panel * width;
    const uint8_t* from = image.data + group * s.group_in();
    const int64_t offset = (group * s.group_out() + panel * width) * size;
    uint8_t* to = y + offset;
    const uint8_t* added = residual != nullptr ? residual + offset : nullptr;
    FetchAhead ahead;
    if (!is_last && block + 1 == blocks && chunk + 1 < chunks) {
      const int64_t after = panels * (chunk + 2) / chunks - last;
      ahead = {weights.data + (group * panels + last) * bytes, after * bytes};
    }
    const int64_t begin = tiles * block / blocks, end = tiles * (block + 1) / blocks;
    for (int64_t i = begin; i < end; ++i) {
      ahead.set(tile, i - begin, end - begin);
      tile.run_count = std::min<int64_t>(2, runs - 2 * i);
      for (int64_t j = 0; j < tile.run_count; ++j) {
        const int64_t row = (2 * i + j) / run_count, first = (2 * i + j) % run_count * length;
        const int64_t start = std::min(first, rows.width - length);
        const int64_t pixel = (row * rows.width + start) * common.y_stride;
        tile.runs[j] = {from + rows.at(row) + start * common.a_stride, to + pixel,
                        added != nullptr ? added + pixel : nullptr, first - start};
      }
      run_tile.function(tile, f);
    }
  };
  const double work = static_cast<double>(s.batch * s.out_pixels()) *
                      static_cast<double>(taps.depth() * (s.out_channels + 16)) / 32;
  c.parallel_for(threads, work / static_cast<double>(threads), [&](int64_t begin, int64_t end) {
    const int64_t last = pieces * end / threads;
    for (int64_t piece = pieces * begin / threads; piece < last; ++piece) {
      run_piece(piece, piece + 1 == last);
    }
  });
}

void IntegerConvolution::run_depthwise(RunContext& c, const ConvSizes& sizes, const uint8_t* x,
                                       uint8_t border, const Weights& weights,
                                       const IntegerFinish& finish, const uint8_t* residual,
                                       uint8_t* y) const {
  const PixelImage image = dense_image(c, sizes, x, border);
  const ConvSizes& s = image.sizes;
  const IntegerPixelFunctions& functions = integer_pixels();
  const int64_t lanes = functions.lanes, channels = s.out_channels;
  const int64_t above = s.kernel[0] * s.kernel[1], quads = depthwise_quads(s);
  const int64_t block_weights = quads * s.kernel[2] * lanes;
  DepthwiseRow common{};
  common.row_count = above;
  common.quads = quads;
  common.flip = x_sign_.flip;
  common.columns = (s.out[2] - 1) * s.stride[2] + (s.kernel[2] - 1) * s.dilation[2] + 1;
  common.begin = std::min(s.pad[2], common.columns);
  common.end = std::clamp(s.pad[2] + s.in[2], common.begin, common.columns);
  common.border = border ^ x_sign_.flip;
  common.kernel = s.kernel[2];
  common.dilation = s.dilation[2];
  common.stride = s.stride[2];
  common.pixels = s.out[2];
  const int64_t size = finish.factors != nullptr ? 1 : 4;
  common.y_stride = channels * size;
  if (finish.weight_zero != nullptr) {
    auto* ones = c.workspace<int32_t>(block_weights);
    std::memset(ones, 0, static_cast<size_t>(block_weights) * 4);
    for (int64_t i = 0; i < above; ++i) {
      for (int64_t j = 0; j < s.kernel[2] * lanes; ++j) {
        ones[i / 4 * s.kernel[2] * lanes + j] |= 1 << i % 4 * 8;
      }
    }
    common.ones = ones;
  }
  auto* outside = c.workspace<uint8_t>(channels + lanes);
  std::memset(outside, border, static_cast<size_t>(channels + lanes));

  const int64_t rows = s.batch * s.out[0] * s.out[1], threads = c.threads();
  const int64_t room = quads * common.columns * lanes;
  auto* space = c.workspace<int32_t>(threads * room);
  auto* pointers = c.workspace<const uint8_t*>(threads * quads * 8);
  auto* steps = c.workspace<int64_t>(threads * quads * 4);
  const auto run_row = [&](int64_t row, DepthwiseRow d, const uint8_t** from, int64_t* step) {
    const int64_t out_y = row % s.out[1], out_z = row / s.out[1] % s.out[0];
    const uint8_t* images = image.data + row / s.out[1] / s.out[0] * image.image;
    const uint8_t** own = from + 4 * quads;
    for (int64_t i = 0; i < 4 * quads; ++i) {
      const int64_t in_z = out_z * s.stride[0] + i / s.kernel[1] * s.dilation[0] - s.pad[0];
      const int64_t in_y = out_y * s.stride[1] + i % s.kernel[1] * s.dilation[1] - s.pad[1];
      const bool inside = i < above && in_z >= 0 && in_z < s.in[0] && in_y >= 0 && in_y < s.in[1];
      from[i] = inside ? images + in_z * image.plane + in_y * image.row : outside;
      step[i] = inside ? channels : 0;
    }
    d.rows = own;
    d.steps = step;
    for (int64_t channel = 0; channel < channels; channel += lanes) {
      for (int64_t i = 0; i < 4 * quads; ++i) own[i] = from[i] + channel;
      d.channels = std::min(lanes, channels - channel);
      d.weights = reinterpret_cast<const int32_t*>(weights.data) + channel / lanes * block_weights;
      const int64_t offset = (row * s.out[2] * channels + channel) * size;
      d.y = y + offset;
      d.residual = residual != nullptr ? residual + offset : nullptr;
      functions.depthwise(d, at_channel(finish, channel));
    }
  };
  const double work = static_cast<double>(rows * s.out[2] * channels * (s.taps() + 8)) / 8;
  c.parallel_for(threads, work / static_cast<double>(threads), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      DepthwiseRow d = common;
      d.space = space + i * room;
      for (int64_t row = rows * i / threads; row < rows * (i + 1) / threads; ++row) {
        run_row(row, d, pointers + i * quads * 8, steps + i * quads * 4);
      }
    }
  });
}

}  // namespace bascule
