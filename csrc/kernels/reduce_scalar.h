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

// body(step) with step(total, x, shift), what a fold does with one element.
template <class T, class Body>
void with_fold_step(Fold fold, Body&& body) {
  switch (fold) {
    case Fold::sum:
      return body([](T total, T x, T) { return wrapping_add(total, x); });
    case Fold::sum_abs:
      return body([](T total, T x, T) {
        return wrapping_add(total, x < 0 ? wrapping_multiply(x, static_cast<T>(-1)) : x);
      });
    case Fold::sum_squares:
      return body([](T total, T x, T) { return wrapping_add(total, wrapping_multiply(x, x)); });
    case Fold::sum_exp:
      return body([](T total, T x, T shift) {
        return total +
               static_cast<T>(std::exp(static_cast<double>(x) - static_cast<double>(shift)));
      });
    case Fold::product:
      return body([](T total, T x, T) { return wrapping_multiply(total, x); });
    case Fold::max:
      return body([](T total, T x, T) { return total > x || total != total ? total : x; });
    case Fold::min:
      return body([](T total, T x, T) { return total < x || total != total ? total : x; });
  }
}

template <class T>
T fold_one(Fold fold, T total, T x, T shift) {
  with_fold_step<T>(fold, [&](auto step) { total = step(total, x, shift); });
  return total;
}

template <class T>
void scalar_rows(Fold fold, const T* x, int64_t count, int64_t n, const T* shift, T* out) {
  const T neutral = neutral_value<T>(fold);
  with_fold_step<T>(fold, [&](auto step) {
    for (int64_t k = 0; k < count; ++k) {
      T total = neutral;
      const T by = shift != nullptr ? shift[k] : T{0};
      for (int64_t i = 0; i < n; ++i) total = step(total, x[k * n + i], by);
      out[k] = total;
    }
  });
}

template <class T>
void scalar_columns(Fold fold, const T* x, int64_t rows, int64_t stride, int64_t columns,
                    const T* shift, T* total) {
  with_fold_step<T>(fold, [&](auto step) {
    for (int64_t r = 0; r < rows; ++r) {
      const T* row = x + r * stride;
      for (int64_t j = 0; j < columns; ++j) {
        total[j] = step(total[j], row[j], shift != nullptr ? shift[j] : T{0});
      }
    }
  });
}

template <class T>
ReduceLoops<T> scalar_reduce_loops() {
  return {[](Fold fold, const T* x, int64_t n, T shift) {
            T total;
            scalar_rows(fold, x, 1, n, &shift, &total);
            return total;
          },
          scalar_rows<T>, scalar_columns<T>};
}

}  // namespace bascule
