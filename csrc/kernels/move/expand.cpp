// SPDX-License-Identifier: Apache-2.0
// Expand and Tile: elements repeated along axes.
#include "kernels/move/int_list.h"
#include "kernels/move/packed_bytes.h"
#include "kernels/move/strided_copy.h"
#include "runtime/kernel.h"

namespace bascule {
namespace {

struct Expand final : Kernel {
  void run(RunContext& c) const override {
    const Tensor& input = c.input(0);
    Shape wanted = int_list(c.input(1));
    for (const int64_t size : wanted) checked_size(size, "Expand: a size");
    const Shape shape = broadcast(input.shape(), wanted);
    if (shape == input.shape()) return c.alias_output(0, input, shape);
    StridedBox box{shape, Shape::filled(shape.rank(), 0), shape.strides()};
    const Shape strides = input.shape().strides();
    const int missing = shape.rank() - input.rank();
    for (int i = 0; i < input.rank(); ++i) {
      if (input.dim(i) != 1) box.from[i + missing] = strides[i];
    }
    const Tensor x = unpacked(c, input);
    MovedOutput y(c, 0, input.dtype(), shape);
    strided_copy(c, x.dtype(), x.raw(), y.data(), box);
  }
};
BASCULE_KERNEL("Expand", Expand);

// Every axis of the input becomes two, (repeats, size), of which the first does not move the
// source.
struct Tile final : Kernel {
  void run(RunContext& c) const override {
    const Tensor& input = c.input(0);
    const Shape repeats = int_list(c.input(1));
    const int rank = input.rank();
    if (repeats.rank() != rank) {
      invalid("Tile: repeats must have one number per axis of shape " + input.shape().text() +
              ", got " + std::to_string(repeats.rank()));
    }
    const Shape strides = input.shape().strides();
    Shape shape = input.shape();
    for (int i = 0; i < rank; ++i) {
      checked_size(repeats[i], "Tile: a repeat");
      if (__builtin_mul_overflow(shape[i], repeats[i], &shape[i])) fail("Tile: too many elements");
    }
    if (shape == input.shape()) return c.alias_output(0, input, shape);
    shape.size();
    const Shape to = shape.strides();
    StridedBox box;
    for (int i = 0; i < rank; ++i) {
      if (repeats[i] != 1) {
        box.sizes.push_back(repeats[i]);
        box.from.push_back(0);
        box.to.push_back(to[i] * input.dim(i));
      }
      if (input.dim(i) != 1) {
        box.sizes.push_back(input.dim(i));
        box.from.push_back(strides[i]);
        box.to.push_back(to[i]);
      }
    }
    const Tensor x = unpacked(c, input);
    MovedOutput y(c, 0, input.dtype(), shape);
    strided_copy(c, x.dtype(), x.raw(), y.data(), box);
  }
};
BASCULE_KERNEL("Tile", Tile);

}  // namespace
}  // namespace bascule
