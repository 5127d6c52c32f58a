// SPDX-License-Identifier: Apache-2.0
// Max, Min, Sum and Mean of one, three or more operands, from left to right. 16-bit floats are
// rounded after each step.
#include "kernels/elementwise/elementwise.h"
#include "kernels/elementwise/gather_tile.h"

namespace bascule {

namespace {

class Variadic final : public Kernel {
 public:
  static constexpr int priority = -1;  // two operands are an Elementwise

  static Capability capability(const NodeSpec& node) {
    ElementwiseOp op;
    const std::string reason = resolve_elementwise(pair_of(node), op);
    return reason.empty() ? accept : reject(reason);
  }

  explicit Variadic(const NodeSpec& node) : count_(static_cast<int>(node.inputs.size())) {
    NodeSpec pair = pair_of(node);
    is_mean_ = node.op_type == "Mean";
    if (is_mean_) pair.op_type = "Sum";
    resolve_elementwise(pair, op_);
    if (is_mean_) {
      pair.op_type = "Mul";
      resolve_elementwise(pair, scale_);
    }
  }

  void run(RunContext& c) const override {
    if (count_ == 1) {
      c.alias_output(0, c.input(0), c.input(0).shape());
      return;
    }
    Shape shape = c.input(0).shape();
    for (int k = 1; k < count_; ++k) shape = broadcast(shape, c.input(k).shape());
    Tensor& y = c.output(0, op_.output, shape);
    const int64_t size = item_size(op_.output);
    c.parallel_for(y.size(), op_.cost * count_, [&](int64_t begin, int64_t end) {
      alignas(64) std::byte sum[tile_size * 8], other[tile_size * 8];
      for (int64_t first = begin; first < end; first += tile_size) {
        const int64_t run = std::min(end - first, tile_size);
        gather(c.input(0), shape, first, run, sum);
        for (int k = 1; k < count_; ++k) {
          gather(c.input(k), shape, first, run, other);
          op_.tile.run(op_.tile, sum, other, nullptr, sum, run);
        }
        if (is_mean_) divide(sum, other, run);
        std::memcpy(y.raw() + first * size, sum, static_cast<size_t>(run * size));
      }
    });
  }

 private:
  // The node with its first operand twice.
  static NodeSpec pair_of(const NodeSpec& node) {
    NodeSpec pair = node;
    pair.inputs = {node.inputs.at(0), node.inputs.at(0)};
    return pair;
  }

  static void gather(const Tensor& x, const Shape& shape, int64_t first, int64_t run,
                     std::byte* to) {
    const Shape* shapes[] = {&x.shape()};
    const BroadcastLoops<1> loops(shape, shapes, 1);
    gather_tile(loops, 0, x.raw(), item_size(x.dtype()), first, run, to);
  }

  void divide(std::byte* sum, std::byte* factor, int64_t run) const {
    const double inverse = 1.0 / count_;
    visit(FloatTypes{}, op_.output, [&](auto tag) {
      using T = typename decltype(tag)::type;
      fill_elements(reinterpret_cast<T*>(factor), T(static_cast<Compute<T>>(inverse)), run);
    });
    scale_.tile.run(scale_.tile, sum, factor, nullptr, sum, run);
  }

  int count_;
  bool is_mean_ = false;
  ElementwiseOp op_;
  ElementwiseOp scale_;
};
BASCULE_KERNEL("Max", Variadic);
BASCULE_KERNEL("Min", Variadic);
BASCULE_KERNEL("Sum", Variadic);
BASCULE_KERNEL("Mean", Variadic);

}  // namespace
}  // namespace bascule
