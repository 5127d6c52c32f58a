// SPDX-License-Identifier: Apache-2.0
// TreeEnsemble, and TreeEnsembleRegressor and TreeEnsembleClassifier before it.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "kernels/ml/forest.h"
#include "kernels/ml/post_transform.h"
#include "kernels/work_view.h"
#include "runtime/kernel.h"

namespace bascule {
namespace {

using FeatureTypes = Types<float, double, int64_t, int32_t, Float16>;

bool holds(const Forest& forest, const Forest::Node& node, double x) {
  if (std::isnan(x) && node.nan_is_yes) return true;
  switch (node.comparison) {
    case Comparison::leq:
      return x <= node.threshold;
    case Comparison::lt:
      return x < node.threshold;
    case Comparison::gte:
      return x >= node.threshold;
    case Comparison::gt:
      return x > node.threshold;
    case Comparison::eq:
      return x == node.threshold;
    case Comparison::neq:
      return x != node.threshold;
    case Comparison::member: {
      const auto set = forest.members_of(node);
      return std::binary_search(set.begin(), set.end(), x);
    }
  }
  return false;
}

// The scores of one row, and which of them some tree has voted for.
struct Scores {
  double* value;
  uint8_t* seen;
};

void score_row(const Forest& forest, const double* x, Scores scores) {
  std::fill_n(scores.value, forest.targets, 0.0);
  std::fill_n(scores.seen, forest.targets, uint8_t{0});
  for (Forest::Place place : forest.roots) {
    while (place >= 0) {
      const Forest::Node& node = forest.nodes[static_cast<size_t>(place)];
      place = holds(forest, node, x[node.feature]) ? node.yes : node.no;
    }
    for (const Forest::Vote& vote : forest.votes_of(place)) {
      double& score = scores.value[vote.target];
      uint8_t& seen = scores.seen[vote.target];
      switch (forest.aggregate) {
        case Aggregate::average:
        case Aggregate::sum:
          score += vote.weight;
          break;
        case Aggregate::min:
          if (!seen || vote.weight < score) score = vote.weight;
          break;
        case Aggregate::max:
          if (!seen || vote.weight > score) score = vote.weight;
          break;
      }
      seen = 1;
    }
  }
  const auto trees = static_cast<double>(std::max<size_t>(forest.roots.size(), 1));
  for (int64_t t = 0; t < forest.targets; ++t) {
    if (forest.aggregate == Aggregate::average) scores.value[t] /= trees;
    if (!forest.base.empty()) scores.value[t] += forest.base[static_cast<size_t>(t)];
  }
}

// [N, F], or [F] as one row.
struct Rows {
  explicit Rows(const Tensor& x, const Forest& forest) {
    if (x.rank() != 1 && x.rank() != 2) {
      invalid("input has shape " + x.shape().text() + ", expected one or two axes");
    }
    count = x.rank() == 2 ? x.dim(0) : 1;
    columns = x.shape().back();
    if (columns < forest.features) {
      invalid("input has " + std::to_string(columns) + " columns, and a node tests feature " +
              std::to_string(forest.features - 1));
    }
  }
  int64_t count;
  int64_t columns;
};

const double* features_of(RunContext& c, const Tensor& x, bool narrow) {
  // Integers are compared as float32 where the thresholds are float32.
  if (narrow && (x.dtype() == DType::int64 || x.dtype() == DType::int32)) {
    const float* rounded = work_view<float>(c, x);
    double* wide = c.workspace<double>(x.size());
    std::copy_n(rounded, x.size(), wide);
    return wide;
  }
  return work_view<double>(c, x);
}

// finish(row, scores) for every row.
template <class Finish>
void score_rows(RunContext& c, const Forest& forest, bool narrow, const Rows& rows,
                Finish&& finish) {
  const double* x = features_of(c, c.input(0), narrow);
  c.parallel_for(rows.count, 20.0 * static_cast<double>(forest.roots.size()),
                 [&](int64_t begin, int64_t end) {
                   std::vector<double> value(static_cast<size_t>(forest.targets));
                   std::vector<uint8_t> seen(value.size());
                   const Scores scores{value.data(), seen.data()};
                   for (int64_t row = begin; row < end; ++row) {
                     score_row(forest, x + row * rows.columns, scores);
                     finish(row, scores);
                   }
                 });
}

class TreeEnsemble final : public Kernel {
 public:
  static Capability capability(const NodeSpec& node) {
    return require_dtype(node, 0, Types<float, double, Float16>{});
  }
  explicit TreeEnsemble(const NodeSpec& node) : forest_(read_forest(node)) {
    const int64_t transform = node.get_int("post_transform", 0);
    if (transform < 0 || transform > static_cast<int64_t>(PostTransform::probit)) {
      fail("post_transform is " + std::to_string(transform) + ", expected 0 to 4");
    }
    transform_ = static_cast<PostTransform>(transform);
  }
  void run(RunContext& c) const override {
    const Rows rows(c.input(0), forest_);
    Tensor& y = c.output(0, c.input(0).dtype(), Shape{rows.count, forest_.targets});
    visit(Types<float, double, Float16>{}, y.dtype(), [&](auto tag) {
      using T = typename decltype(tag)::type;
      score_rows(c, forest_, false, rows, [&](int64_t row, Scores scores) {
        transform_scores(transform_, scores.value, forest_.targets);
        std::transform(scores.value, scores.value + forest_.targets,
                       y.data<T>() + row * forest_.targets,
                       [](double v) { return T(static_cast<Compute<T>>(v)); });
      });
    });
  }

 private:
  Forest forest_;
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
      : forest_(read_forest(node, "target", node.get_int("n_targets", 0))),
        transform_(parse_post_transform(node)),
        narrow_(!node.has("nodes_values_as_tensor")) {
    forest_.aggregate = aggregate_of(node);
    const auto targets = static_cast<size_t>(forest_.targets);
    if (!forest_.base.empty() && forest_.base.size() != targets) {
      fail("base_values has " + std::to_string(forest_.base.size()) + " elements for " +
           std::to_string(targets) + " targets");
    }
  }
  void run(RunContext& c) const override {
    const Rows rows(c.input(0), forest_);
    Tensor& y = c.output(0, DType::float32, Shape{rows.count, forest_.targets});
    score_rows(c, forest_, narrow_, rows, [&](int64_t row, Scores scores) {
      transform_scores(transform_, scores.value, forest_.targets);
      std::copy_n(scores.value, forest_.targets, y.data<float>() + row * forest_.targets);
    });
  }

 private:
  Forest forest_;
  PostTransform transform_;
  bool narrow_;
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
        narrow_(!node.has("nodes_values_as_tensor")) {
    classes_ = static_cast<int64_t>(strings_.empty() ? integers_.size() : strings_.size());
    if (classes_ == 0) fail("one of classlabels_int64s and classlabels_strings is needed");
    forest_ = read_forest(node, "class", classes_);
    std::vector<double>& base = forest_.base;
    if (classes_ == 2 && base.size() == 1) base.push_back(0);
    if (!base.empty() && base.size() != static_cast<size_t>(classes_)) {
      fail("base_values has " + std::to_string(base.size()) + " elements for " +
           std::to_string(classes_) + " classes");
    }
    const std::vector<Forest::Vote>& votes = forest_.votes;
    const bool one_class =
        !votes.empty() && std::all_of(votes.begin(), votes.end(), [&](const Forest::Vote& vote) {
          return vote.target == votes[0].target;
        });
    if (classes_ == 2 && one_class) voted_class_ = votes[0].target;
    const bool positive = std::none_of(votes.begin(), votes.end(),
                                       [](const Forest::Vote& vote) { return vote.weight < 0; });
    probabilities_ =
        transform_ == PostTransform::probit || (positive && transform_ != PostTransform::logistic);
  }

  void run(RunContext& c) const override {
    const Rows rows(c.input(0), forest_);
    const DType label_type = strings_.empty() ? DType::int64 : DType::string;
    Tensor& labels = c.output(0, label_type, Shape{rows.count});
    Tensor& z = c.output(1, DType::float32, Shape{rows.count, classes_});
    score_rows(c, forest_, narrow_, rows, [&](int64_t row, Scores scores) {
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
      const bool counts = scores.seen[i] || !forest_.base.empty();
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

  Forest forest_;
  std::vector<std::string> strings_;
  std::vector<int64_t> integers_;
  int64_t classes_ = 0;
  int64_t voted_class_ = -1;  // of two classes the only one that has votes, or -1
  bool probabilities_ = false;
  PostTransform transform_;
  bool narrow_;
};
BASCULE_KERNEL_IN("ai.onnx.ml", "TreeEnsembleClassifier", TreeEnsembleClassifier);

}  // namespace
}  // namespace bascule
