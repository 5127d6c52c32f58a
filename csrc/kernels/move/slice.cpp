// SPDX-License-Identifier: Apache-2.0
// Slice: along each given axis the elements start, start + step, ... before end.
#include <limits>

#include "kernels/move/int_list.h"
#include "kernels/move/packed_bytes.h"
#include "kernels/move/strided_copy.h"
#include "runtime/kernel.h"

namespace bascule {
namespace {

// The first index and the number of elements. Unlike in Python, a start before the front of an axis
// that is walked backwards means its first element.
struct Range {
  int64_t first;
  int64_t count;
};
Range slice_range(int64_t size, int64_t start, int64_t end, int64_t step) {
  if (step == 0) invalid("Slice: a step must not be 0");
  if (size == 0) return {0, 0};
  const int64_t high = step < 0 ? size - 1 : size;
  const auto place = [&](int64_t i, int64_t low) {
    return std::clamp(i < 0 ? i + size : i, low, high);
  };
  const int64_t first = place(start, 0);
  const int64_t last = place(end, step < 0 ? -1 : 0);
  // Distances fit: both ends are in [-1, size]. A step of any size takes part unsigned.
  const int64_t distance = step < 0 ? first - last : last - first;
  const uint64_t stride =
      step < 0 ? uint64_t{0} - static_cast<uint64_t>(step) : static_cast<uint64_t>(step);
  if (distance <= 0) return {first, 0};
  return {first, static_cast<int64_t>((static_cast<uint64_t>(distance) - 1) / stride) + 1};
}

struct Slice final : Kernel {
  void run(RunContext& c) const override {
    const Tensor& input = c.input(0);
    const int rank = input.rank();
    const Shape starts = int_list(c.input(1));
    const Shape ends = int_list(c.input(2));
    const bool has_axes = c.has_input(3), has_steps = c.has_input(4);
    const Shape axes = has_axes ? int_list(c.input(3)) : Shape{};
    const Shape steps = has_steps ? int_list(c.input(4)) : Shape{};
    const int count = starts.rank();
    if (ends.rank() != count || (has_axes && axes.rank() != count) ||
        (has_steps && steps.rank() != count) || count > rank) {
      invalid(
          "Slice: starts, ends, axes and steps must be as long as each other and not longer "
          "than the rank of the input");
    }
    StridedBox box{input.shape(), input.shape().strides(), {}};
    int64_t offset = 0;
    bool sliced[Shape::max_rank] = {};
    for (int i = 0; i < count; ++i) {
      const int axis = has_axes ? input.shape().axis(axes[i]) : i;
      if (sliced[axis]) invalid("Slice: axis " + std::to_string(axis) + " is given twice");
      sliced[axis] = true;
      const int64_t step = has_steps ? steps[i] : 1;
      const Range range = slice_range(input.dim(axis), starts[i], ends[i], step);
      box.sizes[axis] = range.count;
      if (range.count > 0) offset += range.first * box.from[axis];
      // With one element the step does not matter, and may be too large to multiply.
      if (range.count > 1) box.from[axis] *= step;
    }
    const int64_t size = box.sizes.size();
    if (is_run(input.shape(), box, size) && !is_packed(input.dtype())) {
      const int64_t item = item_size(input.dtype());
      // A view keeps all of the input's memory alive: worth it for a good part of it only.
      if (size * 4 >= input.size()) {
        std::byte* from = const_cast<std::byte*>(input.raw()) + offset * item;
        return c.alias_output(0, Tensor(input.dtype(), box.sizes, from, input.owner()), box.sizes);
      }
      Tensor& y = c.output(0, input.dtype(), box.sizes);
      return copy_run(c, input.dtype(), input.raw() + offset * item, y.raw(), size);
    }
    box.to = box.sizes.strides();
    const Tensor x = unpacked(c, input);
    MovedOutput y(c, 0, input.dtype(), box.sizes);
    if (size == 0) return;
    strided_copy(c, x.dtype(), x.raw() + offset * item_size(x.dtype()), y.data(), box);
  }

 private:
  // Whether the elements lie together: all axes after the first one that is cut are whole.
  static bool is_run(const Shape& shape, const StridedBox& box, int64_t size) {
    if (size == 0) return false;
    bool cut = false;
    int64_t expected = 1;
    for (int i = shape.rank() - 1; i >= 0; --i) {
      if (box.sizes[i] != 1 && (cut || box.from[i] != expected)) return false;
      cut |= box.sizes[i] != shape[i];
      expected *= shape[i];
    }
    return true;
  }
};
BASCULE_KERNEL("Slice", Slice);

}  // namespace
}  // namespace bascule
