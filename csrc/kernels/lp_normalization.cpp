// SPDX-License-Identifier: Apache-2.0
// LpNormalization: each line along an axis divided by its L1 or L2 norm; a line of zeros stays.
// LRN: each element divided by (bias + alpha / size * sum of squares of neighbouring
// channels)^beta.
#include <cmath>
#include <type_traits>

#include "kernels/normalize_rows_pick.h"
#include "kernels/work_view.h"
#include "runtime/kernel.h"

namespace bascule {
namespace {

class LpNormalization final : public Kernel {
 public:
  static Capability capability(const NodeSpec& node) {
    const int64_t p = node.get_int("p", 2);
    if (p != 1 && p != 2) return reject("p=" + std::to_string(p) + " is neither 1 nor 2");
    return require_dtype(node, 0, FloatTypes{});
  }
  explicit LpNormalization(const NodeSpec& node)
      : axis_(node.get_int("axis", -1)), squares_(node.get_int("p", 2) == 2) {}

  void run(RunContext& c) const override {
    visit_work_type(c.input(0).dtype(),
                    [&](auto tag) { compute<typename decltype(tag)::type>(c); });
  }

 private:
  template <class T>
  void compute(RunContext& c) const {
    const Tensor& input = c.input(0);
    const Shape shape = input.shape();
    const int axis = shape.axis(axis_);
    const int64_t n = shape[axis], inner = shape.product(axis + 1, shape.rank());
    const T* x = work_view<T>(c, input);
    Tensor& y = c.output(0, input.dtype(), shape);
    T* out = work_target<T>(c, y);
    c.parallel_for(shape.product(0, axis) * inner, 4.0 * static_cast<double>(n),
                   [&](int64_t begin, int64_t end) {
                     for (int64_t k = begin; k < end; ++k) {
                       const int64_t at = k / inner * n * inner + k % inner;
                       if (inner == 1) {
                         line(x + at, out + at, n, std::integral_constant<int64_t, 1>{});
                       } else {
                         line(x + at, out + at, n, inner);
                       }
                     }
                   });
    store_work<T>(c, out, y);
  }

  // The sum is exact enough for any length.
  template <class T, class Stride>
  void line(const T* x, T* y, int64_t n, Stride stride) const {
    const double sum = squares_ ? sum_of(x, n, stride, [](double v) { return v * v; })
                                : sum_of(x, n, stride, [](double v) { return std::fabs(v); });
    const T norm = static_cast<T>(squares_ ? std::sqrt(sum) : sum);
    if (norm == 0) {
      for (int64_t k = 0; k < n; ++k) y[k * stride] = T{0};
    } else {
      for (int64_t k = 0; k < n; ++k) y[k * stride] = x[k * stride] / norm;
    }
  }

  // Interleaved parts, which are vectors where `stride` is the constant 1, then what is left.
  template <class T, class Stride, class Map>
  static double sum_of(const T* x, int64_t n, Stride stride, Map map) {
    double total = 0;
    int64_t i = 0;
    if (n >= 8) {
      double parts[8] = {};
      for (; i + 8 <= n; i += 8) {
        for (int64_t j = 0; j < 8; ++j) parts[j] += map(x[(i + j) * stride]);
      }
      for (int64_t j = 0; j < 4; ++j) parts[j] += parts[j + 4];
      total = (parts[0] + parts[2]) + (parts[1] + parts[3]);
    }
    for (; i < n; ++i) total += map(x[i * stride]);
    return total;
  }

  int64_t axis_;
  bool squares_;
};
BASCULE_KERNEL("LpNormalization", LpNormalization, InPlace{0, 0});

class Lrn final : public Kernel {
 public:
  static Capability capability(const NodeSpec& node) {
    if (node.get_int("size", 0) < 1) return reject("size is below 1");
    return require_dtype(node, 0, FloatTypes{});
  }
  explicit Lrn(const NodeSpec& node)
      : size_(node.get_int("size", 1)),
        alpha_(node.get_float("alpha", 1e-4f)),
        beta_(node.get_float("beta", 0.75f)),
        bias_(node.get_float("bias", 1)) {}

  void run(RunContext& c) const override {
    visit_work_type(c.input(0).dtype(),
                    [&](auto tag) { compute<typename decltype(tag)::type>(c); });
  }

 private:
  template <class T>
  void compute(RunContext& c) const {
    const Tensor& input = c.input(0);
    const Shape shape = input.shape();
    if (shape.rank() < 2) {
      invalid("input of rank " + std::to_string(shape.rank()) + ", expected at least 2");
    }
    const int64_t channels = shape[1], pixels = shape.product(2, shape.rank());
    const int64_t before = (size_ - 1) / 2, after = size_ / 2;
    const T* x = work_view<T>(c, input);
    T* sums = c.workspace<T>(input.size());
    Tensor& y = c.output(0, input.dtype(), shape);
    T* out = work_target<T>(c, y);
    const NormalizeRows<T> on = normalize_rows_of<T>();
    c.parallel_for(shape[0] * channels, static_cast<double>(pixels * (size_ + 8)),
                   [&](int64_t begin, int64_t end) {
                     for (int64_t k = begin; k < end; ++k) {
                       const int64_t channel = k % channels, image = k - channel;
                       const int64_t from = std::max<int64_t>(0, channel - before);
                       const int64_t to = std::min(channels - 1, channel + after);
                       T* sum = sums + k * pixels;
                       for (int64_t i = 0; i < pixels; ++i) sum[i] = 0;
                       for (int64_t other = from; other <= to; ++other) {
                         const T* row = x + (image + other) * pixels;
                         for (int64_t i = 0; i < pixels; ++i) sum[i] += row[i] * row[i];
                       }
                       on.divide_by_power(x + k * pixels, sum, out + k * pixels, pixels,
                                          static_cast<T>(alpha_) / static_cast<T>(size_),
                                          static_cast<T>(beta_), static_cast<T>(bias_));
                     }
                   });
    store_work<T>(c, out, y);
  }

  int64_t size_;
  float alpha_, beta_, bias_;
};
BASCULE_KERNEL("LRN", Lrn);

}  // namespace
}  // namespace bascule
