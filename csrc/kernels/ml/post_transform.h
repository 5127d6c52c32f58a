// SPDX-License-Identifier: Apache-2.0
// post_transform of classifiers and regressors: what is made of the scores of one row. T is float
// or double.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>

#include "runtime/node.h"

namespace bascule {

enum class PostTransform : uint8_t { none, softmax, logistic, softmax_zero, probit };

inline PostTransform parse_post_transform(const NodeSpec& node) {
  const std::string name = node.get_string("post_transform", "NONE");
  if (name == "NONE") return PostTransform::none;
  if (name == "SOFTMAX") return PostTransform::softmax;
  if (name == "LOGISTIC") return PostTransform::logistic;
  if (name == "SOFTMAX_ZERO") return PostTransform::softmax_zero;
  if (name == "PROBIT") return PostTransform::probit;
  fail("post_transform '" + name + "' is not one of NONE, SOFTMAX, LOGISTIC, SOFTMAX_ZERO, PROBIT");
}

// 1 / (1 + exp(-x)), as accurate near 0 as near 1.
template <class T>
T logistic(T x) {
  const T e = std::exp(-std::fabs(x));
  return (x < 0 ? e : T{1}) / (1 + e);
}

// The normal quantile of p, by an approximation of the inverse error function with two digits or
// three; the constants are those that other runtimes use. NaN outside [0, 1].
template <class T>
T probit(T p) {
  const T x = 2 * p - 1;
  const T log = std::log((1 - x) * (1 + x));
  const T half = T{2} / (T(3.14159f) * T(0.147f)) + log / 2;
  const T root = std::sqrt(std::sqrt(half * half - log / T(0.147f)) - half);
  return T(1.41421356f) * (x < 0 ? -root : root);
}

// Softmax. With `skip_zeros` scores that are nearly zero stay so and count nothing; a row of
// nothing else becomes 0.5 throughout.
template <class T>
void softmax(T* scores, int64_t n, bool skip_zeros) {
  T top = std::numeric_limits<T>::lowest(), sum = 0;
  for (int64_t i = 0; i < n; ++i) top = std::max(top, scores[i]);
  const T zero_scale = std::exp(-top);
  for (int64_t i = 0; i < n; ++i) {
    if (skip_zeros && std::fabs(scores[i]) <= T(1e-7f)) {
      scores[i] *= zero_scale;
    } else {
      scores[i] = std::exp(scores[i] - top);
      sum += scores[i];
    }
  }
  if (skip_zeros && sum == 0) {
    std::fill_n(scores, n, T(0.5));
    return;
  }
  for (int64_t i = 0; i < n; ++i) scores[i] /= sum;
}

// Transforms the scores of one row in place. Softmax leaves a lone score as it is.
template <class T>
void transform_scores(PostTransform transform, T* scores, int64_t n) {
  switch (transform) {
    case PostTransform::none:
      return;
    case PostTransform::logistic:
      for (int64_t i = 0; i < n; ++i) scores[i] = logistic(scores[i]);
      return;
    case PostTransform::probit:
      for (int64_t i = 0; i < n; ++i) scores[i] = probit(scores[i]);
      return;
    case PostTransform::softmax:
    case PostTransform::softmax_zero:
      if (n > 1) softmax(scores, n, transform == PostTransform::softmax_zero);
      return;
  }
}

}  // namespace bascule
