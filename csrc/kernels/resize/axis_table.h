// SPDX-License-Identifier: Apache-2.0
// Where the elements along one resized axis come from, and with which weights.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/node.h"

namespace bascule {

enum class ResizeMode : uint8_t { nearest, linear, cubic };
enum class Coordinates : uint8_t {
  half_pixel,
  half_pixel_symmetric,
  pytorch_half_pixel,
  align_corners,
  asymmetric,
  tf_crop_and_resize,
};
enum class NearestMode : uint8_t { round_prefer_floor, round_prefer_ceil, floor, ceil };

// The attributes of Resize that say how one axis is sampled.
struct Sampling {
  explicit Sampling(const NodeSpec& node);

  ResizeMode mode;
  Coordinates coordinates;
  NearestMode nearest;
  bool antialias;
  bool exclude_outside;
  double cubic_a;
};

// One axis: input and output length, and the scale that lies between them (which need not be their
// quotient). The region is for tf_crop_and_resize.
struct ResizedAxis {
  int axis;
  int64_t input;
  int64_t output;
  // The scale is a fraction: of an output by an input length, or a given float32 by 1.
  double numerator = 1;
  double denominator = 1;
  bool is_given = false;
  double region_begin = 0;
  double region_end = 1;

  double scale() const { return numerator / denominator; }

  // Nothing changes along the axis.
  bool is_identity(const Sampling& sampling) const;
};

// Number of elements that each output element is made of.
int64_t tap_count(const Sampling& sampling, const ResizedAxis& axis);

// indices[t * output + o] and weights[t * output + o] for tap t of output o, all within the input.
// An output outside of the region to extrapolate has indices -1. One index and no weight (null) for
// nearest.
void fill_taps(const Sampling& sampling, const ResizedAxis& axis, int32_t* indices,
               double* weights);

}  // namespace bascule
