// SPDX-License-Identifier: Apache-2.0
#include "kernels/conv/geometry.h"

#include <algorithm>
#include <limits>

namespace bascule {

ConvAttributes::ConvAttributes(const NodeSpec& node)
    : auto_pad_(node.get_string("auto_pad", "NOTSET")),
      kernel_(node.get_ints("kernel_shape")),
      strides_(node.get_ints("strides")),
      dilations_(node.get_ints("dilations")),
      pads_(node.get_ints("pads")),
      output_padding_(node.get_ints("output_padding")),
      output_shape_(node.get_ints("output_shape")),
      group_(node.get_int("group", 1)),
      channels_last_(node.get_int("channels_last", 0) != 0),
      planes_(channels_last_ && node.get_int("planes", 0) != 0) {
  if (auto_pad_ != "NOTSET" && auto_pad_ != "VALID" && auto_pad_ != "SAME_UPPER" &&
      auto_pad_ != "SAME_LOWER") {
    fail("auto_pad '" + auto_pad_ + "' is not known");
  }
  if (group_ < 1) fail("group is " + std::to_string(group_) + ", expected at least 1");
  // With sizes that fit in memory no product of these overflows.
  const int64_t most = std::numeric_limits<int32_t>::max();
  for (const auto* positive : {&strides_, &dilations_}) {
    for (const int64_t value : *positive) {
      if (value < 1 || value > most) fail("a stride or dilation is " + std::to_string(value));
    }
  }
  for (const auto* values : {&pads_, &output_padding_}) {
    for (const int64_t value : *values) {
      if (value < 0) fail("padding of " + std::to_string(value) + " is negative");
      if (value > most) fail("padding of " + std::to_string(value) + " is too large");
    }
  }
}

void ConvAttributes::check_counts(int rank) const {
  const auto spatial = static_cast<size_t>(rank - 2);
  for (const auto* values : {&kernel_, &strides_, &dilations_, &output_padding_, &output_shape_}) {
    if (!values->empty() && values->size() != spatial) {
      fail("an attribute has " + std::to_string(values->size()) + " values for " +
           std::to_string(spatial) + " spatial axes");
    }
  }
  if (!pads_.empty() && pads_.size() != 2 * spatial) {
    fail("pads has " + std::to_string(pads_.size()) + " values for " + std::to_string(spatial) +
         " spatial axes");
  }
}

ConvSizes ConvAttributes::common(const Shape& x, const Shape& w) const {
  const int rank = x.rank();
  if (rank < 3 || rank > 5) {
    fail("input has shape " + x.text() + ", expected one to three spatial axes");
  }
  if (w.rank() != rank) {
    fail("weights have shape " + w.text() + ", expected " + std::to_string(rank) + " axes");
  }
  check_counts(rank);
  ConvSizes s;
  s.batch = x[0];
  s.group = group_;
  const bool last = channels_last_ && !planes_;
  s.in_channels = x[last ? rank - 1 : 1];
  for (int i = 0; i < rank - 2; ++i) {
    const auto axis = static_cast<size_t>(5 - rank + i);
    s.in[axis] = x[(last ? 1 : 2) + i];
    s.kernel[axis] = w[2 + i];
    s.stride[axis] = at(strides_, i, 1);
    s.dilation[axis] = at(dilations_, i, 1);
    if (s.kernel[axis] < 1 || at(kernel_, i, s.kernel[axis]) != s.kernel[axis]) {
      fail("weights have shape " + w.text() + ", which is not that of kernel_shape");
    }
  }
  return s;
}

ConvSizes ConvAttributes::conv_weights(const Shape& w) const {
  ConvSizes s;
  s.group = group_;
  s.in_channels = w[1] * group_;
  s.out_channels = w[0];
  const auto spatial = static_cast<size_t>(w.rank() - 2);
  // The i-th value of an attribute; run() says when their number does not fit.
  const auto value = [&](const std::vector<int64_t>& values, size_t i, int64_t fallback) {
    return i < values.size() ? values[i] : fallback;
  };
  for (size_t i = 0; i < spatial; ++i) {
    const size_t axis = 3 - spatial + i;
    s.kernel[axis] = w[static_cast<int>(i) + 2];
    s.stride[axis] = value(strides_, i, 1);
    s.dilation[axis] = value(dilations_, i, 1);
    const int64_t reach = (s.kernel[axis] - 1) * s.dilation[axis];
    if (auto_pad_ == "NOTSET") {
      s.pad[axis] = value(pads_, i, 0);
    } else if (auto_pad_ != "VALID" && s.stride[axis] == 1) {
      s.pad[axis] = auto_pad_ == "SAME_UPPER" ? reach / 2 : reach - reach / 2;
    }
  }
  return s;
}

ConvSizes ConvAttributes::conv(const Shape& x, const Shape& w) const {
  ConvSizes s = common(x, w);
  const int rank = x.rank();
  s.out_channels = w[0];
  if (s.in_channels != w[1] * group_ || s.out_channels % group_ != 0) {
    fail("input has " + std::to_string(s.in_channels) + " channels and the weights are " +
         w.text() + " in " + std::to_string(group_) + " groups");
  }
  for (int i = 0; i < rank - 2; ++i) {
    const auto axis = static_cast<size_t>(5 - rank + i);
    const int64_t reach = (s.kernel[axis] - 1) * s.dilation[axis] + 1;
    int64_t before = 0;
    int64_t after = 0;
    if (auto_pad_ == "NOTSET") {
      before = at(pads_, i, 0);
      after = at(pads_, i + rank - 2, 0);
    } else if (auto_pad_ != "VALID") {
      const int64_t out = (s.in[axis] + s.stride[axis] - 1) / s.stride[axis];
      const int64_t total = std::max<int64_t>(0, (out - 1) * s.stride[axis] + reach - s.in[axis]);
      before = auto_pad_ == "SAME_UPPER" ? total / 2 : total - total / 2;
      after = total - before;
    }
    const int64_t room = s.in[axis] + before + after - reach;
    if (room < 0) {
      fail("a kernel that reaches over " + std::to_string(reach) + " does not fit the input " +
           x.text());
    }
    s.pad[axis] = before;
    s.out[axis] = room / s.stride[axis] + 1;
  }
  return s;
}

ConvSizes ConvAttributes::transposed(const Shape& x, const Shape& w) const {
  ConvSizes s = common(x, w);
  const int rank = x.rank();
  s.out_channels = w[1] * group_;
  if (s.in_channels != w[0] || s.in_channels % group_ != 0) {
    fail("input has " + std::to_string(s.in_channels) + " channels and the weights are " +
         w.text() + " in " + std::to_string(group_) + " groups");
  }
  for (int i = 0; i < rank - 2; ++i) {
    const auto axis = static_cast<size_t>(5 - rank + i);
    const int64_t reach = (s.kernel[axis] - 1) * s.dilation[axis] + 1;
    const int64_t extra = at(output_padding_, i, 0);
    const int64_t full = (s.in[axis] - 1) * s.stride[axis] + extra + reach;
    if (!output_shape_.empty() || auto_pad_ == "SAME_UPPER" || auto_pad_ == "SAME_LOWER") {
      s.out[axis] = at(output_shape_, i, s.in[axis] * s.stride[axis]);
      const int64_t total = std::max<int64_t>(0, full - s.out[axis]);
      s.pad[axis] = auto_pad_ == "SAME_UPPER" ? total / 2 : total - total / 2;
    } else {
      const bool given = auto_pad_ == "NOTSET";
      s.pad[axis] = given ? at(pads_, i, 0) : 0;
      s.out[axis] = full - s.pad[axis] - (given ? at(pads_, i + rank - 2, 0) : 0);
    }
    if (s.out[axis] < 0) fail("the output would have a size of " + std::to_string(s.out[axis]));
  }
  return s;
}

ConvSizes ConvAttributes::transposed_weights(const Shape& w) const {
  check_counts(w.rank());
  ConvSizes s;
  s.group = group_;
  s.in_channels = w[0];
  s.out_channels = w[1] * group_;
  for (int i = 0; i < w.rank() - 2; ++i) {
    const auto axis = static_cast<size_t>(5 - w.rank() + i);
    s.kernel[axis] = w[2 + i];
    s.stride[axis] = at(strides_, i, 1);
    s.dilation[axis] = at(dilations_, i, 1);
  }
  return s;
}

Shape ConvAttributes::output_shape(const ConvSizes& s, int rank) const {
  Shape shape{s.batch};
  if (!channels_last_) shape.push_back(s.out_channels);
  for (int i = 5 - rank; i < 3; ++i) shape.push_back(s.out[static_cast<size_t>(i)]);
  if (channels_last_) shape.push_back(s.out_channels);
  return shape;
}

}  // namespace bascule
