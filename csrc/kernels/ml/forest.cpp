// SPDX-License-Identifier: Apache-2.0
#include "kernels/ml/forest.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "core/error.h"

namespace bascule {

namespace {

using Place = Forest::Place;

[[noreturn]] void refuse(const std::string& problem) { throw Error(Code::invalid_graph, problem); }

std::string at(const std::string& name, size_t i) { return name + "[" + std::to_string(i) + "]"; }

// Places are 32-bit, and so are counts of nodes, leaves and votes.
void check_count(const std::string& name, size_t count) {
  if (count >= static_cast<size_t>(std::numeric_limits<int32_t>::max())) {
    refuse(name + " has " + std::to_string(count) + " elements, which is too many");
  }
}

void check_size(const std::string& name, size_t size, const std::string& other, size_t expected) {
  if (size != expected) {
    refuse(name + " has " + std::to_string(size) + " elements, " + other + " has " +
           std::to_string(expected));
  }
}

std::vector<double> to_doubles(const std::string& name, const Tensor& tensor) {
  std::vector<double> result(static_cast<size_t>(tensor.size()));
  const bool known = visit(Types<float, double, Float16>{}, tensor.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    std::transform(tensor.elements<T>().begin(), tensor.elements<T>().end(), result.begin(),
                   [](T value) { return static_cast<double>(static_cast<Compute<T>>(value)); });
  });
  if (!known) refuse(name + " is a tensor of " + name_of(tensor.dtype()) + ", expected floats");
  return result;
}

const Tensor& tensor_of(const NodeSpec& node, const std::string& name) {
  const Tensor* tensor = node.get_tensor(name);
  if (tensor == nullptr) refuse("attribute " + name + " is missing");
  return *tensor;
}

// A list that may be left out, which stands for zeros.
std::vector<int64_t> flags_of(const NodeSpec& node, const std::string& name, size_t count) {
  std::vector<int64_t> flags = node.get_ints(name);
  if (flags.empty()) flags.assign(count, 0);
  check_size(name, flags.size(), "nodes_featureids", count);
  return flags;
}

int32_t target_of(const std::string& name, size_t i, int64_t target, int64_t targets) {
  if (target < 0 || target >= targets) {
    refuse(at(name, i) + " is " + std::to_string(target) + ", expected 0 to " +
           std::to_string(targets - 1));
  }
  return static_cast<int32_t>(target);
}

// `targets` if it is positive, else one more than the largest target.
int64_t target_count(int64_t targets, const std::vector<int64_t>& ids) {
  if (targets > 0) return targets;
  if (targets < 0) refuse("n_targets is " + std::to_string(targets));
  return ids.empty() ? 1 : std::max<int64_t>(*std::max_element(ids.begin(), ids.end()) + 1, 1);
}

// Puts the nodes that can be reached into the order in which they are met from the roots. A node
// whose two ways lead to the same place is that place.
class Ordering {
 public:
  explicit Ordering(Forest& forest)
      : forest_(forest), nodes_(std::move(forest.nodes)), state_(nodes_.size()) {}

  void run() {
    for (Place& root : forest_.roots) {
      settle_paths(root);
      root = settled(root);
    }
    forest_.nodes.clear();
    forest_.nodes.reserve(nodes_.size());
    std::vector<Place> numbers(nodes_.size(), -1);
    for (const Place root : forest_.roots) number_nodes(root, numbers);
    const auto renumber = [&](Place& place) {
      if (place >= 0) place = numbers[static_cast<size_t>(place)];
    };
    for (Forest::Node& node : forest_.nodes) {
      renumber(node.yes);
      renumber(node.no);
    }
    for (Place& root : forest_.roots) renumber(root);
  }

 private:
  enum class State : uint8_t { unseen, seeking_yes, seeking_no, done };

  State& state(Place place) { return state_[static_cast<size_t>(place)]; }
  Forest::Node& node(Place place) { return nodes_[static_cast<size_t>(place)]; }

  // Follows every path from a root to its end, once.
  void settle_paths(Place root) {
    std::vector<Place> path;
    const auto enter = [&](Place place) {
      if (place < 0 || state(place) == State::done) return;
      if (state(place) != State::unseen) refuse("a path through the nodes goes in a circle");
      path.push_back(place);
    };
    enter(root);
    while (!path.empty()) {
      const Place place = path.back();
      switch (state(place)) {
        case State::unseen:
          state(place) = State::seeking_yes;
          enter(node(place).yes);
          break;
        case State::seeking_yes:
          state(place) = State::seeking_no;
          enter(node(place).no);
          break;
        default:
          state(place) = State::done;
          node(place).yes = settled(node(place).yes);
          node(place).no = settled(node(place).no);
          path.pop_back();
      }
    }
  }

  // Where a place that is done leads to. The nodes beyond it are settled already.
  Place settled(Place place) {
    return place >= 0 && node(place).yes == node(place).no ? node(place).yes : place;
  }

  void number_nodes(Place root, std::vector<Place>& numbers) {
    std::vector<Place> pending{root};
    while (!pending.empty()) {
      const Place place = pending.back();
      pending.pop_back();
      if (place < 0) continue;
      if (numbers[static_cast<size_t>(place)] >= 0) {
        forest_.shares_nodes = true;
        continue;
      }
      numbers[static_cast<size_t>(place)] = static_cast<Place>(forest_.nodes.size());
      const Forest::Node& next = node(place);
      if (next.feature < 0) refuse("nodes_featureids has a negative index for a node in use");
      forest_.features = std::max(forest_.features, int64_t{next.feature} + 1);
      forest_.nodes.push_back(next);
      pending.push_back(next.no);
      pending.push_back(next.yes);
    }
  }

  Forest& forest_;
  std::vector<Forest::Node> nodes_;
  std::vector<State> state_;
};

// Cuts the values of membership_values at the NaNs, one set for each node that wants one.
void read_sets(const std::vector<double>& values, Forest& forest) {
  size_t next = 0;
  forest.first_member.push_back(0);
  for (Forest::Node& node : forest.nodes) {
    if (node.comparison != Comparison::member) continue;
    if (next >= values.size()) {
      refuse("membership_values has fewer sets than there are nodes of mode BRANCH_MEMBER");
    }
    const auto begin = values.begin() + static_cast<std::ptrdiff_t>(next);
    const auto end = std::find_if(begin, values.end(), [](double v) { return std::isnan(v); });
    node.set = static_cast<int32_t>(forest.first_member.size()) - 1;
    const auto first = forest.members.insert(forest.members.end(), begin, end);
    std::sort(first, forest.members.end());
    forest.first_member.push_back(static_cast<int32_t>(forest.members.size()));
    next = static_cast<size_t>(end - values.begin()) + 1;
  }
  if (next < values.size()) {
    refuse("membership_values has more sets than there are nodes of mode BRANCH_MEMBER");
  }
}

int32_t feature_of(int64_t feature) {
  constexpr int64_t most = std::numeric_limits<int32_t>::max() - 1;
  if (feature > most) refuse("nodes_featureids has " + std::to_string(feature));
  return static_cast<int32_t>(std::max<int64_t>(feature, -1));
}

// The nodes of lists in which each says to which tree it belongs and what its number there is.
class NodeIndex {
 public:
  NodeIndex(const std::vector<int64_t>& trees, const std::vector<int64_t>& nodes)
      : trees_(trees), nodes_(nodes), order_(trees.size()) {
    std::iota(order_.begin(), order_.end(), 0);
    const auto key = [&](int32_t i) {
      return std::pair(trees[static_cast<size_t>(i)], nodes[static_cast<size_t>(i)]);
    };
    const auto before = [&](int32_t a, int32_t b) { return key(a) < key(b); };
    if (!std::is_sorted(order_.begin(), order_.end(), before)) {
      std::sort(order_.begin(), order_.end(), before);
    }
    for (size_t i = 0; i < order_.size(); ++i) {
      const auto [tree, node] = key(order_[i]);
      if (i > 0 && key(order_[i - 1]) == key(order_[i])) {
        refuse("node " + std::to_string(node) + " of tree " + std::to_string(tree) +
               " is there twice");
      }
      if (i == 0 || key(order_[i - 1]).first != tree) {
        ids_.push_back(tree);
        starts_.push_back(i);
      }
    }
    starts_.push_back(order_.size());
  }

  size_t tree_count() const { return ids_.size(); }

  // Which tree, in the order of their ids, or tree_count().
  size_t find_tree(int64_t id) const {
    const auto found = std::lower_bound(ids_.begin(), ids_.end(), id);
    return found == ids_.end() || *found != id ? ids_.size()
                                               : static_cast<size_t>(found - ids_.begin());
  }

  // The position of a node in the lists, or -1.
  int32_t find(size_t tree, int64_t node) const {
    if (tree == ids_.size()) return -1;
    const size_t begin = starts_[tree], end = starts_[tree + 1];
    // Numbers mostly count up.
    const uint64_t ahead = static_cast<uint64_t>(node) - static_cast<uint64_t>(number(begin));
    if (ahead < end - begin && number(begin + ahead) == node) return order_[begin + ahead];
    const auto last = order_.begin() + static_cast<std::ptrdiff_t>(end);
    const auto found = std::lower_bound(
        order_.begin() + static_cast<std::ptrdiff_t>(begin), last, node,
        [&](int32_t i, int64_t wanted) { return nodes_[static_cast<size_t>(i)] < wanted; });
    return found == last || nodes_[static_cast<size_t>(*found)] != node ? -1 : *found;
  }

 private:
  int64_t number(size_t i) const { return nodes_[static_cast<size_t>(order_[i])]; }

  const std::vector<int64_t>& trees_;
  const std::vector<int64_t>& nodes_;
  std::vector<int32_t> order_;
  std::vector<int64_t> ids_;    // of the trees, rising
  std::vector<size_t> starts_;  // of each tree in order_, and the end
};

constexpr int leaf_mode = -1;

int mode_of(const std::string& mode, size_t i) {
  constexpr const char* modes[] = {"BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE",
                                   "BRANCH_GT",  "BRANCH_EQ", "BRANCH_NEQ"};
  if (mode == "LEAF") return leaf_mode;
  const auto found = std::find(std::begin(modes), std::end(modes), mode);
  if (found == std::end(modes)) refuse(at("nodes_modes", i) + " is '" + mode + "'");
  return static_cast<int>(found - modes);
}

// A place that a list of TreeEnsemble gives: in the list of leaves, or in that of nodes.
Place place_of(const std::string& name, size_t i, int64_t index, bool is_leaf, size_t nodes,
               size_t leaves) {
  const auto count = static_cast<int64_t>(is_leaf ? leaves : nodes);
  if (index < 0 || index >= count) {
    refuse(at(name, i) + " is " + std::to_string(index) + ", and there are " +
           std::to_string(count) + (is_leaf ? " leaves" : " nodes"));
  }
  return static_cast<Place>(is_leaf ? ~index : index);
}

}  // namespace

std::vector<double> numbers_of(const NodeSpec& node, const std::string& name) {
  const std::vector<float> list = node.get_floats(name);
  const Tensor* tensor = node.get_tensor(name + "_as_tensor");
  if (tensor == nullptr || tensor->size() == 0) return {list.begin(), list.end()};
  if (!list.empty()) refuse("both " + name + " and " + name + "_as_tensor are given");
  return to_doubles(name + "_as_tensor", *tensor);
}

Forest read_forest(const NodeSpec& node) {
  Forest forest;
  const std::vector<int64_t> features = node.get_ints("nodes_featureids");
  const size_t count = features.size();
  const std::vector<int64_t> missing = flags_of(node, "nodes_missing_value_tracks_true", count);
  const std::vector<double> splits = to_doubles("nodes_splits", tensor_of(node, "nodes_splits"));
  const Tensor& modes = tensor_of(node, "nodes_modes");
  if (modes.dtype() != DType::uint8) refuse("nodes_modes is not a tensor of uint8");
  const std::vector<double> weights = to_doubles("leaf_weights", tensor_of(node, "leaf_weights"));
  const std::vector<int64_t> targets = node.get_ints("leaf_targetids");
  check_count("nodes_featureids", count);
  check_count("leaf_weights", weights.size());
  check_size("nodes_splits", splits.size(), "nodes_featureids", count);
  check_size("nodes_modes", static_cast<size_t>(modes.size()), "nodes_featureids", count);
  check_size("leaf_targetids", targets.size(), "leaf_weights", weights.size());

  const auto places = [&](const std::string& way) {
    const std::vector<int64_t> indices = node.get_ints("nodes_" + way + "nodeids");
    const std::vector<int64_t> is_leaf = node.get_ints("nodes_" + way + "leafs");
    check_size("nodes_" + way + "nodeids", indices.size(), "nodes_featureids", count);
    check_size("nodes_" + way + "leafs", is_leaf.size(), "nodes_featureids", count);
    std::vector<Place> result(count);
    for (size_t i = 0; i < count; ++i) {
      result[i] = place_of("nodes_" + way + "nodeids", i, indices[i], is_leaf[i] != 0, count,
                           weights.size());
    }
    return result;
  };
  const std::vector<Place> yes = places("true"), no = places("false");
  for (size_t i = 0; i < count; ++i) {
    const uint8_t mode = modes.data<uint8_t>()[i];
    if (mode > static_cast<uint8_t>(Comparison::member)) {
      refuse(at("nodes_modes", i) + " is " + std::to_string(mode) + ", expected 0 to 6");
    }
    forest.nodes.push_back({splits[i], feature_of(features[i]), yes[i], no[i], 0,
                            static_cast<Comparison>(mode), missing[i] != 0});
  }
  const Tensor* members = node.get_tensor("membership_values");
  read_sets(members != nullptr ? to_doubles("membership_values", *members) : std::vector<double>{},
            forest);
  for (const int64_t root : node.get_ints("tree_roots")) {
    forest.roots.push_back(place_of("tree_roots", forest.roots.size(), root, false, count, 0));
  }
  forest.targets = target_count(node.get_int("n_targets", 0), targets);
  for (size_t i = 0; i < weights.size(); ++i) {
    forest.first_vote.push_back(static_cast<int32_t>(i));
    forest.votes.push_back(
        {weights[i], target_of("leaf_targetids", i, targets[i], forest.targets)});
  }
  forest.first_vote.push_back(static_cast<int32_t>(weights.size()));
  const int64_t aggregate = node.get_int("aggregate_function", 1);
  if (aggregate < 0 || aggregate > 3) {
    refuse("aggregate_function is " + std::to_string(aggregate) + ", expected 0 to 3");
  }
  forest.aggregate = static_cast<Aggregate>(aggregate);
  Ordering(forest).run();
  return forest;
}

Forest read_forest(const NodeSpec& node, const std::string& prefix, int64_t targets) {
  const std::vector<int64_t> features = node.get_ints("nodes_featureids");
  const size_t count = features.size();
  check_count("nodes_featureids", count);
  const auto list = [&](const std::string& name, const std::string& other, size_t expected) {
    std::vector<int64_t> values = node.get_ints(name);
    check_size(name, values.size(), other, expected);
    return values;
  };
  const std::vector<int64_t> trees = list("nodes_treeids", "nodes_featureids", count);
  const std::vector<int64_t> ids = list("nodes_nodeids", "nodes_featureids", count);
  const std::vector<int64_t> yes = list("nodes_truenodeids", "nodes_featureids", count);
  const std::vector<int64_t> no = list("nodes_falsenodeids", "nodes_featureids", count);
  const std::vector<int64_t> missing = flags_of(node, "nodes_missing_value_tracks_true", count);
  const std::vector<double> values = numbers_of(node, "nodes_values");
  check_size("nodes_values", values.size(), "nodes_featureids", count);
  const std::vector<std::string> modes = node.get_strings("nodes_modes");
  check_size("nodes_modes", modes.size(), "nodes_featureids", count);

  // Branches and leaves get numbers of their own.
  Forest forest;
  const NodeIndex index(trees, ids);
  std::vector<Place> places(count);
  Place branches = 0, leaves = 0;
  for (size_t i = 0; i < count; ++i) {
    places[i] = mode_of(modes[i], i) == leaf_mode ? ~leaves++ : branches++;
  }
  std::vector<bool> is_child(count, false);
  std::vector<size_t> tree_of(count);
  for (size_t i = 0; i < count; ++i) {
    tree_of[i] = i > 0 && trees[i] == trees[i - 1] ? tree_of[i - 1] : index.find_tree(trees[i]);
    if (places[i] < 0) continue;
    const auto child = [&](const std::string& name, int64_t id) {
      const int32_t found = index.find(tree_of[i], id);
      if (found < 0) {
        refuse(at(name, i) + " is " + std::to_string(id) + ", which is no node of tree " +
               std::to_string(trees[i]));
      }
      is_child[static_cast<size_t>(found)] = true;
      return places[static_cast<size_t>(found)];
    };
    forest.nodes.push_back({values[i], feature_of(features[i]), child("nodes_truenodeids", yes[i]),
                            child("nodes_falsenodeids", no[i]), 0,
                            static_cast<Comparison>(mode_of(modes[i], i)), missing[i] != 0});
  }
  // The root of a tree is its first node that is no child.
  std::vector<bool> has_root(index.tree_count(), false);
  for (size_t i = 0; i < count; ++i) {
    if (is_child[i] || has_root[tree_of[i]]) continue;
    has_root[tree_of[i]] = true;
    forest.roots.push_back(places[i]);
  }
  if (forest.roots.size() < index.tree_count())
    refuse("a tree has no root: its nodes form a circle");

  const std::vector<int64_t> vote_targets = node.get_ints(prefix + "_ids");
  const size_t vote_count = vote_targets.size();
  check_count(prefix + "_ids", vote_count);
  const std::vector<int64_t> vote_trees = list(prefix + "_treeids", prefix + "_ids", vote_count);
  const std::vector<int64_t> vote_nodes = list(prefix + "_nodeids", prefix + "_ids", vote_count);
  const std::vector<double> weights = numbers_of(node, prefix + "_weights");
  check_size(prefix + "_weights", weights.size(), prefix + "_ids", vote_count);
  forest.targets = target_count(targets, vote_targets);
  // The votes of each leaf in their order in the lists; those of other nodes mean nothing.
  // Of a regressor with one target a leaf has one weight: onnxruntime reads the first alone, and
  // skl2onnx, which repeats it in its trees of decision paths, counts on that.
  const bool single = prefix == "target" && forest.targets == 1;
  std::vector<Place> voters(vote_count);
  forest.first_vote.assign(static_cast<size_t>(leaves) + 1, 0);
  size_t tree = 0;
  for (size_t i = 0; i < vote_count; ++i) {
    if (i == 0 || vote_trees[i] != vote_trees[i - 1]) tree = index.find_tree(vote_trees[i]);
    const int32_t found = index.find(tree, vote_nodes[i]);
    if (found < 0) {
      refuse(at(prefix + "_nodeids", i) + " is " + std::to_string(vote_nodes[i]) +
             ", which is no node of tree " + std::to_string(vote_trees[i]));
    }
    voters[i] = places[static_cast<size_t>(found)];
    if (voters[i] >= 0) continue;
    int32_t& votes = forest.first_vote[static_cast<size_t>(~voters[i]) + 1];
    if (single && votes > 0) {
      voters[i] = 0;
    } else {
      ++votes;
    }
  }
  std::partial_sum(forest.first_vote.begin(), forest.first_vote.end(), forest.first_vote.begin());
  std::vector<int32_t> next(forest.first_vote.begin(), forest.first_vote.end());
  forest.votes.resize(static_cast<size_t>(forest.first_vote.back()));
  for (size_t i = 0; i < vote_count; ++i) {
    const int32_t target = target_of(prefix + "_ids", i, vote_targets[i], forest.targets);
    if (voters[i] >= 0) continue;
    forest.votes[static_cast<size_t>(next[static_cast<size_t>(~voters[i])]++)] = {weights[i],
                                                                                  target};
  }
  forest.base = numbers_of(node, "base_values");
  Ordering(forest).run();
  return forest;
}

}  // namespace bascule
