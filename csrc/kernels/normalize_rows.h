// SPDX-License-Identifier: Apache-2.0
// The loops of the normalizations on rows, one table per instruction set. Plain data: fit for files
// that are compiled per instruction set.
#pragma once

#include <cstdint>

namespace bascule {

template <class T>
struct RowMoments {
  T mean;
  T variance;  // of the population
};

// Rows of n elements, one after the other: y = (x - mean) * factor * scale + bias with the factor
// 1 / sqrt(variance + epsilon).
template <class T>
struct LayerRows {
  const T* x;
  T* y;
  int64_t n;
  const T* scale;
  int64_t scale_stride;  // between rows, 0 where they share one
  const T* bias;         // or null
  int64_t bias_stride;
  T epsilon;
  bool centered;  // else the mean is left out, and the variance is about zero
  T* means;       // of each row, or null
  T* factors;
};

// The functions for rows of T, float or double. y may be the memory of x everywhere.
template <class T>
struct NormalizeRows {
  // Of n > 0 elements.
  RowMoments<T> (*moments)(const T* x, int64_t n);
  // y = (x - mean) * scale + bias.
  void (*affine_row)(const T* x, T* y, int64_t n, T mean, T scale, T bias);
  // Rows [begin, end).
  void (*layer_rows)(const LayerRows<T>& rows, int64_t begin, int64_t end);
  // y = (x - mean[i]) * scale[i] + bias[i].
  void (*affine_columns)(const T* x, T* y, int64_t n, const T* mean, const T* scale, const T* bias);
  // sums[j] = sum over rows of x[row * stride + j], or of its squared distance from mean[j].
  void (*column_sums)(const T* x, int64_t rows, int64_t stride, int64_t columns, const T* mean,
                      T* sums);
  void (*add_row)(const T* a, const T* b, T* y, int64_t n);
  // y = x / (bias + alpha * sums[i])^beta.
  void (*divide_by_power)(const T* x, const T* sums, T* y, int64_t n, T alpha, T beta, T bias);
};

}  // namespace bascule
