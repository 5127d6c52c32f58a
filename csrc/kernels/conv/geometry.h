// SPDX-License-Identifier: Apache-2.0
// Where the taps of a convolution fall: attributes of Conv and ConvTranspose, and the sizes that
// follow from them. Up to three spatial axes (depth, height, width); missing ones have size 1.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "core/shape.h"
#include "runtime/node.h"

namespace bascule {

using Spatial = std::array<int64_t, 3>;

// The sizes of one convolution. Channels are counted over all groups.
struct ConvSizes {
  int64_t batch = 0;
  int64_t group = 1;
  int64_t in_channels = 0;
  int64_t out_channels = 0;
  Spatial in{1, 1, 1};
  Spatial out{1, 1, 1};
  Spatial kernel{1, 1, 1};
  Spatial stride{1, 1, 1};
  Spatial dilation{1, 1, 1};
  Spatial pad{0, 0, 0};  // before; what lies after follows from the sizes

  int64_t taps() const { return kernel[0] * kernel[1] * kernel[2]; }
  int64_t in_pixels() const { return in[0] * in[1] * in[2]; }
  int64_t out_pixels() const { return out[0] * out[1] * out[2]; }
  int64_t group_in() const { return in_channels / group; }
  int64_t group_out() const { return out_channels / group; }
};

// The attributes that Conv and ConvTranspose share.
class ConvAttributes {
 public:
  explicit ConvAttributes(const NodeSpec& node);

  bool channels_last() const { return channels_last_; }
  // Whether X alone has channels first.
  bool planes() const { return planes_; }

  // Sizes of Conv for an input and weights [M, C / group, kernel...]; an error when they do not
  // fit.
  ConvSizes conv(const Shape& x, const Shape& w) const;
  // The part of them that follows from weights and attributes alone: all but the image sizes, and
  // the padding of SAME with a stride.
  ConvSizes conv_weights(const Shape& w) const;
  // Sizes of ConvTranspose for weights [C, M / group, kernel...].
  ConvSizes transposed(const Shape& x, const Shape& w) const;
  // The part of them that follows from weights and attributes alone: all but the image sizes.
  ConvSizes transposed_weights(const Shape& w) const;
  // The shape of Y; `rank` that of X.
  Shape output_shape(const ConvSizes& sizes, int rank) const;

 private:
  // An error when an attribute has not one value for each spatial axis of an input of this rank.
  void check_counts(int rank) const;
  ConvSizes common(const Shape& x, const Shape& w) const;
  // The attribute's value for spatial axis i, or the default.
  static int64_t at(const std::vector<int64_t>& values, int i, int64_t fallback) {
    return values.empty() ? fallback : values[static_cast<size_t>(i)];
  }

  std::string auto_pad_;
  std::vector<int64_t> kernel_;
  std::vector<int64_t> strides_;
  std::vector<int64_t> dilations_;
  std::vector<int64_t> pads_;
  std::vector<int64_t> output_padding_;
  std::vector<int64_t> output_shape_;
  int64_t group_;
  bool channels_last_;
  bool planes_;
};

}  // namespace bascule
