// SPDX-License-Identifier: Apache-2.0
// Decision trees as the attributes of TreeEnsemble, TreeEnsembleRegressor and
// TreeEnsembleClassifier describe them: read and validated once, in one form for all three.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "runtime/node.h"

namespace bascule {

// The test of a node, numbered as in TreeEnsemble's nodes_modes.
enum class Comparison : uint8_t { leq, lt, gte, gt, eq, neq, member };

// How the votes of the trees for a target become its score, numbered as in TreeEnsemble.
enum class Aggregate : uint8_t { average, sum, min, max };

struct Forest {
  // A node or a leaf: the index of a node, or the bitwise complement of the index of a leaf.
  using Place = int32_t;

  // Goes on to `yes` where `x[feature] comparison threshold` holds, or where x[feature] is NaN and
  // `nan_is_yes`.
  struct Node {
    double threshold;
    int32_t feature;
    Place yes;
    Place no;
    int32_t set;  // for Comparison::member, see members_of()
    Comparison comparison;
    bool nan_is_yes;
  };
  // What a leaf adds to the score of one target.
  struct Vote {
    double weight;
    int32_t target;
  };

  std::vector<Node> nodes;  // those that can be reached, each before its children
  std::vector<Place> roots;
  std::vector<Vote> votes;
  std::vector<int32_t> first_vote;  // per leaf, and the end
  std::vector<double> members;      // the sets, each in rising order
  std::vector<int32_t> first_member;
  std::vector<double> base;  // per target, or empty
  int64_t targets = 0;
  int64_t features = 0;  // columns that an input must have
  Aggregate aggregate = Aggregate::sum;
  bool shares_nodes = false;  // some node has several parents

  std::span<const Vote> votes_of(Place leaf) const {
    const auto i = static_cast<size_t>(~leaf);
    return {votes.data() + first_vote[i], votes.data() + first_vote[i + 1]};
  }
  std::span<const double> members_of(const Node& node) const {
    const auto i = static_cast<size_t>(node.set);
    return {members.data() + first_member[i], members.data() + first_member[i + 1]};
  }
};

// The elements of the list `name`, or of the tensor `name`_as_tensor; an error if both are given.
std::vector<double> numbers_of(const NodeSpec& node, const std::string& name);

// Reads TreeEnsemble. Every index is checked, and that no path goes in a circle.
Forest read_forest(const NodeSpec& node);

// Reads the nodes and votes of the two operators before it: the votes are attributes
// `prefix`_treeids, _nodeids, _ids and _weights. Without a positive number of `targets` the votes
// tell how many there are.
Forest read_forest(const NodeSpec& node, const std::string& prefix, int64_t targets);

}  // namespace bascule
