// SPDX-License-Identifier: Apache-2.0
// A forest laid out for speed: siblings side by side, so that the step from a node to a child is an
// addition and no branch. Many paths are walked at once: their loads overlap.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/ml/forest.h"

namespace bascule {

// T, float or double, is the type of the features. The test of a float against a threshold in
// double has the same answer as that against the threshold rounded down to a float.
template <class T>
class FlatForest {
 public:
  // How many paths are walked at once.
  static constexpr int64_t width = 16;

  // Whether all tests are inequalities of some feature, and no node has several parents.
  static bool can_hold(const Forest& forest);
  explicit FlatForest(const Forest& forest);

  int64_t tree_count() const { return static_cast<int64_t>(trees_.size()); }

  // The leaves that `count` <= width rows of x, `stride` elements apart, reach in one tree.
  // `has_nan`: an element of x may be NaN.
  void leaves_of_rows(int64_t tree, const T* x, int64_t stride, int64_t count, bool has_nan,
                      int32_t* leaves) const;
  // The leaves that one row reaches in `count` <= width trees.
  void leaves_of_trees(int64_t first_tree, int64_t count, const T* x, bool has_nan,
                       int32_t* leaves) const;

 private:
  // A path goes on `child` nodes further where x[feature] <= threshold, else one more. A leaf is
  // its own child and lets nothing past, so that more steps than a path has do no harm.
  struct alignas(16) Node {
    T threshold;
    int32_t feature;
    int32_t child;
  };
  struct Tree {
    int32_t root;
    int32_t shortest;  // steps to the nearest leaf
    int32_t longest;
  };

  Node flat_node(const Forest::Node& node, bool* child_is_yes);
  void add_tree(const Forest& forest, Forest::Place root);
  template <bool has_nan>
  const Node* step(const Node* node, const T* x) const;
  template <bool has_nan>
  void walk(const Node** nodes, const T* const* rows, int32_t shortest, int32_t longest) const;
  void find_leaves(const Node** nodes, const T* const* rows, int32_t shortest, int32_t longest,
                   int64_t count, bool has_nan, int32_t* leaves) const;

  std::vector<Node> nodes_;
  std::vector<int32_t> leaves_;        // of each node its number among the forest's leaves
  std::vector<uint8_t> nan_to_child_;  // of each node
  std::vector<Tree> trees_;
};

}  // namespace bascule
