// SPDX-License-Identifier: Apache-2.0
// SVMRegressor and SVMClassifier, computed in float64 as the libraries do that train such models;
// scores are rounded to float32 at the end. Without support vectors they are linear functions.
#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

#include "kernels/ml/labels.h"
#include "kernels/ml/post_transform.h"
#include "kernels/ml/rows.h"
#include "kernels/ml/svm_kernel.h"
#include "kernels/work_view.h"
#include "runtime/kernel.h"

namespace bascule {
namespace {

// Rows whose kernel values are held at once.
constexpr int64_t row_block = 32;

std::vector<double> doubles_of(const NodeSpec& node, const std::string& name, int64_t least) {
  const std::vector<float> values = node.get_floats(name);
  if (static_cast<int64_t>(values.size()) < least) {
    fail(name + " has " + std::to_string(values.size()) + " elements, expected " +
         std::to_string(least));
  }
  return {values.begin(), values.end()};
}

double dot(const double* a, const double* b, int64_t n) {
  double sums[4] = {};
  int64_t i = 0;
  for (; i + 4 <= n; i += 4) {
    for (int lane = 0; lane < 4; ++lane) sums[lane] += a[i + lane] * b[i + lane];
  }
  for (; i < n; ++i) sums[0] += a[i] * b[i];
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

void check_columns(const Rows& x, int64_t features) {
  if (x.columns == features) return;
  invalid("input has " + std::to_string(x.columns) + " columns, expected " +
          std::to_string(features));
}

// body(row, its kernel values, `extra` elements of scratch memory) for each row.
template <class Body>
void for_kernel_rows(RunContext& c, const SvmKernel& kernel, const double* x, int64_t rows,
                     int64_t extra, Body&& body) {
  const int64_t parts = std::clamp<int64_t>(c.threads(), 1, std::max<int64_t>(rows, 1));
  const int64_t block = std::min(rows, row_block), vectors = kernel.vectors();
  const int64_t stride = kernel.scratch_size(block) + block * vectors + extra;
  double* space = c.workspace<double>(parts * stride);
  const double cost = static_cast<double>(vectors * (kernel.features() + 20)) *
                      static_cast<double>(rows) / static_cast<double>(parts);
  c.parallel_for(parts, cost, [&](int64_t begin, int64_t end) {
    for (int64_t part = begin; part < end; ++part) {
      double* k = space + part * stride;
      double* own = k + block * vectors;
      const int64_t last = rows * (part + 1) / parts;
      for (int64_t first = rows * part / parts; first < last; first += block) {
        const int64_t count = std::min(block, last - first);
        kernel.run(x + first * kernel.features(), count, k, own + extra);
        for (int64_t r = 0; r < count; ++r) body(first + r, k + r * vectors, own);
      }
    }
  });
}

class SvmRegressor final : public Kernel {
 public:
  static Capability capability(const NodeSpec& node) {
    return require_dtype(node, 0, FeatureTypes{});
  }
  explicit SvmRegressor(const NodeSpec& node)
      : transform_(parse_post_transform(node)),
        one_class_(node.get_int("one_class", 0) != 0),
        rho_(doubles_of(node, "rho", 1)[0]) {
    const int64_t vectors = node.get_int("n_supports", 0);
    if (vectors < 0) fail("n_supports is " + std::to_string(vectors));
    coefficients_ = doubles_of(node, "coefficients", std::max<int64_t>(vectors, 1));
    if (vectors > 0) kernel_.emplace(node, vectors);
  }

  void run(RunContext& c) const override {
    const Tensor& input = c.input(0);
    const Rows x = rows_of(input);
    check_columns(x, kernel_ ? kernel_->features() : static_cast<int64_t>(coefficients_.size()));
    const double* values = work_view<double>(c, input);
    float* y = c.output(0, DType::float32, {x.count, 1}).data<float>();
    const auto finish = [&](int64_t i, const double* features, int64_t n) {
      double score = dot(features, coefficients_.data(), n) + rho_;
      if (one_class_) score = score > 0 ? 1 : -1;
      transform_scores(transform_, &score, 1);
      y[i] = static_cast<float>(score);
    };
    if (kernel_) {
      for_kernel_rows(c, *kernel_, values, x.count, 0, [&](int64_t i, const double* k, double*) {
        finish(i, k, kernel_->vectors());
      });
    } else {
      c.parallel_for(x.count, static_cast<double>(x.columns), [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) finish(i, values + i * x.columns, x.columns);
      });
    }
  }

 private:
  PostTransform transform_;
  bool one_class_;
  double rho_;
  std::vector<double> coefficients_;
  std::optional<SvmKernel> kernel_;
};
BASCULE_KERNEL_IN("ai.onnx.ml", "SVMRegressor", SvmRegressor);

// Class probabilities from those of the pairs, r[i * n + j] = P(i | i or j): the second method of
// Wu, Lin and Weng, "Probability estimates for multi-class classification by pairwise coupling"
// (2004). The number of steps is part of the result. `q` has n * n elements, `qp` has n.
void couple_probabilities(int64_t n, const double* r, double* q, double* qp, double* p) {
  for (int64_t i = 0; i < n; ++i) {
    p[i] = 1.0 / static_cast<double>(n);
    q[i * n + i] = 0;
    for (int64_t j = 0; j < n; ++j) {
      if (j == i) continue;
      q[i * n + i] += r[j * n + i] * r[j * n + i];
      q[i * n + j] = -r[j * n + i] * r[i * n + j];
    }
  }
  const double enough = 0.005 / static_cast<double>(n);
  for (int64_t step = 0; step < std::max<int64_t>(100, n); ++step) {
    double pqp = 0, error = 0;
    for (int64_t i = 0; i < n; ++i) {
      qp[i] = 0;
      for (int64_t j = 0; j < n; ++j) qp[i] += q[i * n + j] * p[j];
      pqp += p[i] * qp[i];
    }
    for (int64_t i = 0; i < n; ++i) error = std::max(error, std::fabs(qp[i] - pqp));
    if (error < enough) return;
    for (int64_t i = 0; i < n; ++i) {
      const double change = (pqp - qp[i]) / q[i * n + i], scale = 1 + change;
      p[i] += change;
      pqp = (pqp + change * (change * q[i * n + i] + 2 * qp[i])) / scale / scale;
      for (int64_t j = 0; j < n; ++j) {
        qp[j] = (qp[j] + change * q[i * n + j]) / scale;
        p[j] /= scale;
      }
    }
  }
}

// With support vectors every pair of classes votes, and the scores are those of the pairs (s as
// (-s, s) for one pair) or, with prob_a and prob_b, the classes' probabilities. Without, each class
// has a linear score.
class SvmClassifier final : public Kernel {
 public:
  static Capability capability(const NodeSpec& node) {
    return require_dtype(node, 0, FeatureTypes{});
  }
  explicit SvmClassifier(const NodeSpec& node)
      : labels_(node, "classlabels_ints", "classlabels_strings"),
        classes_(labels_.count()),
        pairs_(classes_ * (classes_ - 1) / 2),
        transform_(parse_post_transform(node)),
        vectors_per_class_(node.get_ints("vectors_per_class")) {
    coefficients_ = doubles_of(node, "coefficients", 1);
    const auto weights = static_cast<int64_t>(coefficients_.size());
    int64_t vectors = 0;
    for (const int64_t count : vectors_per_class_) {
      if (count < 0 || count > weights - vectors) {
        fail("coefficients has " + std::to_string(weights) +
             " elements, which does not fit vectors_per_class");
      }
      starts_.push_back(vectors);
      vectors += count;
    }
    rho_ = doubles_of(node, "rho", vectors > 0 ? std::max<int64_t>(pairs_, 1) : 1);
    if (vectors > 0 ? weights < (classes_ - 1) * vectors : weights % classes_ != 0) {
      fail("coefficients has " + std::to_string(weights) + " elements for " +
           std::to_string(classes_) + " classes and " + std::to_string(vectors) + " vectors");
    }
    if (vectors > 0) {
      read_pairs(node);
      kernel_.emplace(node, vectors);
    }
    all_positive_ = std::all_of(coefficients_.begin(), coefficients_.end(),
                                [](double weight) { return weight >= 0; });
  }

  void run(RunContext& c) const override {
    const Tensor& input = c.input(0);
    const Rows x = rows_of(input);
    check_columns(
        x, kernel_ ? kernel_->features() : static_cast<int64_t>(coefficients_.size()) / classes_);
    const double* values = work_view<double>(c, input);
    Tensor& labels = c.output(0, labels_.dtype(), {x.count});
    const int64_t columns = kernel_ && a_.empty() && pairs_ > 1 ? pairs_ : classes_;
    float* scores = c.output(1, DType::float32, {x.count, columns}).data<float>();
    const auto finish = [&](int64_t i, int64_t label, double* row) {
      labels_.write(labels, i, label);
      transform_scores(transform_, row, columns);
      std::copy_n(row, columns, scores + i * columns);
    };
    if (!kernel_) {
      double* rows = c.workspace<double>(x.count * classes_);
      c.parallel_for(x.count, static_cast<double>(classes_ * x.columns),
                     [&](int64_t begin, int64_t end) {
                       for (int64_t i = begin; i < end; ++i) {
                         double* row = rows + i * classes_;
                         finish(i, linear(values + i * x.columns, x.columns, row), row);
                       }
                     });
      return;
    }
    const int64_t extra =
        std::max<int64_t>(pairs_, 2) + (a_.empty() ? classes_ : 2 * classes_ * (classes_ + 1));
    for_kernel_rows(c, *kernel_, values, x.count, extra,
                    [&](int64_t i, const double* k, double* space) {
                      double* decisions = space;
                      double* rest = space + std::max<int64_t>(pairs_, 2);
                      const int64_t label = vote(k, decisions, rest);
                      if (!a_.empty()) {
                        finish(i, label, probabilities(decisions, rest));
                        return;
                      }
                      if (pairs_ == 1) {
                        decisions[1] = decisions[0];
                        decisions[0] = -decisions[0];
                      }
                      finish(i, label, decisions);
                    });
  }

 private:
  void read_pairs(const NodeSpec& node) {
    if (static_cast<int64_t>(vectors_per_class_.size()) != classes_ || classes_ < 2) {
      fail("vectors_per_class has " + std::to_string(vectors_per_class_.size()) + " elements for " +
           std::to_string(classes_) + " class labels");
    }
    if (!node.get_floats("prob_a").empty() || !node.get_floats("prob_b").empty()) {
      a_ = doubles_of(node, "prob_a", pairs_);
      b_ = doubles_of(node, "prob_b", pairs_);
    }
  }

  // The linear scores, and the winner. Of two classes whose weights are all positive the second
  // wins from 0.5 on.
  int64_t linear(const double* x, int64_t n, double* scores) const {
    for (int64_t i = 0; i < classes_; ++i) {
      scores[i] = dot(x, coefficients_.data() + i * n, n) + rho_[0];
    }
    const int64_t best = std::max_element(scores, scores + classes_) - scores;
    return classes_ == 2 && all_positive_ && scores[best] >= 0.5 ? 1 : best;
  }

  // The decisions of the pairs, and the class with most votes.
  int64_t vote(const double* k, double* decisions, double* votes) const {
    std::fill_n(votes, classes_, 0.0);
    const int64_t vectors = kernel_->vectors();
    int64_t pair = 0;
    for (int64_t i = 0; i < classes_; ++i) {
      const int64_t start_i = starts_[static_cast<size_t>(i)];
      for (int64_t j = i + 1; j < classes_; ++j, ++pair) {
        const int64_t start_j = starts_[static_cast<size_t>(j)];
        decisions[pair] = rho_[static_cast<size_t>(pair)] +
                          dot(coefficients_.data() + (j - 1) * vectors + start_i, k + start_i,
                              vectors_per_class_[static_cast<size_t>(i)]) +
                          dot(coefficients_.data() + i * vectors + start_j, k + start_j,
                              vectors_per_class_[static_cast<size_t>(j)]);
        votes[decisions[pair] > 0 ? i : j] += 1;
      }
    }
    return std::max_element(votes, votes + classes_) - votes;
  }

  // `space` has 2 * classes * (classes + 1) elements; the result is in it.
  double* probabilities(const double* decisions, double* space) const {
    double* p = space;
    double* qp = p + classes_;
    double* r = qp + classes_;
    double* q = r + classes_ * classes_;
    size_t pair = 0;
    for (int64_t i = 0; i < classes_; ++i) {
      for (int64_t j = i + 1; j < classes_; ++j, ++pair) {
        const double chance = logistic(-(decisions[pair] * a_[pair] + b_[pair]));
        r[i * classes_ + j] = std::clamp(chance, 1e-7, 1 - 1e-7);
        r[j * classes_ + i] = 1 - r[i * classes_ + j];
      }
    }
    couple_probabilities(classes_, r, q, qp, p);
    return p;
  }

  Labels labels_;
  int64_t classes_;
  int64_t pairs_;
  PostTransform transform_;
  std::vector<int64_t> vectors_per_class_;
  std::vector<int64_t> starts_;
  std::vector<double> coefficients_;
  std::vector<double> rho_;
  std::vector<double> a_;  // of the logistic functions that make decisions probabilities
  std::vector<double> b_;
  bool all_positive_ = false;
  std::optional<SvmKernel> kernel_;
};
BASCULE_KERNEL_IN("ai.onnx.ml", "SVMClassifier", SvmClassifier);

}  // namespace
}  // namespace bascule
