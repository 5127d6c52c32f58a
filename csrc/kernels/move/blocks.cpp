// SPDX-License-Identifier: Apache-2.0
// DepthToSpace and SpaceToDepth, each one strided copy of six axes; ReverseSequence.
#include "kernels/move/packed_bytes.h"
#include "kernels/move/strided_copy.h"
#include "runtime/kernel.h"

namespace bascule {
namespace {

// The input seen with shape `view` and transposed to `order`, as an output of shape `shape`.
void move_blocks(RunContext& c, const Tensor& input, const Shape& view, const int (&order)[6],
                 const Shape& shape) {
  const Shape strides = view.strides();
  StridedBox box{Shape::filled(6, 0), Shape::filled(6, 0), {}};
  for (int i = 0; i < 6; ++i) {
    box.sizes[i] = view[order[i]];
    box.from[i] = strides[order[i]];
  }
  box.to = box.sizes.strides();
  const Tensor x = unpacked(c, input);
  MovedOutput y(c, 0, input.dtype(), shape);
  strided_copy(c, x.dtype(), x.raw(), y.data(), box);
}

struct BlockKernel : Kernel {
  explicit BlockKernel(const NodeSpec& node)
      : block(node.get_int("blocksize", 0)),
        columns_first(node.get_string("mode", "DCR") == "CRD") {
    if (block < 1 || block > (int64_t{1} << 20)) {
      invalid("blocksize must be positive, got " + std::to_string(block));
    }
  }
  static void check(bool fits, const Tensor& x) {
    if (!fits) invalid("shape " + x.shape().text() + " does not fit the block size");
  }
  int64_t block;
  bool columns_first;
};

struct DepthToSpace final : BlockKernel {
  using BlockKernel::BlockKernel;
  void run(RunContext& c) const override {
    const Tensor& x = c.input(0);
    check(x.rank() == 4 && x.dim(1) % (block * block) == 0, x);
    const int64_t n = x.dim(0), depth = x.dim(1) / (block * block), h = x.dim(2), w = x.dim(3);
    const Shape shape{n, depth, h * block, w * block};
    if (columns_first) {
      move_blocks(c, x, {n, depth, block, block, h, w}, {0, 1, 4, 2, 5, 3}, shape);
    } else {
      move_blocks(c, x, {n, block, block, depth, h, w}, {0, 3, 4, 1, 5, 2}, shape);
    }
  }
};
BASCULE_KERNEL("DepthToSpace", DepthToSpace);

struct SpaceToDepth final : BlockKernel {
  using BlockKernel::BlockKernel;
  void run(RunContext& c) const override {
    const Tensor& x = c.input(0);
    check(x.rank() == 4 && x.dim(2) % block == 0 && x.dim(3) % block == 0, x);
    const int64_t n = x.dim(0), depth = x.dim(1), h = x.dim(2) / block, w = x.dim(3) / block;
    const Shape view{n, depth, h, block, w, block};
    const Shape shape{n, depth * block * block, h, w};
    if (columns_first) {
      move_blocks(c, x, view, {0, 1, 3, 5, 2, 4}, shape);
    } else {
      move_blocks(c, x, view, {0, 3, 5, 1, 2, 4}, shape);
    }
  }
};
BASCULE_KERNEL("SpaceToDepth", SpaceToDepth);

struct ReverseSequence final : Kernel {
  explicit ReverseSequence(const NodeSpec& node)
      : batch_axis(node.get_int("batch_axis", 1)), time_axis(node.get_int("time_axis", 0)) {
    if (batch_axis + time_axis != 1 || batch_axis * time_axis != 0) {
      invalid("ReverseSequence: batch_axis and time_axis must be 0 and 1, or 1 and 0");
    }
  }
  void run(RunContext& c) const override {
    const Tensor& input = c.input(0);
    const Tensor& lengths = c.input(1);
    if (input.rank() < 2 || lengths.dtype() != DType::int64 ||
        lengths.size() != input.dim(batch_axis)) {
      invalid("ReverseSequence: sequence_lens must have one length per sample");
    }
    for (const int64_t length : lengths.elements<int64_t>()) {
      if (length < 0 || length > input.dim(time_axis)) {
        invalid("ReverseSequence: length " + std::to_string(length) + " is not in [0, " +
                std::to_string(input.dim(time_axis)) + "]");
      }
    }
    const int64_t rows = input.dim(0) * input.dim(1);
    const int64_t inner = input.shape().product(2, input.rank());
    const Tensor x = unpacked(c, input);
    MovedOutput y(c, 0, input.dtype(), input.shape());
    visit_size(x.dtype(), [&](auto tag) {
      using T = typename decltype(tag)::type;
      T* out = reinterpret_cast<T*>(y.data());
      c.parallel_for(rows, static_cast<double>(inner), [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) {
          const int64_t index[2] = {r / input.dim(1), r % input.dim(1)};
          const int64_t time = index[time_axis];
          const int64_t length = lengths.data<int64_t>()[index[batch_axis]];
          const int64_t source = time < length ? length - 1 - time : time;
          const int64_t row = r + (source - time) * (time_axis == 0 ? input.dim(1) : 1);
          std::copy_n(x.data<T>() + row * inner, inner, out + r * inner);
        }
      });
    });
  }
  int64_t batch_axis, time_axis;
};
BASCULE_KERNEL("ReverseSequence", ReverseSequence);

}  // namespace
}  // namespace bascule
