// SPDX-License-Identifier: Apache-2.0
// CumSum and CumProd along an axis, inclusive or exclusive, forward or reverse.
#include <algorithm>

#include "kernels/work_view.h"
#include "kernels/wrapping.h"
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
        return compute<int32_t>(c);
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
    // Integers wrap around.
    if (product_) {
      accumulate(c, x, out, shape.product(0, axis), n, inner, T{1},
                 [](T a, T b) { return wrapping_multiply(a, b); });
    } else {
      accumulate(c, x, out, shape.product(0, axis), n, inner, T{0},
                 [](T a, T b) { return wrapping_add(a, b); });
    }
    store_work<T>(c, out, y);
  }

  // Lines side by side, a group of them at a time: each is a chain of operations that wait for one
  // another.
  static constexpr int64_t line_group = 8, column_group = 256;

  template <class T, class Combine>
  void accumulate(RunContext& c, const T* x, T* y, int64_t outer, int64_t n, int64_t inner,
                  T neutral, Combine combine) const {
    if (inner < line_group) {
      c.parallel_for(outer * inner, static_cast<double>(n), [&](int64_t begin, int64_t end) {
        int64_t k = begin;
        for (; inner == 1 && k + line_group <= end; k += line_group) {
          lines<line_group>(x + k * n, y + k * n, n, 1, neutral, combine);
        }
        for (; k < end; ++k) {
          const int64_t at = k / inner * n * inner + k % inner;
          lines<1>(x + at, y + at, n, inner, neutral, combine);
        }
      });
      return;
    }
    const int64_t groups = (inner + column_group - 1) / column_group;
    c.parallel_for(outer * groups, static_cast<double>(n * std::min(inner, column_group)),
                   [&](int64_t begin, int64_t end) {
                     for (int64_t k = begin; k < end; ++k) {
                       const int64_t first = k % groups * column_group;
                       const int64_t at = k / groups * n * inner + first;
                       columns(x + at, y + at, n, inner, std::min(column_group, inner - first),
                               neutral, combine);
                     }
                   });
  }

  // `count` lines of n elements, one behind the other; y may be x.
  template <int64_t count, class T, class Combine>
  void lines(const T* x, T* y, int64_t n, int64_t stride, T neutral, Combine combine) const {
    T total[count];
    std::fill_n(total, count, neutral);
    for (int64_t i = 0; i < n; ++i) {
      const int64_t at = (reverse_ ? n - 1 - i : i) * stride;
      for (int64_t j = 0; j < count; ++j) {
        const T before = total[j];
        total[j] = combine(before, x[j * n + at]);
        y[j * n + at] = exclusive_ ? before : total[j];
      }
    }
  }

  // `count` neighbouring columns of n rows; y may be x.
  template <class T, class Combine>
  void columns(const T* x, T* y, int64_t n, int64_t stride, int64_t count, T neutral,
               Combine combine) const {
    T total[column_group], before[column_group];
    std::fill_n(total, count, neutral);
    for (int64_t i = 0; i < n; ++i) {
      const int64_t at = (reverse_ ? n - 1 - i : i) * stride;
      if (exclusive_) std::copy_n(total, count, before);
      for (int64_t j = 0; j < count; ++j) total[j] = combine(total[j], x[at + j]);
      std::copy_n(exclusive_ ? before : total, count, y + at);
    }
  }

  bool product_, exclusive_, reverse_;
};
BASCULE_KERNEL("CumSum", Cumulative, InPlace{0, 0});
BASCULE_KERNEL("CumProd", Cumulative, InPlace{0, 0});

}  // namespace
}  // namespace bascule
