// SPDX-License-Identifier: Apache-2.0
// Concat and Split: several tensors side by side along one axis, and back.
#include "kernels/move/concat.h"

#include <vector>

#include "kernels/move/int_list.h"
#include "kernels/move/packed_bytes.h"
#include "kernels/move/strided_copy.h"
#include "runtime/kernel.h"

namespace bascule {

// Around one axis a tensor is `outer` rows, each of the axis' size times `inner` elements.
void concat(RunContext& c, std::span<const Tensor* const> parts, int64_t axis) {
  const Tensor& first = *parts[0];
  const int at = first.shape().axis(axis);
  Shape shape = first.shape();
  for (size_t i = 1; i < parts.size(); ++i) {
    const Tensor& x = *parts[i];
    bool fits = x.rank() == shape.rank() && x.dtype() == first.dtype();
    for (int k = 0; fits && k < shape.rank(); ++k) fits = k == at || x.dim(k) == shape[k];
    if (!fits) {
      fail("input " + std::to_string(i) + " of shape " + x.shape().text() +
           " does not fit the first one of shape " + first.shape().text() + " along axis " +
           std::to_string(at));
    }
    shape[at] += x.dim(at);
  }
  const int64_t outer = shape.product(0, at);
  const int64_t row = shape.product(at, shape.rank());
  MovedOutput y(c, 0, first.dtype(), shape);
  const DType dtype = moved_dtype(first.dtype());
  int64_t offset = 0;
  for (const Tensor* part : parts) {
    if (part->size() == 0) continue;
    const Tensor x = unpacked(c, *part);
    std::byte* to = y.data() + offset * item_size(dtype);
    const int64_t count = x.size() / outer;
    if (outer == 1) {
      copy_run(c, dtype, x.raw(), to, count);
    } else {
      strided_copy(c, dtype, x.raw(), to, {{outer, count}, {count, 1}, {row, 1}});
    }
    offset += count;
  }
}

namespace {

struct Concat final : Kernel {
  explicit Concat(const NodeSpec& node) : axis(node.get_int("axis", 0)) {}
  void run(RunContext& c) const override {
    constexpr int few = 16;
    const int count = c.input_count();
    if (count <= few) {
      const Tensor* parts[few];
      for (int i = 0; i < count; ++i) parts[i] = &c.input(i);
      return concat(c, {parts, static_cast<size_t>(count)}, axis);
    }
    std::vector<const Tensor*> parts;
    for (int i = 0; i < count; ++i) parts.push_back(&c.input(i));
    concat(c, parts, axis);
  }
  int64_t axis;
};
BASCULE_KERNEL("Concat", Concat);

struct Split final : Kernel {
  explicit Split(const NodeSpec& node)
      : axis(node.get_int("axis", 0)), parts(node.get_int("num_outputs", 0)) {
    if (parts < 0) invalid("num_outputs must not be negative, got " + std::to_string(parts));
  }
  void run(RunContext& c) const override {
    const Tensor& input = c.input(0);
    const int at = input.shape().axis(axis);
    const int64_t outer = input.shape().product(0, at);
    const int64_t row = input.shape().product(at, input.rank());
    const int64_t inner = input.shape().product(at + 1, input.rank());
    const int64_t size = input.dim(at);
    const Tensor* sizes = c.has_input(1) ? &c.input(1) : nullptr;
    const int64_t count = c.output_count();
    if (sizes != nullptr) check_sizes(*sizes, count, size);
    // Even parts; the last is smaller when they do not come out even.
    const int64_t pieces = parts > 0 ? parts : count;
    const int64_t even = (size + pieces - 1) / pieces;
    const Tensor x = outer == 1 ? input : unpacked(c, input);
    int64_t start = 0;
    for (int i = 0; i < count; ++i) {
      Shape shape = input.shape();
      shape[at] =
          sizes != nullptr ? sizes->data<int64_t>()[i] : std::clamp<int64_t>(size - start, 0, even);
      const int64_t part = shape[at] * inner;
      const int64_t offset = start * inner;
      start += shape[at];
      if (!c.wants_output(i)) continue;
      if (outer == 1 && !is_packed(input.dtype())) {
        std::byte* from = const_cast<std::byte*>(input.raw()) + offset * item_size(input.dtype());
        c.alias_output(i, Tensor(input.dtype(), shape, from, input.owner()), shape);
        continue;
      }
      const Tensor moved = outer == 1 ? unpacked(c, input) : x;
      const DType dtype = moved.dtype();
      MovedOutput y(c, i, input.dtype(), shape);
      if (part == 0 || outer == 0) continue;
      strided_copy(c, dtype, moved.raw() + offset * item_size(dtype), y.data(),
                   {{outer, part}, {row, 1}, {part, 1}});
    }
  }

 private:
  static void check_sizes(const Tensor& sizes, int64_t count, int64_t size) {
    int64_t sum = 0;
    bool fits = sizes.size() == count;
    for (int64_t i = 0; fits && i < count; ++i) {
      const int64_t part = sizes.data<int64_t>()[i];
      fits = part >= 0 && part <= size - sum;
      sum += part;
    }
    if (!fits || sum != size) {
      invalid("Split: the sizes of `split` must be " + std::to_string(count) +
              " numbers, none negative, that sum to " + std::to_string(size));
    }
  }
  int64_t axis;
  int64_t parts;
};
BASCULE_KERNEL("Split", Split);

}  // namespace
}  // namespace bascule
