// SPDX-License-Identifier: Apache-2.0
// The loops of the reductions, one table per type (and per instruction set for float). Plain data:
// fit for files that are compiled per instruction set.
#pragma once

#include <cstdint>

namespace bascule {

// What is accumulated. sum_exp adds exp(x - shift).
enum class Fold : uint8_t { sum, sum_abs, sum_squares, sum_exp, product, max, min };

template <class T>
struct ReduceLoops {
  // The fold of n >= 0 neighbours; of none, the value that changes nothing.
  T (*row)(Fold fold, const T* x, int64_t n, T shift);
  // out[k] = row(fold, x + k * n, n, shift[k]) for `count` rows; only sum_exp reads `shift`.
  void (*rows)(Fold fold, const T* x, int64_t count, int64_t n, const T* shift, T* out);
  // Folds x[r * stride + j] over the rows r into total[j]; shift[j] is for sum_exp.
  void (*columns)(Fold fold, const T* x, int64_t rows, int64_t stride, int64_t columns,
                  const T* shift, T* total);
};

}  // namespace bascule
