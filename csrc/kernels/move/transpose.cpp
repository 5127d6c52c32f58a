// SPDX-License-Identifier: Apache-2.0
// Transpose: y[i...] = x[i permuted...].
#include "kernels/move/packed_bytes.h"
#include "kernels/move/strided_copy.h"
#include "runtime/kernel.h"

namespace bascule {
namespace {

struct Transpose final : Kernel {
  explicit Transpose(const NodeSpec& node) : perm(node.get_ints("perm")) {
    bool seen[Shape::max_rank] = {};
    const Shape any = Shape::filled(perm.rank(), 1);
    for (int64_t& axis : perm_axes()) {
      axis = any.axis(axis);
      if (seen[axis]) invalid("perm " + perm.text() + " is not a permutation");
      seen[axis] = true;
    }
    given = node.has("perm");
  }
  void run(RunContext& c) const override {
    const Tensor& x = c.input(0);
    const int rank = x.rank();
    if (given && perm.rank() != rank) {
      invalid("perm " + perm.text() + " does not fit an input of shape " + x.shape().text());
    }
    const Shape strides = x.shape().strides();
    StridedBox box{x.shape(), strides, strides};
    // Axes of size 1 may go anywhere: when the others keep their order it is a view.
    bool moves = false;
    int64_t last = -1;
    for (int i = 0; i < rank; ++i) {
      const int64_t axis = given ? perm[i] : rank - 1 - i;
      box.sizes[i] = x.dim(axis);
      box.from[i] = strides[axis];
      if (x.dim(axis) == 1) continue;
      moves |= axis < last;
      last = axis;
    }
    if (!moves) return c.alias_output(0, x, box.sizes);
    box.to = box.sizes.strides();
    const Tensor source = unpacked(c, x);
    MovedOutput y(c, 0, x.dtype(), box.sizes);
    strided_copy(c, source.dtype(), source.raw(), y.data(), box);
  }
  Shape perm;
  bool given;

 private:
  std::span<int64_t> perm_axes() { return {&perm[0], static_cast<size_t>(perm.rank())}; }
};
BASCULE_KERNEL("Transpose", Transpose);

}  // namespace
}  // namespace bascule
