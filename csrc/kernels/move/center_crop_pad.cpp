// SPDX-License-Identifier: Apache-2.0
// CenterCropPad: the middle of a tensor, or the tensor in the middle of zeros.
#include "kernels/move/int_list.h"
#include "kernels/move/packed_bytes.h"
#include "kernels/move/strided_copy.h"
#include "runtime/kernel.h"

namespace bascule {
namespace {

struct CenterCropPad final : Kernel {
  explicit CenterCropPad(const NodeSpec& node)
      : all(!node.has("axes")), axes(node.get_ints("axes")) {}
  void run(RunContext& c) const override {
    const Tensor& input = c.input(0);
    const Shape wanted = int_list(c.input(1));
    const int rank = input.rank();
    if (wanted.rank() != (all ? rank : axes.rank())) {
      invalid("CenterCropPad: shape " + wanted.text() + " must have one size per axis");
    }
    Shape shape = input.shape();
    for (int i = 0; i < wanted.rank(); ++i) {
      shape[all ? i : input.shape().axis(axes[i])] =
          checked_size(wanted[i], "CenterCropPad: a size");
    }
    if (shape.size() == 0) {
      c.output(0, input.dtype(), shape);
      return;
    }
    StridedBox box{shape, input.shape().strides(), shape.strides()};
    int64_t from = 0, to = 0;
    for (int i = 0; i < rank; ++i) {
      const int64_t own = input.dim(i);
      box.sizes[i] = std::min(own, shape[i]);
      if (shape[i] < own) from += (own - shape[i]) / 2 * box.from[i];
      if (shape[i] > own) to += (shape[i] - own) / 2 * box.to[i];
    }
    const Tensor x = unpacked(c, input);
    MovedOutput y(c, 0, input.dtype(), shape);
    const std::string empty;
    const Wide zero{0, 0};
    const void* element = &zero;
    if (x.dtype() == DType::string) element = &empty;
    if (!(box.sizes == shape)) {
      fill_run(c, x.dtype(), static_cast<const std::byte*>(element), y.data(), shape.size());
    }
    if (box.sizes.size() == 0) return;
    const int64_t item = item_size(x.dtype());
    strided_copy(c, x.dtype(), x.raw() + from * item, y.data() + to * item, box);
  }
  bool all;
  Shape axes;
};
BASCULE_KERNEL("CenterCropPad", CenterCropPad);

}  // namespace
}  // namespace bascule
