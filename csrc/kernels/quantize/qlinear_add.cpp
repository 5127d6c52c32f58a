// SPDX-License-Identifier: Apache-2.0
// QLinearAdd of domain `bascule`: bytes that have one scale and one zero point each, added in steps
// of the result. Where steps are of like size ties are common: the roundings are onnxruntime's, so
// that they fall the same way.
#include <cmath>
#include <string>

#include "kernels/broadcast.h"
#include "kernels/quantize/byte_sum.h"
#include "runtime/kernel.h"

namespace bascule {
namespace {

class QLinearAdd final : public Kernel {
 public:
  static Capability capability(const NodeSpec& node) {
    const Capability typed = require_dtype(node, 0, Types<int8_t, uint8_t>{});
    if (!typed.accepted()) return typed;
    for (const size_t i : {size_t{2}, size_t{3}, size_t{5}, size_t{7}}) {
      if (node.has_input(i) && node.dtype(i) != node.dtype(0)) return reject("the types differ");
    }
    for (const size_t i : {size_t{1}, size_t{4}, size_t{6}}) {
      if (node.dtype(i) != DType::float32) return reject("a scale is not float32");
    }
    return accept;
  }

  explicit QLinearAdd(const NodeSpec& node) : is_signed_(node.dtype(0) == DType::int8) {}

  void run(RunContext& c) const override {
    const Tensor &a = c.input(0), &b = c.input(3);
    const Shape shape = broadcast(a.shape(), b.shape());
    const float step = scale(c, 6);
    const float a_factor = scale(c, 1) / step, b_factor = scale(c, 4) / step;
    const float offset = zero(c, 7) - std::fma(a_factor, zero(c, 2), b_factor * zero(c, 5));
    Tensor& y = c.output(0, a.dtype(), shape);
    const Shape* shapes[] = {&a.shape(), &b.shape()};
    const BroadcastLoops<2> loops(shape, shapes, 2);
    c.parallel_for(y.size(), 0.25, [&](int64_t begin, int64_t end) {
      loops.for_runs(begin, end, [&](const int64_t* at, int64_t first, int64_t count) {
        sum_bytes({a.raw() + at[0], b.raw() + at[1], loops.steps(0), loops.steps(1), a_factor,
                   b_factor, offset, y.raw() + first, count},
                  is_signed_);
      });
    });
  }

 private:
  static const Tensor& single(RunContext& c, int index) {
    const Tensor& t = c.input(index);
    if (t.size() == 1) return t;
    fail("input " + std::to_string(index) + " has shape " + t.shape().text() +
         ", expected one element");
  }
  static float scale(RunContext& c, int index) { return *single(c, index).data<float>(); }
  float zero(RunContext& c, int index) const {
    if (!c.has_input(index)) return 0;
    const Tensor& t = single(c, index);
    return is_signed_ ? static_cast<float>(*t.data<int8_t>())
                      : static_cast<float>(*t.data<uint8_t>());
  }

  bool is_signed_;
};
BASCULE_KERNEL_IN("bascule", "QLinearAdd", QLinearAdd);

}  // namespace
}  // namespace bascule
