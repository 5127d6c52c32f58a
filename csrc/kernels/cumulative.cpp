// SPDX-License-Identifier: Apache-2.0
// CumSum and CumProd along an axis, inclusive or exclusive, forward or reverse.
#include <type_traits>

#include "kernels/work_view.h"
#include "runtime/kernel.h"

namespace bascule {
namespace {

class Cumulative final : public Kernel {
 public:
  using Accumulated = Types<float, double, Float16, BFloat16, int32_t, int64_t, uint32_t, uint64_t>;

  static Capability capability(const NodeSpec& node) {
    return require_dtype(node, 0, Accumulated{});
  }
  explicit Cumulative(const NodeSpec& node)
      : product_(node.op_type == "CumProd"),
        exclusive_(node.get_int("exclusive", 0) != 0),
        reverse_(node.get_int("reverse", 0) != 0) {}

  void run(RunContext& c) const override {
    switch (c.input(0).dtype()) {
      case DType::float64:
        return compute<double>(c);
      case DType::int32:
      case DType::int64:
      case DType::uint32:
        return compute<int64_t>(c);
      case DType::uint64:
        return compute<uint64_t>(c);
      default:
        return compute<float>(c);
    }
  }

 private:
  template <class T>
  void compute(RunContext& c) const {
    const Tensor& input = c.input(0);
    if (c.input(1).size() != 1) invalid("axis is not a single number");
    const Shape shape = input.shape();
    const int axis = shape.axis(c.input(1).to_int());
    const int64_t n = shape[axis], inner = shape.product(axis + 1, shape.rank());
    const T* x = work_view<T>(c, input);
    Tensor& y = c.output(0, input.dtype(), shape);
    T* out = work_target<T>(c, y);
    c.parallel_for(shape.product(0, axis) * inner, static_cast<double>(n),
                   [&](int64_t begin, int64_t end) {
                     for (int64_t k = begin; k < end; ++k) {
                       const int64_t at = k / inner * n * inner + k % inner;
                       line(x + at, out + at, n, inner);
                     }
                   });
    store_work<T>(c, out, y);
  }

  template <class T>
  void line(const T* x, T* y, int64_t n, int64_t stride) const {
    // Integers wrap around.
    using U = typename std::conditional_t<std::is_integral_v<T>, std::make_unsigned<T>,
                                          std::type_identity<T>>::type;
    U total = product_ ? U{1} : U{0};
    for (int64_t i = 0; i < n; ++i) {
      const int64_t at = (reverse_ ? n - 1 - i : i) * stride;
      const U value = static_cast<U>(x[at]);
      const U before = total;
      total = product_ ? total * value : total + value;
      y[at] = static_cast<T>(exclusive_ ? before : total);
    }
  }

  bool product_, exclusive_, reverse_;
};
BASCULE_KERNEL("CumSum", Cumulative, InPlace{0, 0});
BASCULE_KERNEL("CumProd", Cumulative, InPlace{0, 0});

}  // namespace
}  // namespace bascule
