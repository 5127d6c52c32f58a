// SPDX-License-Identifier: Apache-2.0
#include "kernels/ml/flat_forest.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace bascule {

namespace {

constexpr int64_t few_paths = 4;

template <class T>
constexpr T infinite = std::numeric_limits<T>::infinity();

// The largest T that is not larger than a threshold; NaN stays NaN, which nothing compares with.
template <class T>
T round_down(double threshold) {
  const T rounded = static_cast<T>(threshold);
  return static_cast<double>(rounded) > threshold ? std::nextafter(rounded, -infinite<T>) : rounded;
}

// The largest T that is smaller than a threshold.
template <class T>
T below(double threshold) {
  if (threshold == -infinite<double>) return std::numeric_limits<T>::quiet_NaN();
  const T rounded = round_down<T>(threshold);
  return static_cast<double>(rounded) == threshold ? std::nextafter(rounded, -infinite<T>)
                                                   : rounded;
}

}  // namespace

template <class T>
bool FlatForest<T>::can_hold(const Forest& forest) {
  return forest.features > 0 && !forest.shares_nodes &&
         std::all_of(forest.nodes.begin(), forest.nodes.end(),
                     [](const Forest::Node& node) { return node.comparison <= Comparison::gt; });
}

template <class T>
FlatForest<T>::FlatForest(const Forest& forest) {
  nodes_.reserve(2 * forest.nodes.size() + forest.roots.size());
  trees_.reserve(forest.roots.size());
  for (const Forest::Place root : forest.roots) add_tree(forest, root);
}

// Every test becomes x <= threshold: where it says yes, the child is the place of yes, and where it
// says no of x >= t or x > t, that of no.
template <class T>
auto FlatForest<T>::flat_node(const Forest::Node& node, bool* child_is_yes) -> Node {
  *child_is_yes = node.comparison == Comparison::leq || node.comparison == Comparison::lt;
  const bool strict = node.comparison == Comparison::lt || node.comparison == Comparison::gte;
  T threshold = strict ? below<T>(node.threshold) : round_down<T>(node.threshold);
  if (!*child_is_yes && std::isnan(node.threshold)) threshold = infinite<T>;
  return {threshold, node.feature, 0};
}

// Level by level, so that the nodes that every path meets share cache lines.
template <class T>
void FlatForest<T>::add_tree(const Forest& forest, Forest::Place root) {
  std::vector<Forest::Place> level{root}, next;
  Tree tree{static_cast<int32_t>(nodes_.size()), std::numeric_limits<int32_t>::max(), 0};
  for (int32_t depth = 0; !level.empty(); ++depth, level.swap(next)) {
    next.clear();
    const size_t first_child = nodes_.size() + level.size();
    for (const Forest::Place place : level) {
      if (place < 0) {
        nodes_.push_back({infinite<T>, 0, 0});
        leaves_.push_back(~place);
        nan_to_child_.push_back(1);
        tree.shortest = std::min(tree.shortest, depth);
        tree.longest = depth;
        continue;
      }
      const Forest::Node& node = forest.nodes[static_cast<size_t>(place)];
      bool child_is_yes = false;
      Node flat = flat_node(node, &child_is_yes);
      flat.child = static_cast<int32_t>(first_child + next.size() - nodes_.size());
      nodes_.push_back(flat);
      leaves_.push_back(-1);
      nan_to_child_.push_back(child_is_yes == node.nan_is_yes);
      next.push_back(child_is_yes ? node.yes : node.no);
      next.push_back(child_is_yes ? node.no : node.yes);
    }
  }
  trees_.push_back(tree);
}

template <class T>
template <bool has_nan>
auto FlatForest<T>::step(const Node* node, const T* x) const -> const Node* {
  const T value = x[node->feature];
  auto past = static_cast<ptrdiff_t>(!(value <= node->threshold));
  if constexpr (has_nan) {
    const auto stays =
        static_cast<ptrdiff_t>(value != value) &
        static_cast<ptrdiff_t>(nan_to_child_[static_cast<size_t>(node - nodes_.data())]);
    past &= ~stays;
  }
  return node + node->child + past;
}

template <class T>
template <bool has_nan>
void FlatForest<T>::walk(const Node** nodes, const T* const* rows, int32_t shortest,
                         int32_t longest) const {
  for (int32_t depth = 0; depth < shortest; ++depth) {
#pragma GCC unroll 16
    for (int64_t i = 0; i < width; ++i) nodes[i] = step<has_nan>(nodes[i], rows[i]);
  }
  // Then until most of the paths have ended; the others go on one by one.
  int64_t moved = width;
  for (int32_t depth = shortest; depth < longest && moved > few_paths; ++depth) {
    moved = 0;
#pragma GCC unroll 16
    for (int64_t i = 0; i < width; ++i) {
      const Node* next = step<has_nan>(nodes[i], rows[i]);
      moved += next != nodes[i];
      nodes[i] = next;
    }
  }
  for (int64_t i = 0; i < width; ++i) {
    while (nodes[i]->child != 0) nodes[i] = step<has_nan>(nodes[i], rows[i]);
  }
}

template <class T>
void FlatForest<T>::find_leaves(const Node** nodes, const T* const* rows, int32_t shortest,
                                int32_t longest, int64_t count, bool has_nan,
                                int32_t* leaves) const {
  if (has_nan) {
    walk<true>(nodes, rows, shortest, longest);
  } else {
    walk<false>(nodes, rows, shortest, longest);
  }
  for (int64_t i = 0; i < count; ++i) {
    leaves[i] = leaves_[static_cast<size_t>(nodes[i] - nodes_.data())];
  }
}

template <class T>
void FlatForest<T>::leaves_of_rows(int64_t tree, const T* x, int64_t stride, int64_t count,
                                   bool has_nan, int32_t* leaves) const {
  const Tree& walked = trees_[static_cast<size_t>(tree)];
  const Node* nodes[width];
  const T* rows[width];
  for (int64_t i = 0; i < width; ++i) {
    nodes[i] = nodes_.data() + walked.root;
    rows[i] = x + std::min(i, count - 1) * stride;
  }
  find_leaves(nodes, rows, walked.shortest, walked.longest, count, has_nan, leaves);
}

template <class T>
void FlatForest<T>::leaves_of_trees(int64_t first_tree, int64_t count, const T* x, bool has_nan,
                                    int32_t* leaves) const {
  const Node* nodes[width];
  const T* rows[width];
  int32_t shortest = std::numeric_limits<int32_t>::max(), longest = 0;
  for (int64_t i = 0; i < width; ++i) {
    const Tree& walked = trees_[static_cast<size_t>(first_tree + std::min(i, count - 1))];
    nodes[i] = nodes_.data() + walked.root;
    rows[i] = x;
    shortest = std::min(shortest, walked.shortest);
    longest = std::max(longest, walked.longest);
  }
  find_leaves(nodes, rows, shortest, longest, count, has_nan, leaves);
}

template class FlatForest<float>;
template class FlatForest<double>;

}  // namespace bascule
