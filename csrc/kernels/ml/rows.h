// SPDX-License-Identifier: Apache-2.0
// The input of the operators on tables: one row per example, one column per feature.
#pragma once

#include "core/tensor.h"

namespace bascule {

// What most operators of domain ai.onnx.ml take.
using FeatureTypes = Types<float, double, int64_t, int32_t>;

struct Rows {
  int64_t count;
  int64_t columns;
};

// [N, C], or [C] as one row.
inline Rows rows_of(const Tensor& x) {
  if (x.rank() != 1 && x.rank() != 2) {
    invalid("input has shape " + x.shape().text() + ", expected one or two axes");
  }
  return {x.rank() == 2 ? x.dim(0) : 1, x.shape().back()};
}

}  // namespace bascule
