// SPDX-License-Identifier: Apache-2.0
// Reductions of float64 and integer rows and columns, in plain code. Integers wrap around.
#pragma once

#include <cmath>
#include <limits>

#include "kernels/reduce_loops.h"
#include "kernels/wrapping.h"

namespace bascule {

// The value that a fold of T begins with.
template <class T>
T neutral_value(Fold fold) {
  using Limits = std::numeric_limits<T>;
  switch (fold) {
    case Fold::product:
      return T{1};
    case Fold::max:
      return Limits::has_infinity ? -Limits::infinity() : Limits::lowest();
    case Fold::min:
      return Limits::has_infinity ? Limits::infinity() : Limits::max();
    default:
      return T{0};
  }
}

template <class T>
T fold_one(Fold fold, T total, T x, T shift) {
  switch (fold) {
    case Fold::sum:
      return wrapping_add(total, x);
    case Fold::sum_abs:
      return wrapping_add(total, x < 0 ? wrapping_multiply(x, static_cast<T>(-1)) : x);
    case Fold::sum_squares:
      return wrapping_add(total, wrapping_multiply(x, x));
    case Fold::sum_exp:
      return total + static_cast<T>(std::exp(static_cast<double>(x) - static_cast<double>(shift)));
    case Fold::product:
      return wrapping_multiply(total, x);
    case Fold::max:
      return total > x || total != total ? total : x;
    case Fold::min:
      return total < x || total != total ? total : x;
  }
  return total;
}

template <class T>
ReduceLoops<T> scalar_reduce_loops() {
  return {[](Fold fold, const T* x, int64_t n, T shift) {
            T total = neutral_value<T>(fold);
            for (int64_t i = 0; i < n; ++i) total = fold_one(fold, total, x[i], shift);
            return total;
          },
          [](Fold fold, const T* x, int64_t rows, int64_t stride, int64_t columns, const T* shift,
             T* total) {
            for (int64_t r = 0; r < rows; ++r) {
              for (int64_t j = 0; j < columns; ++j) {
                const T offset = shift != nullptr ? shift[j] : T{0};
                total[j] = fold_one(fold, total[j], x[r * stride + j], offset);
              }
            }
          }};
}

}  // namespace bascule
