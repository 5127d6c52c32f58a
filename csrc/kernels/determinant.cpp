// SPDX-License-Identifier: Apache-2.0
// Det: the determinant of each matrix, by elimination with pivots in double.
#include <algorithm>
#include <cmath>

#include "runtime/kernel.h"

namespace bascule {
namespace {

// The determinant of n x n elements, which are overwritten.
double determinant(double* a, int64_t n) {
  double result = 1;
  for (int64_t k = 0; k < n; ++k) {
    int64_t pivot = k;
    for (int64_t i = k + 1; i < n; ++i) {
      if (std::abs(a[i * n + k]) > std::abs(a[pivot * n + k])) pivot = i;
    }
    if (pivot != k) {
      std::swap_ranges(a + pivot * n, a + (pivot + 1) * n, a + k * n);
      result = -result;
    }
    result *= a[k * n + k];
    if (a[k * n + k] == 0) return 0;
    for (int64_t i = k + 1; i < n; ++i) {
      const double factor = a[i * n + k] / a[k * n + k];
      for (int64_t j = k + 1; j < n; ++j) a[i * n + j] -= factor * a[k * n + j];
    }
  }
  return result;
}

struct Determinant final : Kernel {
  static Capability capability(const NodeSpec& node) {
    return require_dtype(node, 0, FloatTypes{});
  }
  void run(RunContext& c) const override {
    const Tensor& x = c.input(0);
    const int rank = x.rank();
    if (rank < 2 || x.dim(rank - 1) != x.dim(rank - 2)) {
      invalid("Det: expected square matrices, got shape " + x.shape().text());
    }
    const int64_t n = x.dim(rank - 1);
    double* matrix = c.workspace<double>(n * n);
    Tensor& y = c.output(0, x.dtype(), Shape(x.shape().begin(), x.shape().end() - 2));
    visit(FloatTypes{}, x.dtype(), [&](auto tag) {
      using T = typename decltype(tag)::type;
      for (int64_t i = 0; i < y.size(); ++i) {
        const T* from = x.data<T>() + i * n * n;
        for (int64_t k = 0; k < n * n; ++k) {
          matrix[k] = static_cast<double>(static_cast<Compute<T>>(from[k]));
        }
        y.data<T>()[i] = static_cast<T>(static_cast<Compute<T>>(determinant(matrix, n)));
      }
    });
  }
};
BASCULE_KERNEL("Det", Determinant);

}  // namespace
}  // namespace bascule
