// SPDX-License-Identifier: Apache-2.0
// Convolution with channels last, in its forms. T is float or double.
#pragma once

#include <cstddef>
#include <span>

#include "kernels/conv/geometry.h"
#include "kernels/gemm/gemm.h"
#include "runtime/run_context.h"

namespace bascule {

// Whether every channel is a group of its own with one result: then float32 runs depthwise.
inline bool is_depthwise(const ConvSizes& s) {
  return s.group > 1 && s.group == s.in_channels && s.group == s.out_channels;
}

// Whether every channel is a group of its own with several results: then too.
inline bool has_multiplier(const ConvSizes& s) {
  return s.group > 1 && s.group == s.in_channels && s.out_channels > s.group;
}

// Elements that packed weights take.
template <class T>
int64_t packed_weights_size(const ConvSizes& s);
// Packs weights [M, C / group, kernel...]: depthwise float32 as [tap][M], all else per group as
// panels of the matrix [(tap, c), m].
template <class T>
void pack_weights(const ConvSizes& s, const T* w, T* packed);

// Y = epilogue(X * W): X is [N, in..., C], Y and the residual [N, out..., M].
template <class T>
struct Convolution {
  ConvSizes sizes;
  const T* x;
  const T* w;             // packed by pack_weights, or by pack_winograd
  int winograd_tile = 0;  // of pack_winograd
  bool overlaps = false;  // packed by pack_conv_overlaps
  T* y;
  GemmEpilogue<T> epilogue;  // bias [M]
  // X is [N, C, in...] instead, as takes_planes allows it.
  bool planes = false;
  bool by_parts = false;  // see GemmBlock
  // Whether all weights are known to be finite: then taps outside the input can be left out.
  bool finite_weights = false;
  // Memory that a 1x1 convolution fetches into the caches meanwhile.
  std::span<const std::byte> ahead;
};

// The bytes that it can fetch beside its own work, as far as it is worth it.
int64_t spare_bytes(const ConvSizes& s);

// Whether a convolution that is not in Winograd's form reads a few channels where they are, each by
// itself: its copy of the input then puts them side by side.
inline bool takes_planes(const ConvSizes& s) {
  return s.group == 1 && s.in_channels >= 2 && s.in_channels <= 4;
}
// to[pixel][channel] = from[channel * plane + pixel] for so many channels.
void interleave_channels(const float* from, int64_t plane, int64_t channels, int64_t pixels,
                         float* to);

// The pixels that a 1x1 convolution without padding reads, one after the other in workspace.
template <class T>
const T* strided_pixels(RunContext& c, const ConvSizes& s, const T* x);

template <class T>
void run_convolution(RunContext& c, const Convolution<T>& convolution);

// The same for an input times a factor for each image and channel, [N, C]: the weights or the input
// are scaled in scratch memory, whichever is less.
void run_scaled_convolution(RunContext& c, const float* factor, Convolution<float> convolution);

// Whether Winograd's form can compute a convolution, and its weights are not too large.
bool takes_winograd(const ConvSizes& s);
// The side of the tiles of results, 4 or 2, with which Winograd's form is fastest for 3x3
// convolutions of this size; 0 if it is not faster. It takes larger weights of its own, in as many
// planes.
int winograd_tile(const ConvSizes& s);
inline int64_t winograd_planes(int tile) { return (tile + 2) * (tile + 2); }
int64_t winograd_weights_size(const ConvSizes& s, int tile);
void pack_winograd(const ConvSizes& s, int tile, const float* w, float* packed);

// Some neighbouring channels of one image, for a depthwise convolution.
struct DepthwiseStrip {
  const float* x;         // the input from row `first_row` on (depth and height as one index)
  int64_t first_row = 0;  // rows before it are not read
  int64_t x_stride;       // between pixels
  int64_t channels;
  const float* w;  // this and all else from the first of these channels on
  float* y;
  GemmEpilogue<float> epilogue;
};

// Rows [begin, end) of the output. `pointers`: scratch memory for depthwise_pointers.
inline int64_t depthwise_pointers(const ConvSizes& s) { return 2 * s.kernel[0] * s.kernel[1]; }
void run_depthwise_rows(const ConvSizes& s, const DepthwiseStrip& strip, int64_t begin, int64_t end,
                        const float** pointers);

// Parts of run_convolution.
void run_winograd(RunContext& c, const Convolution<float>& convolution);
void run_depthwise(RunContext& c, const Convolution<float>& convolution);
void run_depthwise_multiplier(RunContext& c, const Convolution<float>& convolution);
template <class T>
void run_dense(RunContext& c, const Convolution<T>& convolution);
// The dense form for kernels that lie outside the input to a good part.
bool pays_tap_by_tap(const ConvSizes& s);
template <class T>
void run_tap_by_tap(RunContext& c, const Convolution<T>& convolution);

}  // namespace bascule
