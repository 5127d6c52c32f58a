// SPDX-License-Identifier: Apache-2.0
#include "kernels/pool/geometry.h"

#include <algorithm>
#include <limits>

namespace bascule {

namespace {

// No product of two of these overflows.
constexpr int64_t most = std::numeric_limits<int32_t>::max();

void check_sizes(const char* name, const std::vector<int64_t>& values, size_t expected,
                 int64_t least) {
  if (!values.empty() && values.size() != expected) {
    invalid(std::string("attribute '") + name + "' has " + std::to_string(values.size()) +
            " values, expected " + std::to_string(expected));
  }
  for (int64_t value : values) {
    if (value < least || value > most) {
      invalid(std::string("attribute '") + name + "' has the value " + std::to_string(value));
    }
  }
}

}  // namespace

PoolAttributes::PoolAttributes(const NodeSpec& node)
    : kernel(node.get_ints("kernel_shape")),
      strides(node.get_ints("strides")),
      dilations(node.get_ints("dilations")),
      pads(node.get_ints("pads")),
      auto_pad(node.get_string("auto_pad", "NOTSET")),
      ceil_mode(node.get_int("ceil_mode", 0) != 0) {
  const size_t rank = kernel.size();
  if (rank == 0 || rank > max_spatial) {
    fail("attribute 'kernel_shape' has " + std::to_string(rank) + " values, expected 1 to 3");
  }
  check_sizes("kernel_shape", kernel, rank, 1);
  check_sizes("strides", strides, rank, 1);
  check_sizes("dilations", dilations, rank, 1);
  check_sizes("pads", pads, 2 * rank, 0);
  if (auto_pad != "NOTSET" && auto_pad != "VALID" && auto_pad != "SAME_UPPER" &&
      auto_pad != "SAME_LOWER") {
    invalid("attribute 'auto_pad' is '" + auto_pad + "'");
  }
}

WindowAxes PoolAttributes::axes(const int64_t* spatial, int rank) const {
  if (rank != static_cast<int>(kernel.size())) {
    fail("the input has " + std::to_string(rank) + " spatial axes, and 'kernel_shape' " +
         std::to_string(kernel.size()) + " values");
  }
  WindowAxes result;
  for (int i = 0; i < rank; ++i) {
    const auto at = static_cast<size_t>(i);
    WindowAxis& axis = result[static_cast<size_t>(max_spatial - rank + i)];
    axis.input = spatial[i];
    axis.kernel = kernel[at];
    if (!strides.empty()) axis.stride = strides[at];
    if (!dilations.empty()) axis.dilation = dilations[at];
    const int64_t extent = (axis.kernel - 1) * axis.dilation + 1;
    if (extent > most) fail("a window reaches over " + std::to_string(extent) + ", too many");
    if (auto_pad == "SAME_UPPER" || auto_pad == "SAME_LOWER") {
      axis.output = (axis.input + axis.stride - 1) / axis.stride;
      const int64_t pad =
          std::max<int64_t>(0, (axis.output - 1) * axis.stride + extent - axis.input);
      axis.pad_begin = auto_pad == "SAME_UPPER" ? pad / 2 : pad - pad / 2;
      axis.pad_end = pad - axis.pad_begin;
      continue;
    }
    if (auto_pad == "NOTSET" && !pads.empty()) {
      axis.pad_begin = pads[at];
      axis.pad_end = pads[at + kernel.size()];
    }
    const int64_t room = axis.input + axis.pad_begin + axis.pad_end - extent;
    if (room < 0) {
      // Rounded up, one window that is larger than the input still counts, if it has any of it.
      axis.output = ceil_mode && room > -axis.stride && axis.input + axis.pad_begin > 0 ? 1 : 0;
      if (axis.output == 0 && axis.input > 0) {
        fail("a window that reaches over " + std::to_string(extent) + " does not fit an axis of " +
             std::to_string(axis.input));
      }
      continue;
    }
    axis.output = room / axis.stride + 1;
    // A window may begin in the input or the padding before it, not in the padding behind.
    if (ceil_mode && room % axis.stride != 0 &&
        axis.output * axis.stride < axis.input + axis.pad_begin) {
      ++axis.output;
    }
  }
  for (WindowAxis& axis : result) {
    if (axis.output == 1) axis.stride = 1;  // it goes nowhere, and buffers hold a few windows
  }
  return result;
}

}  // namespace bascule
