// SPDX-License-Identifier: Apache-2.0
// TreeEnsemble, and TreeEnsembleRegressor and TreeEnsembleClassifier before it.
#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kernels/ml/forest_scorer.h"
#include "kernels/ml/post_transform.h"
#include "runtime/kernel.h"

namespace bascule {
namespace {

using FeatureTypes = Types<float, double, int64_t, int32_t, Float16>;

// The rows of an input: [N, F], or [F] as one.
int64_t count_rows(const Tensor& x, int64_t features) {
  if (x.rank() != 1 && x.rank() != 2) {
    invalid("input has shape " + x.shape().text() + ", expected one or two axes");
  }
  const int64_t columns = x.shape().back();
  if (columns < features) {
    invalid("input has " + std::to_string(columns) + " columns, and a node tests feature " +
            std::to_string(features - 1));
  }
  return x.rank() == 2 ? x.dim(0) : 1;
}

// Integers are compared as float32 where the thresholds are float32.
bool compares_doubles(const NodeSpec& node) {
  const DType x = node.dtype();
  const bool is_integer = x == DType::int64 || x == DType::int32;
  return x == DType::float64 || (is_integer && node.has("nodes_values_as_tensor"));
}

class TreeEnsemble final : public Kernel {
 public:
  static Capability capability(const NodeSpec& node) {
    return require_dtype(node, 0, Types<float, double, Float16>{});
  }
  explicit TreeEnsemble(const NodeSpec& node) : scorer_(read_forest(node), compares_doubles(node)) {
    const int64_t transform = node.get_int("post_transform", 0);
    if (transform < 0 || transform > static_cast<int64_t>(PostTransform::probit)) {
      fail("post_transform is " + std::to_string(transform) + ", expected 0 to 4");
    }
    transform_ = static_cast<PostTransform>(transform);
  }
  void run(RunContext& c) const override {
    const Tensor& x = c.input(0);
    const int64_t rows = count_rows(x, scorer_.features()), targets = scorer_.targets();
    Tensor& y = c.output(0, x.dtype(), Shape{rows, targets});
    visit(Types<float, double, Float16>{}, y.dtype(), [&](auto tag) {
      using T = typename decltype(tag)::type;
      scorer_.run(c, x, rows, [&](int64_t row, Scores scores) {
        transform_scores(transform_, scores.value, targets);
        std::transform(scores.value, scores.value + targets, y.data<T>() + row * targets,
                       [](double v) { return T(static_cast<Compute<T>>(v)); });
      });
    });
  }

 private:
  ForestScorer scorer_;
  PostTransform transform_;
};
BASCULE_KERNEL_IN("ai.onnx.ml", "TreeEnsemble", TreeEnsemble);

Aggregate aggregate_of(const NodeSpec& node) {
  const std::string name = node.get_string("aggregate_function", "SUM");
  constexpr const char* names[] = {"AVERAGE", "SUM", "MIN", "MAX"};
  const auto found = std::find(std::begin(names), std::end(names), name);
  if (found == std::end(names)) {
    fail("aggregate_function '" + name + "' is not one of AVERAGE, SUM, MIN, MAX");
  }
  return static_cast<Aggregate>(found - names);
}

class TreeEnsembleRegressor final : public Kernel {
 public:
  static Capability capability(const NodeSpec& node) {
    return require_dtype(node, 0, FeatureTypes{});
  }
  explicit TreeEnsembleRegressor(const NodeSpec& node)
      : scorer_(read(node), compares_doubles(node)), transform_(parse_post_transform(node)) {}

  void run(RunContext& c) const override {
    const Tensor& x = c.input(0);
    const int64_t rows = count_rows(x, scorer_.features()), targets = scorer_.targets();
    Tensor& y = c.output(0, DType::float32, Shape{rows, targets});
    scorer_.run(c, x, rows, [&](int64_t row, Scores scores) {
      transform_scores(transform_, scores.value, targets);
      std::copy_n(scores.value, targets, y.data<float>() + row * targets);
    });
  }

 private:
  static Forest read(const NodeSpec& node) {
    Forest forest = read_forest(node, "target", node.get_int("n_targets", 0));
    forest.aggregate = aggregate_of(node);
    if (!forest.base.empty() && forest.base.size() != static_cast<size_t>(forest.targets)) {
      fail("base_values has " + std::to_string(forest.base.size()) + " elements for " +
           std::to_string(forest.targets) + " targets");
    }
    return forest;
  }

  ForestScorer scorer_;
  PostTransform transform_;
};
BASCULE_KERNEL_IN("ai.onnx.ml", "TreeEnsembleRegressor", TreeEnsembleRegressor);

class TreeEnsembleClassifier final : public Kernel {
 public:
  static Capability capability(const NodeSpec& node) {
    return require_dtype(node, 0, FeatureTypes{});
  }
  explicit TreeEnsembleClassifier(const NodeSpec& node)
      : strings_(node.get_strings("classlabels_strings")),
        integers_(node.get_ints("classlabels_int64s")),
        transform_(parse_post_transform(node)),
        single_(!node.has("class_weights_as_tensor")) {
    classes_ = static_cast<int64_t>(strings_.empty() ? integers_.size() : strings_.size());
    if (classes_ == 0) fail("one of classlabels_int64s and classlabels_strings is needed");
    Forest forest = read_forest(node, "class", classes_);
    std::vector<double>& base = forest.base;
    if (classes_ == 2 && base.size() == 1) base.push_back(0);
    if (!base.empty() && base.size() != static_cast<size_t>(classes_)) {
      fail("base_values has " + std::to_string(base.size()) + " elements for " +
           std::to_string(classes_) + " classes");
    }
    const std::vector<Forest::Vote>& votes = forest.votes;
    const bool one_class =
        !votes.empty() && std::all_of(votes.begin(), votes.end(), [&](const Forest::Vote& vote) {
          return vote.target == votes[0].target;
        });
    if (classes_ == 2 && one_class) voted_class_ = votes[0].target;
    const bool positive = std::none_of(votes.begin(), votes.end(),
                                       [](const Forest::Vote& vote) { return vote.weight < 0; });
    probabilities_ =
        transform_ == PostTransform::probit || (positive && transform_ != PostTransform::logistic);
    has_base_ = !base.empty();
    scorer_.emplace(std::move(forest), compares_doubles(node));
  }

  void run(RunContext& c) const override {
    const Tensor& x = c.input(0);
    const int64_t rows = count_rows(x, scorer_->features());
    const DType label_type = strings_.empty() ? DType::int64 : DType::string;
    Tensor& labels = c.output(0, label_type, Shape{rows});
    Tensor& z = c.output(1, DType::float32, Shape{rows, classes_});
    scorer_->run(c, x, rows, [&](int64_t row, Scores scores) {
      // Votes of equal weight that a float32 has rounded are to end in a tie.
      if (single_) {
        std::transform(scores.value, scores.value + classes_, scores.value,
                       [](double v) { return static_cast<float>(v); });
      }
      write_label(labels, row, decide(scores));
      std::copy_n(scores.value, classes_, z.data<float>() + row * classes_);
    });
  }

 private:
  // The index of the class, or -1 for no class. The scores become what is put out.
  int64_t decide(Scores scores) const {
    double* s = scores.value;
    if (voted_class_ >= 0) {
      // Two classes, and votes for one of them: they speak for class 1, whichever they name.
      const bool second = s[voted_class_] > (probabilities_ ? 0.5 : 0.0);
      if (voted_class_ == 0) {
        s[1] = s[0];
        s[0] = probabilities_ ? 1 - s[1] : -s[1];
      }
      const bool softmax =
          transform_ == PostTransform::softmax || transform_ == PostTransform::softmax_zero;
      if (voted_class_ == 1 || !softmax) transform_scores(transform_, s, classes_);
      return second ? 1 : 0;
    }
    int64_t best = -1;
    for (int64_t i = 0; i < classes_; ++i) {
      const bool counts = scores.seen[i] || has_base_;
      if (counts && (best < 0 || s[i] > s[best])) best = i;
    }
    if (classes_ == 1 && !(s[0] > 0)) best = -1;
    if (classes_ > 1 && best < 0) best = 0;
    transform_scores(transform_, s, classes_);
    return best;
  }

  void write_label(Tensor& labels, int64_t row, int64_t index) const {
    const auto i = static_cast<size_t>(index);
    if (strings_.empty()) {
      labels.data<int64_t>()[row] = index < 0 ? 0 : integers_[i];
    } else {
      labels.data<std::string>()[row] = index < 0 ? std::string() : strings_[i];
    }
  }

  std::optional<ForestScorer> scorer_;
  std::vector<std::string> strings_;
  std::vector<int64_t> integers_;
  int64_t classes_ = 0;
  int64_t voted_class_ = -1;  // of two classes the only one that has votes, or -1
  bool probabilities_ = false;
  bool has_base_ = false;
  PostTransform transform_;
  bool single_;  // weights are float32
};
BASCULE_KERNEL_IN("ai.onnx.ml", "TreeEnsembleClassifier", TreeEnsembleClassifier);

}  // namespace
}  // namespace bascule
