// SPDX-License-Identifier: Apache-2.0
// The loops of the normalizations for float64, in plain code.
#include "kernels/normalize_rows_pick.h"

#include <cmath>

namespace bascule {
namespace {

RowMoments<double> moments(const double* x, int64_t n) {
  double sum = 0, squares = 0;
  for (int64_t i = 0; i < n; ++i) sum += x[i];
  const double mean = sum / static_cast<double>(n);
  for (int64_t i = 0; i < n; ++i) squares += (x[i] - mean) * (x[i] - mean);
  return {mean, squares / static_cast<double>(n)};
}

void affine_row(const double* x, double* y, int64_t n, double mean, double scale, double bias) {
  for (int64_t i = 0; i < n; ++i) y[i] = (x[i] - mean) * scale + bias;
}

void layer_rows(const LayerRows<double>& g, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    const double* x = g.x + row * g.n;
    RowMoments<double> m{0, 0};
    if (g.centered) {
      m = moments(x, g.n);
    } else {
      for (int64_t i = 0; i < g.n; ++i) m.variance += x[i] * x[i];
      m.variance /= static_cast<double>(g.n);
    }
    const double factor = 1 / std::sqrt(m.variance + g.epsilon);
    if (g.means != nullptr) g.means[row] = m.mean;
    if (g.factors != nullptr) g.factors[row] = factor;
    const double* scale = g.scale + row * g.scale_stride;
    const double* bias = g.bias != nullptr ? g.bias + row * g.bias_stride : nullptr;
    for (int64_t i = 0; i < g.n; ++i) {
      g.y[row * g.n + i] = (x[i] - m.mean) * factor * scale[i] + (bias != nullptr ? bias[i] : 0);
    }
  }
}

void affine_columns(const double* x, double* y, int64_t n, const double* mean, const double* scale,
                    const double* bias) {
  for (int64_t i = 0; i < n; ++i) y[i] = (x[i] - mean[i]) * scale[i] + bias[i];
}

void column_sums(const double* x, int64_t rows, int64_t stride, int64_t columns, const double* mean,
                 double* sums) {
  for (int64_t j = 0; j < columns; ++j) sums[j] = 0;
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t j = 0; j < columns; ++j) {
      const double v = x[row * stride + j];
      sums[j] += mean == nullptr ? v : (v - mean[j]) * (v - mean[j]);
    }
  }
}

void add_row(const double* a, const double* b, double* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = a[i] + b[i];
}

void divide_by_power(const double* x, const double* sums, double* y, int64_t n, double alpha,
                     double beta, double bias) {
  for (int64_t i = 0; i < n; ++i) y[i] = x[i] / std::pow(bias + alpha * sums[i], beta);
}

}  // namespace

NormalizeRows<double> normalize_rows_double() {
  return {moments, affine_row, layer_rows, affine_columns, column_sums, add_row, divide_by_power};
}

}  // namespace bascule
