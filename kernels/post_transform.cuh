// SPDX-License-Identifier: Apache-2.0
// post_transform of classifiers and regressors: what is made of the scores of one row.
#pragma once

#include "common.cuh"

enum PostTransform { no_transform, softmax, logistic, softmax_zero, probit };

// 1 / (1 + exp(-x)), as accurate near 0 as near 1.
__device__ inline double logistic_of(double x) {
  const double power = exp(-fabs(x));
  return (x < 0 ? power : 1.0) / (1 + power);
}

// The normal quantile of p, by an approximation of the inverse error function with two digits or
// three; the constants are those that other runtimes use. NaN outside [0, 1].
__device__ inline double probit_of(double p) {
  const double x = 2 * p - 1;
  const double logarithm = log((1 - x) * (1 + x));
  const double half = 2 / (double(3.14159f) * double(0.147f)) + logarithm / 2;
  const double root = sqrt(sqrt(half * half - logarithm / double(0.147f)) - half);
  return double(1.41421356f) * (x < 0 ? -root : root);
}

// With `skip_zeros` scores that are nearly zero stay so and count nothing; a row of nothing else
// becomes 0.5 throughout.
__device__ inline void softmax_of(double* scores, int64_t n, bool skip_zeros) {
  double top = -DBL_MAX, sum = 0;
  for (int64_t i = 0; i < n; ++i) top = top < scores[i] ? scores[i] : top;
  const double zero_scale = exp(-top);
  for (int64_t i = 0; i < n; ++i) {
    if (skip_zeros && fabs(scores[i]) <= double(1e-7f)) {
      scores[i] *= zero_scale;
    } else {
      scores[i] = exp(scores[i] - top);
      sum += scores[i];
    }
  }
  const bool nothing = skip_zeros && sum == 0;
  for (int64_t i = 0; i < n; ++i) scores[i] = nothing ? 0.5 : scores[i] / sum;
}

// Transforms the scores of one row in place. Softmax leaves a lone score as it is.
__device__ inline void transform_scores(int transform, double* scores, int64_t n) {
  if (transform == logistic) {
    for (int64_t i = 0; i < n; ++i) scores[i] = logistic_of(scores[i]);
  } else if (transform == probit) {
    for (int64_t i = 0; i < n; ++i) scores[i] = probit_of(scores[i]);
  } else if (transform != no_transform && n > 1) {
    softmax_of(scores, n, transform == softmax_zero);
  }
}
