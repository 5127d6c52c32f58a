// SPDX-License-Identifier: Apache-2.0
// What the kernels of channels-last 8-bit convolutions are given. Plain data, shared by code of
// every instruction set.
//
// Pixels are unsigned bytes and weights signed ones; the other signs are had by flipping the top
// bit, which moves the zero point by 128.
#pragma once

#include <cstdint>

namespace bascule {

// How bytes are added to the result, as QLinearAdd does:
// clamp(round(own * own_factor + (added * factor + offset)), low, low + 255), or with the operands
// the other way round.
struct ByteAddition {
  float own_factor;
  float factor;
  float offset;
  bool is_first;
  float low;
  bool is_signed;
};

// What becomes of the sums of output channels. Arrays reach up to whole panels.
struct IntegerFinish {
  const int32_t* bias;
  // Null when all are zero. Each pixel's sum, times these, is taken off.
  const int32_t* weight_zero;
  // y = clamp(round((sum + bias) * factor) + zero, low, high) as bytes; null: sum + bias as int32.
  const float* factors;
  float zero;
  float low;
  float high;
  // What is added to the bytes; null: nothing. First `row`, a number for each output channel, then
  // bytes of the shape of the result.
  const ByteAddition* row;
  const float* row_values;
  const ByteAddition* residual;
};

// Output pixels of all channels of some panels: one or two runs of as many neighbours. Tap t of
// pixel r of a run: `tap_quads` quads at a + taps[t] + r * a_stride. Panels of weights:
// [taps][quads][panel_width][4].
struct PixelTile {
  static constexpr int64_t longest_run = 7;
  struct Run {
    const uint8_t* a;
    uint8_t* y;
    const uint8_t* residual;
    int64_t skip;  // pixels that are another tile's to write
  };
  Run runs[2];
  int64_t run_count;
  int64_t pixels;  // of each run
  int64_t a_stride;
  const int64_t* taps;
  int64_t tap_count;
  int64_t tap_quads;
  int64_t tap_bytes;  // without what fills up the last quad
  const int8_t* b;
  int64_t b_panel_stride;
  // What will be read later: every quad that is multiplied fetches `next_step` bytes of it.
  const int8_t* next;
  int64_t next_step;
  int64_t y_stride;  // bytes from pixel to pixel
  int64_t columns;
};

// Output pixels of a row of a depthwise convolution, for up to `lanes` channels.
struct DepthwiseRow {
  // Quads of taps that lie above each other: tap i of quad g, column x of the input:
  // rows[4 * g + i] + x * steps[4 * g + i].
  const uint8_t* const* rows;
  const int64_t* steps;
  int64_t row_count;
  int64_t quads;  // that hold so many rows
  uint8_t flip;
  // Columns [begin, end) of `columns` are pixels, the first of which is column 0; the others are
  // `border`.
  int64_t begin;
  int64_t end;
  int64_t columns;
  uint8_t border;
  int64_t kernel;
  int64_t dilation;
  int64_t stride;
  const int32_t* weights;  // [quads][kernel][lanes]
  const int32_t* ones;     // as weights, with 1 for each tap; may be null without weight_zero
  int32_t* space;          // [quads][columns][lanes]
  int64_t channels;
  uint8_t* y;
  const uint8_t* residual;  // like y
  int64_t y_stride;
  int64_t pixels;
};

struct IntegerPixelFunctions {
  int64_t lanes;
  void (*tile)(const PixelTile& tile, const IntegerFinish& finish);
  void (*depthwise)(const DepthwiseRow& row, const IntegerFinish& finish);
};

const IntegerPixelFunctions& integer_pixels();

}  // namespace bascule
