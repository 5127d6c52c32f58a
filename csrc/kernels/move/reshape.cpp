// SPDX-License-Identifier: Apache-2.0
// Operators that keep the elements and change the shape: Reshape, Flatten, Squeeze, Unsqueeze; and
// Identity, which keeps both.
#include "kernels/move/int_list.h"
#include "runtime/kernel.h"

namespace bascule {
namespace {

int64_t size_without_zeros(const Shape& shape) {
  int64_t size = 1;
  for (int i = 0; i < shape.rank(); ++i) size *= shape[i] == 0 ? 1 : shape[i];
  return size;
}

// The size without the axes that `wanted` copies.
int64_t size_of_others(const Shape& shape, const Shape& wanted, bool allow_zero) {
  int64_t size = 1;
  for (int i = 0; i < shape.rank(); ++i) {
    const bool is_copied = !allow_zero && i < wanted.rank() && wanted[i] == 0;
    if (!is_copied) size *= shape[i];
  }
  return size;
}

// A size of 0 copies that of the input (unless allowzero), one -1 takes what is left.
Shape reshaped(const Shape& from, int64_t count, const Shape& wanted, bool allow_zero) {
  Shape shape = wanted;
  int inferred = -1;
  for (int i = 0; i < shape.rank(); ++i) {
    if (shape[i] == -1) {
      if (inferred >= 0) invalid("shape " + wanted.text() + " has more than one -1");
      inferred = i;
    } else if (shape[i] < -1) {
      invalid("shape " + wanted.text() + " has a negative size");
    } else if (shape[i] == 0 && !allow_zero) {
      if (i >= from.rank()) {
        invalid("shape " + wanted.text() + " copies size " + std::to_string(i) +
                " of an input of shape " + from.text());
      }
      shape[i] = from[i];
    }
  }
  if (inferred >= 0) {
    shape[inferred] = 1;
    int64_t others = shape.size();
    if (count == 0 && others == 0) {  // any size would do: that which it is for another batch
      count = size_of_others(from, wanted, allow_zero);
      others = size_of_others(shape, wanted, allow_zero);
    }
    if (count == 0 && others == 0) {  // or without the zeros
      count = size_without_zeros(from);
      others = size_without_zeros(shape);
    }
    if (others == 0 || count % others != 0) {
      fail("The input tensor cannot be reshaped to the requested shape. Input shape:" +
           from.text() + ", requested shape:" + wanted.text());
    }
    shape[inferred] = count / others;
  } else if (shape.size() != count) {
    fail("The input tensor cannot be reshaped to the requested shape. Input shape:" + from.text() +
         ", requested shape:" + wanted.text());
  }
  return shape;
}

struct Reshape final : Kernel {
  explicit Reshape(const NodeSpec& node) : allow_zero(node.get_int("allowzero", 0) != 0) {}
  void run(RunContext& c) const override {
    const Tensor& x = c.input(0);
    c.alias_output(0, x, reshaped(x.shape(), x.size(), int_list(c.input(1)), allow_zero));
  }
  bool allow_zero;
};
BASCULE_KERNEL("Reshape", Reshape);

struct Flatten final : Kernel {
  explicit Flatten(const NodeSpec& node) : axis(node.get_int("axis", 1)) {}
  void run(RunContext& c) const override {
    const Tensor& x = c.input(0);
    const int rank = x.rank();
    const int first = axis == rank ? rank : rank == 0 && axis == 0 ? 0 : x.shape().axis(axis);
    c.alias_output(0, x, {x.shape().product(0, first), x.shape().product(first, rank)});
  }
  int64_t axis;
};
BASCULE_KERNEL("Flatten", Flatten);

struct Squeeze final : Kernel {
  void run(RunContext& c) const override {
    const Tensor& x = c.input(0);
    Shape shape;
    bool marked[Shape::max_rank];
    const bool given = c.has_input(1);
    if (given) mark_axes(int_list(c.input(1)), x.rank(), marked);
    for (int i = 0; i < x.rank(); ++i) {
      const bool dropped = given ? marked[i] : x.dim(i) == 1;
      if (!dropped) {
        shape.push_back(x.dim(i));
      } else if (x.dim(i) != 1) {
        invalid("axis " + std::to_string(i) + " of shape " + x.shape().text() +
                " cannot be squeezed: its size is not 1");
      }
    }
    c.alias_output(0, x, shape);
  }
};
BASCULE_KERNEL("Squeeze", Squeeze);

struct Unsqueeze final : Kernel {
  void run(RunContext& c) const override {
    const Tensor& x = c.input(0);
    const Shape axes = int_list(c.input(1));
    const int rank = Shape::filled(x.rank() + axes.rank(), 1).rank();
    bool marked[Shape::max_rank];
    mark_axes(axes, rank, marked);
    Shape shape;
    for (int i = 0, next = 0; i < rank; ++i) shape.push_back(marked[i] ? 1 : x.dim(next++));
    c.alias_output(0, x, shape);
  }
};
BASCULE_KERNEL("Unsqueeze", Unsqueeze);

struct Identity final : Kernel {
  void run(RunContext& c) const override {
    if (!c.has_input(0)) return c.set_output(0, Value());
    const Value& x = c.value(0);
    if (!x.is_tensor()) return c.set_output(0, x.owned());
    c.alias_output(0, x.tensor(), x.tensor().shape());
  }
};
BASCULE_KERNEL("Identity", Identity);

}  // namespace
}  // namespace bascule
