// SPDX-License-Identifier: Apache-2.0
// GlobalAveragePool, GlobalMaxPool and GlobalLpPool: one number from each plane [N, C, spatial...].
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <type_traits>

#include "kernels/gemm/convert.h"
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
      const T sum =
          fold_plane(n, T(0), [&](int64_t i) { return x[i]; }, [](T a, T b) { return a + b; });
      return sum / static_cast<T>(n);
    }
  }
};

struct Maximum {
  explicit Maximum(const NodeSpec&) {}
  template <class T>
  T operator()(const T* x, int64_t n) const {
    if constexpr (std::is_same_v<T, float>) {
      return pool_functions().max_plane(x, n);
    } else {
      return fold_plane(
          n, -std::numeric_limits<T>::infinity(), [&](int64_t i) { return x[i]; },
          [](T a, T b) { return b > a || b != b ? b : a; });
    }
  }
};

struct LpNorm {
  explicit LpNorm(const NodeSpec& node) : p(static_cast<double>(node.get_int("p", 2))) {}
  template <class T>
  T operator()(const T* x, int64_t n) const {
    const double sum = fold_plane(
        n, 0.0, [&](int64_t i) { return std::pow(std::abs(static_cast<double>(x[i])), p); },
        [](double a, double b) { return a + b; });
    return static_cast<T>(std::pow(sum, 1 / p));
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
    if (y.size() == 0) return;
    visit(FloatTypes{}, x.dtype(),
          [&](auto tag) { fold_planes<typename decltype(tag)::type>(c, x, n, y); });
  }

 private:
  template <class T>
  void fold_planes(RunContext& c, const Tensor& x, int64_t n, Tensor& y) const {
    if constexpr (std::is_same_v<T, Compute<T>>) {
      c.parallel_for(y.size(), static_cast<double>(n), [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) y.data<T>()[i] = fold_(x.data<T>() + i * n, n);
      });
    } else {
      // 16-bit floats: each thread widens some planes at a time.
      const int64_t step = std::max<int64_t>(1, 4096 / std::max<int64_t>(1, n));
      const int64_t blocks = (y.size() + step - 1) / step;
      const int64_t parts = std::min<int64_t>(blocks, c.threads());
      float* wide = c.workspace<float>(parts * step * n);
      const double work = static_cast<double>(n * y.size()) / static_cast<double>(parts);
      c.parallel_for(parts, work, [&](int64_t first, int64_t last) {
        float* planes = wide + first * step * n;
        for (int64_t block = blocks * first / parts; block < blocks * last / parts; ++block) {
          const int64_t begin = block * step;
          const int64_t count = std::min(step, y.size() - begin);
          const auto* from = reinterpret_cast<const std::byte*>(x.data<T>() + begin * n);
          widen_row(x.dtype(), from, planes, count * n);
          for (int64_t i = 0; i < count; ++i) {
            y.data<T>()[begin + i] = static_cast<T>(fold_(planes + i * n, n));
          }
        }
      });
    }
  }

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
