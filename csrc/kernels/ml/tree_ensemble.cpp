// SPDX-License-Identifier: Apache-2.0
// TreeEnsemble, and TreeEnsembleRegressor and TreeEnsembleClassifier before it.
#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kernels/ml/flat_forest.h"
#include "kernels/ml/forest.h"
#include "kernels/ml/post_transform.h"
#include "kernels/work_view.h"
#include "runtime/kernel.h"

namespace bascule {
namespace {

using FeatureTypes = Types<float, double, int64_t, int32_t, Float16>;

bool holds(const Forest& forest, const Forest::Node& node, double x) {
  if (std::isnan(x)) return node.nan_is_yes || node.comparison == Comparison::neq;
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

void begin_scores(const Forest& forest, Scores scores) {
  std::fill_n(scores.value, forest.targets, 0.0);
  std::fill_n(scores.seen, forest.targets, uint8_t{0});
}

// Takes the votes of the leaf that a tree gives.
void add_votes(const Forest& forest, Forest::Place leaf, Scores scores) {
  for (const Forest::Vote& vote : forest.votes_of(leaf)) {
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

void end_scores(const Forest& forest, Scores scores) {
  const auto trees = static_cast<double>(std::max<size_t>(forest.roots.size(), 1));
  for (int64_t t = 0; t < forest.targets; ++t) {
    if (forest.aggregate == Aggregate::average) scores.value[t] /= trees;
    if (!forest.base.empty()) scores.value[t] += forest.base[static_cast<size_t>(t)];
  }
}

// The leaf that a row reaches, test by test: for forests that have no flat form.
Forest::Place find_leaf(const Forest& forest, Forest::Place place, const double* x) {
  while (place >= 0) {
    const Forest::Node& node = forest.nodes[static_cast<size_t>(place)];
    place = holds(forest, node, x[node.feature]) ? node.yes : node.no;
  }
  return place;
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

// A forest and the fastest way through it. Every score is a sum in the order of the trees,
// whichever way is taken.
class Scorer {
 public:
  // `narrow`: integers are compared as float32, as the thresholds are.
  Scorer(Forest forest, DType input, bool narrow) : forest_(std::move(forest)) {
    narrow_ =
        input == DType::float32 || input == DType::float16 || (narrow && input != DType::float64);
    if (!FlatForest<float>::can_hold(forest_)) return;
    if (adds_one_number()) {
      for (const Forest::Vote& vote : forest_.votes) weights_.push_back(vote.weight);
    }
    if (narrow_) {
      flat_float_ = std::make_unique<const FlatForest<float>>(forest_);
    } else {
      flat_double_ = std::make_unique<const FlatForest<double>>(forest_);
    }
  }
  const Forest& forest() const { return forest_; }

  // finish(row, scores) for every row.
  template <class Finish>
  void score(RunContext& c, const Rows& rows, Finish&& finish) const {
    if (flat_float_ != nullptr) {
      score_flat(c, *flat_float_, work_view<float>(c, c.input(0)), rows, finish);
    } else if (flat_double_ != nullptr) {
      score_flat(c, *flat_double_, work_view<double>(c, c.input(0)), rows, finish);
    } else {
      score_one_by_one(c, rows, finish);
    }
  }

 private:
  // Rows that are scored while a tree stays in the cache.
  static constexpr int64_t tile = 64;

  // Scores of several rows.
  struct Block {
    Block(const Forest& forest, int64_t rows)
        : targets(forest.targets), value(static_cast<size_t>(rows * targets)), seen(value.size()) {}
    Scores at(int64_t row) { return {value.data() + row * targets, seen.data() + row * targets}; }
    int64_t targets;
    std::vector<double> value;
    std::vector<uint8_t> seen;
  };

  template <class T, class Finish>
  void score_flat(RunContext& c, const FlatForest<T>& flat, const T* x, const Rows& rows,
                  Finish&& finish) const {
    constexpr int64_t width = FlatForest<T>::width;
    const double cost = 10.0 * static_cast<double>(flat.tree_count());
    c.parallel_for(rows.count, cost, [&](int64_t begin, int64_t end) {
      Block block(forest_, tile);
      for (int64_t first = begin; first < end; first += tile) {
        const int64_t count = std::min(tile, end - first);
        const T* from = x + first * rows.columns;
        for (int64_t i = 0; i < count; ++i) begin_scores(forest_, block.at(i));
        // Too few rows to fill the width: the trees fill it.
        const int64_t in_groups = count < width ? 0 : count;
        score_groups(flat, from, rows.columns, in_groups, block);
        for (int64_t i = in_groups; i < count; ++i) {
          score_alone(flat, from + i * rows.columns, rows.columns, block.at(i));
        }
        for (int64_t i = 0; i < count; ++i) {
          end_scores(forest_, block.at(i));
          finish(first + i, block.at(i));
        }
      }
    });
  }

  template <class T>
  void score_groups(const FlatForest<T>& flat, const T* x, int64_t columns, int64_t count,
                    Block& block) const {
    constexpr int64_t width = FlatForest<T>::width;
    int32_t leaves[width];
    const bool has_nan = any_nan(x, count * columns);
    for (int64_t tree = 0; tree < flat.tree_count() && count > 0; ++tree) {
      for (int64_t first = 0; first < count; first += width) {
        const int64_t rows = std::min(width, count - first);
        flat.leaves_of_rows(tree, x + first * columns, columns, rows, has_nan, leaves);
        for (int64_t i = 0; i < rows; ++i) take_leaf(leaves[i], block.at(first + i));
      }
    }
  }

  template <class T>
  void score_alone(const FlatForest<T>& flat, const T* x, int64_t columns, Scores scores) const {
    constexpr int64_t width = FlatForest<T>::width;
    int32_t leaves[width];
    const bool has_nan = any_nan(x, columns);
    for (int64_t first = 0; first < flat.tree_count(); first += width) {
      const int64_t trees = std::min(width, flat.tree_count() - first);
      flat.leaves_of_trees(first, trees, x, has_nan, leaves);
      for (int64_t i = 0; i < trees; ++i) take_leaf(leaves[i], scores);
    }
  }

  // The commonest forests: one target, and each leaf adds one number to it.
  bool adds_one_number() const {
    const bool sums =
        forest_.aggregate == Aggregate::sum || forest_.aggregate == Aggregate::average;
    if (!sums || forest_.targets != 1) return false;
    for (size_t i = 0; i < forest_.first_vote.size(); ++i) {
      if (forest_.first_vote[i] != static_cast<int32_t>(i)) return false;
    }
    return true;
  }
  void take_leaf(int32_t leaf, Scores scores) const {
    if (weights_.empty()) return add_votes(forest_, ~leaf, scores);
    *scores.value += weights_[static_cast<size_t>(leaf)];
    *scores.seen = 1;
  }

  template <class T>
  static bool any_nan(const T* x, int64_t count) {
    return std::any_of(x, x + count, [](T value) { return std::isnan(value); });
  }

  template <class Finish>
  void score_one_by_one(RunContext& c, const Rows& rows, Finish&& finish) const {
    const double* x = features_of(c, c.input(0));
    const double cost = 20.0 * static_cast<double>(forest_.roots.size());
    c.parallel_for(rows.count, cost, [&](int64_t begin, int64_t end) {
      Block block(forest_, 1);
      const Scores scores = block.at(0);
      for (int64_t row = begin; row < end; ++row) {
        begin_scores(forest_, scores);
        for (const Forest::Place root : forest_.roots) {
          add_votes(forest_, find_leaf(forest_, root, x + row * rows.columns), scores);
        }
        end_scores(forest_, scores);
        finish(row, scores);
      }
    });
  }

  const double* features_of(RunContext& c, const Tensor& x) const {
    if (!narrow_) return work_view<double>(c, x);
    const float* rounded = work_view<float>(c, x);
    double* wide = c.workspace<double>(x.size());
    std::copy_n(rounded, x.size(), wide);
    return wide;
  }

  Forest forest_;
  bool narrow_ = false;
  std::vector<double> weights_;  // of the leaves, where each adds one number
  std::unique_ptr<const FlatForest<float>> flat_float_;
  std::unique_ptr<const FlatForest<double>> flat_double_;
};

class TreeEnsemble final : public Kernel {
 public:
  static Capability capability(const NodeSpec& node) {
    return require_dtype(node, 0, Types<float, double, Float16>{});
  }
  explicit TreeEnsemble(const NodeSpec& node) : scorer_(read_forest(node), node.dtype(), false) {
    const int64_t transform = node.get_int("post_transform", 0);
    if (transform < 0 || transform > static_cast<int64_t>(PostTransform::probit)) {
      fail("post_transform is " + std::to_string(transform) + ", expected 0 to 4");
    }
    transform_ = static_cast<PostTransform>(transform);
  }
  void run(RunContext& c) const override {
    const int64_t targets = scorer_.forest().targets;
    const Rows rows(c.input(0), scorer_.forest());
    Tensor& y = c.output(0, c.input(0).dtype(), Shape{rows.count, targets});
    visit(Types<float, double, Float16>{}, y.dtype(), [&](auto tag) {
      using T = typename decltype(tag)::type;
      scorer_.score(c, rows, [&](int64_t row, Scores scores) {
        transform_scores(transform_, scores.value, targets);
        std::transform(scores.value, scores.value + targets, y.data<T>() + row * targets,
                       [](double v) { return T(static_cast<Compute<T>>(v)); });
      });
    });
  }

 private:
  Scorer scorer_;
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

Forest read_regressor(const NodeSpec& node) {
  Forest forest = read_forest(node, "target", node.get_int("n_targets", 0));
  forest.aggregate = aggregate_of(node);
  if (!forest.base.empty() && forest.base.size() != static_cast<size_t>(forest.targets)) {
    fail("base_values has " + std::to_string(forest.base.size()) + " elements for " +
         std::to_string(forest.targets) + " targets");
  }
  return forest;
}

// Thresholds that are a list, not a tensor, are float32.
bool is_narrow(const NodeSpec& node) { return !node.has("nodes_values_as_tensor"); }

class TreeEnsembleRegressor final : public Kernel {
 public:
  static Capability capability(const NodeSpec& node) {
    return require_dtype(node, 0, FeatureTypes{});
  }
  explicit TreeEnsembleRegressor(const NodeSpec& node)
      : scorer_(read_regressor(node), node.dtype(), is_narrow(node)),
        transform_(parse_post_transform(node)) {}
  void run(RunContext& c) const override {
    const int64_t targets = scorer_.forest().targets;
    const Rows rows(c.input(0), scorer_.forest());
    Tensor& y = c.output(0, DType::float32, Shape{rows.count, targets});
    scorer_.score(c, rows, [&](int64_t row, Scores scores) {
      transform_scores(transform_, scores.value, targets);
      std::copy_n(scores.value, targets, y.data<float>() + row * targets);
    });
  }

 private:
  Scorer scorer_;
  PostTransform transform_;
};
BASCULE_KERNEL_IN("ai.onnx.ml", "TreeEnsembleRegressor", TreeEnsembleRegressor);

Forest read_classifier(const NodeSpec& node, int64_t classes) {
  if (classes == 0) fail("one of classlabels_int64s and classlabels_strings is needed");
  Forest forest = read_forest(node, "class", classes);
  if (classes == 2 && forest.base.size() == 1) forest.base.push_back(0);
  if (!forest.base.empty() && forest.base.size() != static_cast<size_t>(classes)) {
    fail("base_values has " + std::to_string(forest.base.size()) + " elements for " +
         std::to_string(classes) + " classes");
  }
  return forest;
}

class TreeEnsembleClassifier final : public Kernel {
 public:
  static Capability capability(const NodeSpec& node) {
    return require_dtype(node, 0, FeatureTypes{});
  }
  explicit TreeEnsembleClassifier(const NodeSpec& node)
      : strings_(node.get_strings("classlabels_strings")),
        integers_(node.get_ints("classlabels_int64s")),
        classes_(static_cast<int64_t>(strings_.empty() ? integers_.size() : strings_.size())),
        transform_(parse_post_transform(node)),
        scorer_(read_classifier(node, classes_), node.dtype(), is_narrow(node)),
        single_(!node.has("class_weights_as_tensor")) {
    const std::vector<Forest::Vote>& votes = scorer_.forest().votes;
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
    const Rows rows(c.input(0), scorer_.forest());
    const DType label_type = strings_.empty() ? DType::int64 : DType::string;
    Tensor& labels = c.output(0, label_type, Shape{rows.count});
    Tensor& z = c.output(1, DType::float32, Shape{rows.count, classes_});
    scorer_.score(c, rows, [&](int64_t row, Scores scores) {
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
      const bool counts = scores.seen[i] || !scorer_.forest().base.empty();
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

  std::vector<std::string> strings_;
  std::vector<int64_t> integers_;
  int64_t classes_;
  PostTransform transform_;
  Scorer scorer_;
  bool single_;               // weights are float32
  int64_t voted_class_ = -1;  // of two classes the only one that has votes, or -1
  bool probabilities_ = false;
};
BASCULE_KERNEL_IN("ai.onnx.ml", "TreeEnsembleClassifier", TreeEnsembleClassifier);

}  // namespace
}  // namespace bascule
