// SPDX-License-Identifier: Apache-2.0
// Max, Min, Sum and Mean of one, three or more operands, from left to right. 16-bit floats are
// combined in float32 and rounded once.
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

  explicit Variadic(const NodeSpec& node)
      : count_(static_cast<int>(node.inputs.size())), dtype_(node.dtype()) {
    NodeSpec pair = pair_of(node);
    if (dtype_ == DType::float16 || dtype_ == DType::bfloat16) {
      half_ = &half_functions_of(dtype_);
      for (ValueSpec& operand : pair.inputs) operand.dtype = DType::float32;
    }
    is_mean_ = node.op_type == "Mean";
    if (is_mean_) pair.op_type = "Sum";
    resolve_elementwise(pair, op_);
    if (is_mean_) {
      pair.op_type = "Div";
      resolve_elementwise(pair, divide_);
    }
  }

  void run(RunContext& c) const override {
    if (count_ == 1) {
      c.alias_output(0, c.input(0), c.input(0).shape());
      return;
    }
    Shape shape = c.input(0).shape();
    for (int k = 1; k < count_; ++k) shape = broadcast(shape, c.input(k).shape());
    Tensor& y = c.output(0, dtype_, shape);
    const int64_t size = item_size(dtype_);
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
        if (half_ != nullptr) {
          half_->narrow({}, sum, nullptr, nullptr, y.raw() + first * size, run);
        } else {
          std::memcpy(y.raw() + first * size, sum, static_cast<size_t>(run * size));
        }
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

  // Elements [first, first + run) of a broadcast operand, in the type that is computed in.
  void gather(const Tensor& x, const Shape& shape, int64_t first, int64_t run,
              std::byte* to) const {
    const Shape* shapes[] = {&x.shape()};
    const BroadcastLoops<1> loops(shape, shapes, 1);
    alignas(64) std::byte narrow[tile_size * 2];
    gather_tile(loops, 0, x.raw(), item_size(x.dtype()), first, run, half_ ? narrow : to);
    if (half_ != nullptr) half_->widen({}, narrow, nullptr, nullptr, to, run);
  }

  void divide(std::byte* sum, std::byte* divisors, int64_t run) const {
    visit(Types<float, double>{}, op_.output, [&](auto tag) {
      using T = typename decltype(tag)::type;
      fill_elements(reinterpret_cast<T*>(divisors), static_cast<T>(count_), run);
    });
    divide_.tile.run(divide_.tile, sum, divisors, nullptr, sum, run);
  }

  int count_;
  DType dtype_;
  const HalfFunctions* half_ = nullptr;
  bool is_mean_ = false;
  ElementwiseOp op_;
  ElementwiseOp divide_;
};
BASCULE_KERNEL("Max", Variadic);
BASCULE_KERNEL("Min", Variadic);
BASCULE_KERNEL("Sum", Variadic);
BASCULE_KERNEL("Mean", Variadic);

}  // namespace
}  // namespace bascule
