// SPDX-License-Identifier: Apache-2.0
// GlobalAveragePool, GlobalMaxPool and GlobalLpPool: one number from each plane [N, C, spatial...].
#include <cmath>
#include <limits>

#include "kernels/pool/pool_rows.h"
#include "runtime/kernel.h"

namespace bascule {
namespace {

// Partial folds that run side by side, so that the loop is not a chain of additions.
constexpr int64_t parts = 16;

// Folds n values; the order depends on n alone.
template <class U, class Load, class Fold>
U fold_plane(int64_t n, U start, Load&& load, Fold&& fold) {
  U part[parts];
  for (U& one : part) one = start;
  int64_t i = 0;
  for (; i + parts <= n; i += parts) {
    for (int64_t j = 0; j < parts; ++j) part[j] = fold(part[j], load(i + j));
  }
  for (int64_t j = 0; i < n; ++i, ++j) part[j] = fold(part[j], load(i));
  for (int64_t step = parts / 2; step > 0; step /= 2) {
    for (int64_t j = 0; j < step; ++j) part[j] = fold(part[j], part[j + step]);
  }
  return part[0];
}

struct Average {
  explicit Average(const NodeSpec&) {}
  template <class T>
  T operator()(const T* x, int64_t n) const {
    if constexpr (std::is_same_v<T, float>) {
      return pool_functions().sum_plane(x, n) / static_cast<float>(n);
    } else {
      using U = Compute<T>;
      const U sum = fold_plane(
          n, U(0), [&](int64_t i) { return static_cast<U>(x[i]); }, [](U a, U b) { return a + b; });
      return static_cast<T>(sum / static_cast<U>(n));
    }
  }
};

struct Maximum {
  explicit Maximum(const NodeSpec&) {}
  template <class T>
  T operator()(const T* x, int64_t n) const {
    using U = Compute<T>;
    return static_cast<T>(fold_plane(
        n, -std::numeric_limits<U>::infinity(), [&](int64_t i) { return static_cast<U>(x[i]); },
        [](U a, U b) { return b > a || b != b ? b : a; }));
  }
};

struct LpNorm {
  explicit LpNorm(const NodeSpec& node) : p(static_cast<double>(node.get_int("p", 2))) {}
  template <class T>
  T operator()(const T* x, int64_t n) const {
    const double sum = fold_plane(
        n, 0.0, [&](int64_t i) { return std::pow(std::abs(static_cast<double>(x[i])), p); },
        [](double a, double b) { return a + b; });
    return static_cast<T>(static_cast<Compute<T>>(std::pow(sum, 1 / p)));
  }
  double p;
};

template <class Fold>
class GlobalPool final : public Kernel {
 public:
  static Capability capability(const NodeSpec& node) {
    return require_dtype(node, 0, FloatTypes{});
  }

  explicit GlobalPool(const NodeSpec& node) : fold_(node) {}

  void run(RunContext& c) const override {
    const Tensor& x = c.input(0);
    if (x.rank() < 2) {
      fail("the input has shape " + x.shape().text() + ", expected 2 axes or more");
    }
    Shape shape = x.shape();
    for (int axis = 2; axis < shape.rank(); ++axis) shape[axis] = 1;
    Tensor& y = c.output(0, x.dtype(), shape);
    const int64_t n = x.shape().product(2, x.rank());
    visit(FloatTypes{}, x.dtype(), [&](auto tag) {
      using T = typename decltype(tag)::type;
      c.parallel_for(y.size(), static_cast<double>(n), [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          y.data<T>()[i] = fold_(x.data<T>() + i * n, n);
        }
      });
    });
  }

 private:
  Fold fold_;
};
using GlobalAveragePool = GlobalPool<Average>;
using GlobalMaxPool = GlobalPool<Maximum>;
using GlobalLpPool = GlobalPool<LpNorm>;
BASCULE_KERNEL("GlobalAveragePool", GlobalAveragePool);
BASCULE_KERNEL("GlobalMaxPool", GlobalMaxPool);
BASCULE_KERNEL("GlobalLpPool", GlobalLpPool);

}  // namespace
}  // namespace bascule
