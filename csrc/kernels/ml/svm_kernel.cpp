// SPDX-License-Identifier: Apache-2.0
#include "kernels/ml/svm_kernel.h"

#include <algorithm>
#include <cmath>
#include <string>

namespace bascule {

SvmKernel::Kind SvmKernel::parse(const NodeSpec& node) {
  const std::string name = node.get_string("kernel_type", "LINEAR");
  if (name == "LINEAR") return Kind::linear;
  if (name == "POLY") return Kind::poly;
  if (name == "RBF") return Kind::rbf;
  if (name == "SIGMOID") return Kind::sigmoid;
  fail("kernel_type '" + name + "' is not one of LINEAR, POLY, RBF, SIGMOID");
}

SvmKernel::SvmKernel(const NodeSpec& node, int64_t vectors)
    : kind_(parse(node)), vectors_(vectors) {
  const std::vector<float> parameters = node.get_floats("kernel_params");
  if (!parameters.empty()) {
    if (parameters.size() < 3) {
      fail("kernel_params has " + std::to_string(parameters.size()) + " elements, expected 3");
    }
    gamma_ = parameters[0];
    offset_ = parameters[1];
    degree_ = parameters[2];
  }
  const std::vector<float> given = node.get_floats("support_vectors");
  const auto size = static_cast<int64_t>(given.size());
  if (size == 0 || size % vectors_ != 0) {
    fail("support_vectors has " + std::to_string(size) + " elements, which is not " +
         std::to_string(vectors_) + " vectors of one length");
  }
  features_ = size / vectors_;
  Tensor matrix = Tensor::allocate(DType::float64, Shape{vectors_, features_});
  double* values = matrix.data<double>();
  std::copy(given.begin(), given.end(), values);
  if (kind_ == Kind::rbf) {
    center_.assign(static_cast<size_t>(features_), 0);
    for (int64_t i = 0; i < size; ++i) {
      center_[static_cast<size_t>(i % features_)] += values[i] / static_cast<double>(vectors_);
    }
    norms_.assign(static_cast<size_t>(vectors_), 0);
    for (int64_t i = 0; i < size; ++i) {
      values[i] -= center_[static_cast<size_t>(i % features_)];
      norms_[static_cast<size_t>(i / features_)] += values[i] * values[i];
    }
  }
  panels_ = PackedOperand::pack(node, {}, matrix, true);
}

int64_t SvmKernel::scratch_size(int64_t rows) const {
  return gemm_scratch + (kind_ == Kind::rbf ? rows * features_ : 0);
}

double SvmKernel::power(double base) const {
  if (degree_ != std::floor(degree_) || degree_ < 0 || degree_ > 64) return std::pow(base, degree_);
  double result = 1;
  for (int left = static_cast<int>(degree_); left > 0; left >>= 1, base *= base) {
    if ((left & 1) != 0) result *= base;
  }
  return result;
}

void SvmKernel::run(const double* x, int64_t rows, double* k, double* scratch) const {
  const double* left = x;
  double* centered = scratch + gemm_scratch;
  if (kind_ == Kind::rbf) {
    // Distances do not change with the origin; this one keeps the terms of the sum below small.
    for (int64_t i = 0; i < rows * features_; ++i) {
      centered[i] = x[i] - center_[static_cast<size_t>(i % features_)];
    }
    left = centered;
  }
  GemmBlock<double> block = matrix_block<double>(&left, rows, features_, features_,
                                                 panels_.panels.data<double>(), k, vectors_);
  if (wants_scratch(block)) block.scratch = scratch;
  if (kind_ == Kind::rbf) {
    block.epilogue.alpha = -2;
    block.epilogue.bias = norms_.data();
  }
  multiply(block);
  for (int64_t r = 0; r < rows; ++r) {
    double* row = k + r * vectors_;
    if (kind_ == Kind::poly) {
      for (int64_t j = 0; j < vectors_; ++j) row[j] = power(gamma_ * row[j] + offset_);
    } else if (kind_ == Kind::sigmoid) {
      for (int64_t j = 0; j < vectors_; ++j) row[j] = std::tanh(gamma_ * row[j] + offset_);
    } else if (kind_ == Kind::rbf) {
      // |x - s|^2 = |x|^2 + (|s|^2 - 2 x s)
      const double* from = left + r * features_;
      double norm = 0;
      for (int64_t i = 0; i < features_; ++i) norm += from[i] * from[i];
      for (int64_t j = 0; j < vectors_; ++j) {
        const double distance = norm < HUGE_VAL ? std::max(norm + row[j], 0.0) : norm;
        row[j] = std::exp(-gamma_ * distance);
      }
    }
  }
}

}  // namespace bascule
