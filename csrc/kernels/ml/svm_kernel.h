// SPDX-License-Identifier: Apache-2.0
// The kernel functions K(x, s) of support vector machines, for many rows x and all support vectors
// s at once: a matrix product in float64 and a function of each element.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/gemm/product.h"
#include "runtime/node.h"

namespace bascule {

class SvmKernel {
 public:
  // Reads kernel_type, kernel_params and support_vectors [vectors, features].
  SvmKernel(const NodeSpec& node, int64_t vectors);

  int64_t vectors() const { return vectors_; }
  int64_t features() const { return features_; }

  // Elements of scratch memory that run() wants for this many rows.
  int64_t scratch_size(int64_t rows) const;
  // k[r * vectors + j] = K(row r of x, support vector j), on this thread.
  void run(const double* x, int64_t rows, double* k, double* scratch) const;

 private:
  enum class Kind : uint8_t { linear, poly, rbf, sigmoid };
  static Kind parse(const NodeSpec& node);
  double power(double base) const;

  Kind kind_;
  double gamma_ = 0;
  double offset_ = 0;
  double degree_ = 0;
  int64_t vectors_;
  int64_t features_ = 0;
  PackedOperand panels_;
  std::vector<double> center_;  // RBF: the mean of the support vectors, and their squared distances
  std::vector<double> norms_;   // from it
};

}  // namespace bascule
