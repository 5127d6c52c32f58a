// SPDX-License-Identifier: Apache-2.0
// Pad: elements added around a tensor, or with negative counts taken away.
#include <cstring>

#include "kernels/move/int_list.h"
#include "kernels/move/packed_bytes.h"
#include "kernels/move/strided_copy.h"
#include "runtime/kernel.h"

namespace bascule {
namespace {

enum class Mode { constant, reflect, edge, wrap };

// The index of [0, size) that stands at `i`, which may lie outside.
int64_t source_index(Mode mode, int64_t i, int64_t size) {
  const auto modulo = [](int64_t a, int64_t b) { return (a % b + b) % b; };
  switch (mode) {
    case Mode::reflect: {
      if (size == 1) return 0;
      const int64_t place = modulo(i, 2 * (size - 1));
      return place < size ? place : 2 * (size - 1) - place;
    }
    case Mode::wrap:
      return modulo(i, size);
    default:
      return std::clamp<int64_t>(i, 0, size - 1);
  }
}

struct Pad final : Kernel {
  explicit Pad(const NodeSpec& node) {
    const std::string name = node.get_string("mode", "constant");
    if (name == "constant") {
      mode = Mode::constant;
    } else if (name == "reflect") {
      mode = Mode::reflect;
    } else if (name == "edge") {
      mode = Mode::edge;
    } else if (name == "wrap") {
      mode = Mode::wrap;
    } else {
      invalid("Pad: mode '" + name + "' is not one of constant, reflect, edge, wrap");
    }
  }

  void run(RunContext& c) const override {
    const Tensor& input = c.input(0);
    const int rank = input.rank();
    Shape before = Shape::filled(rank, 0), after = before;
    read_pads(c, rank, before, after);
    // Negative counts crop first: `kept` elements from `first` on.
    Shape shape = input.shape(), first = before, kept = before;
    for (int i = 0; i < rank; ++i) {
      first[i] = std::max<int64_t>(-before[i], 0);
      kept[i] = input.dim(i) - first[i] - std::max<int64_t>(-after[i], 0);
      if (kept[i] < 0) {
        invalid("Pad: more elements are taken away than shape " + input.shape().text() + " has");
      }
      before[i] = std::max<int64_t>(before[i], 0);
      after[i] = std::max<int64_t>(after[i], 0);
      if (__builtin_add_overflow(kept[i] + before[i], after[i], &shape[i])) {
        fail("Pad: too many elements");
      }
      if (kept[i] == 0 && shape[i] > 0 && mode != Mode::constant) {
        invalid("Pad: an axis without elements can only be padded with a constant");
      }
    }
    const DType dtype = input.dtype();
    const Tensor x = unpacked(c, input);
    if (mode == Mode::constant) {
      // The element is read before the output is made: string constants live in the kernel's frame.
      const std::string empty;
      const uint64_t zero[2] = {};
      const std::byte* element = dtype == DType::string ? reinterpret_cast<const std::byte*>(&empty)
                                                        : reinterpret_cast<const std::byte*>(zero);
      Tensor given;
      if (c.has_input(2)) {
        if (c.input(2).size() != 1 || c.input(2).dtype() != dtype) {
          invalid("Pad: constant_value must be one element of the type of the data");
        }
        given = unpacked(c, c.input(2));
        element = given.raw();
      }
      MovedOutput y(c, 0, dtype, shape);
      if (!(shape == kept)) fill_run(c, x.dtype(), element, y.data(), shape.size());
      StridedBox box{kept, x.shape().strides(), shape.strides()};
      int64_t from = 0, to = 0;
      for (int i = 0; i < rank; ++i) {
        from += first[i] * box.from[i];
        to += before[i] * box.to[i];
      }
      if (kept.size() == 0) return;
      const int64_t item = item_size(x.dtype());
      return strided_copy(c, x.dtype(), x.raw() + from * item, y.data() + to * item, box);
    }
    MovedOutput y(c, 0, dtype, shape);
    if (shape.size() == 0) return;
    visit_size(x.dtype(), [&](auto tag) {
      using T = typename decltype(tag)::type;
      extend(c, x.data<T>(), reinterpret_cast<T*>(y.data()), x.shape(), shape, first, kept, before);
    });
  }

 private:
  static void read_pads(RunContext& c, int rank, Shape& before, Shape& after) {
    const Tensor& pads = c.input(1);
    if (pads.dtype() != DType::int64) invalid("Pad: pads must be int64");
    const int64_t* counts = pads.data<int64_t>();
    const Shape any = Shape::filled(rank, 1);
    const Shape axes = c.has_input(3) ? int_list(c.input(3)) : Shape{};
    const int count = c.has_input(3) ? axes.rank() : rank;
    if (pads.size() != 2 * count) {
      invalid("Pad: pads must have two numbers per axis, got " + std::to_string(pads.size()));
    }
    bool seen[Shape::max_rank] = {};
    for (int i = 0; i < count; ++i) {
      const int axis = c.has_input(3) ? any.axis(axes[i]) : i;
      if (seen[axis]) invalid("Pad: axis " + std::to_string(axis) + " is given twice");
      seen[axis] = true;
      before[axis] = counts[i];
      after[axis] = counts[i + count];
      constexpr int64_t most = int64_t{1} << 56;
      for (const int64_t count_there : {before[axis], after[axis]}) {
        if (count_there > most || count_there < -most) fail("Pad: too many elements");
      }
    }
  }

  // Each output index of an axis comes from one input index, which a table per axis holds.
  template <class T>
  void extend(RunContext& c, const T* x, T* y, const Shape& from, const Shape& shape,
              const Shape& first, const Shape& kept, const Shape& before) const {
    const int rank = shape.rank();
    if (rank == 0) {
      *y = *x;
      return;
    }
    const Shape strides = from.strides();
    int64_t total = 0;
    for (const int64_t size : shape) total += size;
    int64_t* table = c.workspace<int64_t>(total);
    const int64_t* tables[Shape::max_rank];
    for (int i = 0; i < rank; ++i) {
      tables[i] = table;
      for (int64_t k = 0; k < shape[i]; ++k) {
        *table++ = (first[i] + source_index(mode, k - before[i], kept[i])) * strides[i];
      }
    }
    const int64_t row = shape[rank - 1];
    const int64_t* last = tables[rank - 1];
    const int64_t start = before[rank - 1], middle = kept[rank - 1];
    c.parallel_for(shape.size() / row, static_cast<double>(row), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        int64_t rest = r;
        const T* source = x;
        for (int i = rank - 2; i >= 0; --i) {
          source += tables[i][rest % shape[i]];
          rest /= shape[i];
        }
        T* out = y + r * row;
        for (int64_t k = 0; k < start; ++k) out[k] = source[last[k]];
        std::copy_n(source + last[start], middle, out + start);
        for (int64_t k = start + middle; k < row; ++k) out[k] = source[last[k]];
      }
    });
  }

  Mode mode;
};
BASCULE_KERNEL("Pad", Pad);

}  // namespace
}  // namespace bascule
