// SPDX-License-Identifier: Apache-2.0
#include "kernels/ml/packed_forest.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <unordered_map>
#include <utility>

namespace bascule {
namespace {

using Place = Forest::Place;

// The bound for a key such that x <= t (or x < t) where key_of(x) <= bound, for every x of type
// Float.
template <class Float>
auto bound_of(double t, bool strict) {
  using Key = decltype(key_of(Float{}));
  if (std::isnan(t)) return Key{0};  // equal to none
  Float rounded = static_cast<Float>(t);
  if (static_cast<double>(rounded) > t) {
    rounded = std::nextafter(rounded, -std::numeric_limits<Float>::infinity());
  }
  const Key key = key_of(rounded);
  return strict && static_cast<double>(rounded) == t ? static_cast<Key>(key - 1) : key;
}

template <class Key>
class Packing {
 public:
  using Packed = PackedForest<Key>;
  using Index = typename Packed::Index;
  using Float = typename Packed::Float;

  explicit Packing(const Forest& forest)
      : forest_(forest),
        pairs_(forest.nodes.size(), no_pair),
        target_of_leaf_(leaf_targets()),
        common_target_(common_target()) {}

  std::optional<Packed> run() {
    if (is_small && forest_.shares_nodes) return std::nullopt;
    packed_.trees.reserve(forest_.roots.size());
    packed_.nodes.reserve(2 * (forest_.nodes.size() + forest_.roots.size()));
    packed_.has_weights = true;
    for (const Place root : forest_.roots) {
      if (!add_tree(root)) return std::nullopt;
    }
    if (packed_.has_weights) put_weights();
    return std::move(packed_);
  }

 private:
  static constexpr bool is_small = sizeof(Key) == 4;
  static constexpr uint32_t no_pair = ~0u;
  static constexpr int32_t no_target = -1, unseen_target = -2;

  // What comes at a slot: a node or leaf of the forest, or a part of a test for a set.
  struct Item {
    enum Kind : uint8_t { place, search, equals } kind;
    Place at;
    int32_t begin, end;  // search: the members; equals: the member `begin`
  };
  struct Pending {
    Item item;
    uint32_t slot;
    uint32_t level;
  };
  struct Test {
    Key bound;
    Index column;
    Item left, right;
  };

  static Item at_place(Place place) { return {Item::place, place, 0, 0}; }

  // Of the leaves with a single vote, whose weight a payload can hold.
  std::vector<int32_t> leaf_targets() const {
    std::vector<int32_t> targets(forest_.first_vote.size() - 1, no_target);
    for (size_t i = 0; i < targets.size(); ++i) {
      const auto votes = forest_.votes_of(~static_cast<Place>(i));
      if (votes.size() != 1) continue;
      const double weight = votes[0].weight;
      const bool fits = std::isnan(weight) || static_cast<double>(Float(weight)) == weight;
      if (fits) targets[i] = votes[0].target;
    }
    return targets;
  }

  bool add_tree(Place root) {
    // Nodes that trees share are counted from the first of all.
    first_ = is_small ? static_cast<uint32_t>(packed_.nodes.size()) : 0;
    tree_ = {first_, static_cast<Index>(packed_.nodes.size() - first_), 0, unseen_target};
    pending_.clear();
    append_pair(at_place(root), at_place(root), 0);
    pending_.pop_back();  // the slot beside the root stays empty
    for (size_t i = 0; i < pending_.size(); ++i) {
      const Pending next = pending_[i];
      if (!put(next)) return false;
    }
    if (forest_.shares_nodes) tree_.target = common_target_;
    if (tree_.target < 0) packed_.has_weights = false;
    packed_.trees.push_back(tree_);
    return true;
  }

  // Two slots and what will come there.
  uint32_t append_pair(const Item& left, const Item& right, uint32_t level) {
    const auto slot = static_cast<uint32_t>(packed_.nodes.size() - first_);
    packed_.nodes.resize(packed_.nodes.size() + 2);
    pending_.push_back({left, slot, level});
    pending_.push_back({right, slot + 1, level});
    return slot;
  }

  bool put(const Pending& next) {
    const auto put_node = [&](Key threshold, Index column, uint32_t left) {
      packed_.nodes[first_ + next.slot] = {threshold, column, static_cast<Index>(left)};
      return left < std::numeric_limits<Index>::max();
    };
    const Item& item = next.item;
    if (item.kind == Item::place && item.at < 0) {
      meet_leaf(item.at);
      return put_node(static_cast<Key>(~item.at), 0, next.slot);
    }
    const Test test = test_of(item);
    if (columns_overflow_) return false;
    uint32_t& known = item.kind == Item::place ? pairs_[static_cast<size_t>(item.at)] : scratch_;
    if (item.kind != Item::place || known == no_pair) {
      tree_.depth = std::max(tree_.depth, next.level + 1);
      known = append_pair(test.left, test.right, next.level + 1);
    } else {  // met before, perhaps higher up
      tree_.depth = Packed::unknown_depth;
    }
    return put_node(test.bound, test.column, known);
  }

  void meet_leaf(Place leaf) {
    const int32_t target = target_of_leaf_[static_cast<size_t>(~leaf)];
    if (tree_.target == unseen_target) tree_.target = target;
    if (tree_.target != target) tree_.target = no_target;
  }

  // The target that all leaves there are vote for.
  int32_t common_target() const {
    if (target_of_leaf_.empty()) return no_target;
    const int32_t first = target_of_leaf_[0];
    const bool common = std::all_of(target_of_leaf_.begin(), target_of_leaf_.end(),
                                    [&](int32_t target) { return target == first; });
    return common ? first : no_target;
  }

  Test test_of(const Item& item) {
    const Forest::Node& node = forest_.nodes[static_cast<size_t>(item.at)];
    if (item.kind != Item::place) return set_test(node, item);
    const bool ordered = node.comparison <= Comparison::gt;
    if (ordered) return order_test(node);
    const bool is_set = node.comparison == Comparison::member;
    const Item search{Item::search, item.at, 0,
                      is_set ? static_cast<int32_t>(forest_.members_of(node).size()) : 1};
    if (node.nan_is_yes && node.comparison != Comparison::neq) {
      const double all = std::numeric_limits<double>::infinity();
      return {bound_of<Float>(all, false), column_of(node.feature, false), search,
              at_place(node.yes)};
    }
    return set_test(node, search);
  }

  Test order_test(const Forest::Node& node) {
    bool negative = node.comparison == Comparison::gte || node.comparison == Comparison::gt;
    bool strict = node.comparison == Comparison::lt || node.comparison == Comparison::gt;
    Place left = node.yes, right = node.no;
    if (std::isnan(node.threshold)) {  // nothing compares with it
      const Place nan_goes = node.nan_is_yes ? node.yes : node.no;
      return {bound_of<Float>(std::numeric_limits<double>::infinity(), false),
              column_of(node.feature, false), at_place(node.no), at_place(nan_goes)};
    }
    if (node.nan_is_yes) {  // the opposite test, so that `yes` is on the right
      negative = !negative;
      strict = !strict;
      std::swap(left, right);
    }
    return {bound_of<Float>(negative ? -node.threshold : node.threshold, strict),
            column_of(node.feature, negative), at_place(left), at_place(right)};
  }

  // Halves the sorted members until one is left, and compares with that.
  Test set_test(const Forest::Node& node, const Item& item) {
    const bool inverted = node.comparison == Comparison::neq;
    const Item found = at_place(inverted ? node.no : node.yes);
    const Item missed = at_place(inverted ? node.yes : node.no);
    const auto member = [&](int32_t i) {
      const bool is_set = node.comparison == Comparison::member;
      return is_set ? forest_.members_of(node)[static_cast<size_t>(i)] : node.threshold;
    };
    const auto part = [&](int32_t begin, int32_t end) {
      return Item{Item::search, item.at, begin, end};
    };
    if (item.kind == Item::equals) {
      return {bound_of<Float>(-member(item.begin), false), column_of(node.feature, true), found,
              missed};
    }
    const int32_t count = item.end - item.begin;
    if (count == 0) return {Key{0}, column_of(node.feature, false), missed, missed};
    const int32_t middle = item.begin + count / 2;
    const Key bound = bound_of<Float>(member(count == 1 ? item.begin : middle - 1), false);
    const Index column = column_of(node.feature, false);
    if (count > 1) return {bound, column, part(item.begin, middle), part(middle, item.end)};
    return {bound, column, Item{Item::equals, item.at, item.begin, 0}, missed};
  }

  Index column_of(int32_t feature, bool negative) {
    const uint64_t id = 2 * static_cast<uint64_t>(feature) + (negative ? 1 : 0);
    const auto [found, is_new] = numbers_.try_emplace(id, packed_.row_size());
    if (is_new) packed_.columns.push_back({feature, negative});
    const uint64_t column = found->second * Packed::lanes;
    columns_overflow_ |= column > std::numeric_limits<Index>::max();
    return static_cast<Index>(column);
  }

  // From the numbers of leaves to their weights.
  void put_weights() {
    for (typename Packed::Node& node : packed_.nodes) {
      if (node.column != 0) continue;
      const auto votes = forest_.votes_of(~static_cast<Place>(node.threshold));
      if (!votes.empty()) node.threshold = std::bit_cast<Key>(static_cast<Float>(votes[0].weight));
    }
  }

  const Forest& forest_;
  Packed packed_;
  std::vector<uint32_t> pairs_;  // per node of the forest, where its children are
  std::vector<int32_t> target_of_leaf_;
  int32_t common_target_;                         // where trees share nodes
  std::unordered_map<uint64_t, size_t> numbers_;  // of columns
  std::vector<Pending> pending_;
  typename Packed::Tree tree_;
  uint32_t first_ = 0;
  uint32_t scratch_ = no_pair;
  bool columns_overflow_ = false;
};

}  // namespace

template <class Key>
std::optional<PackedForest<Key>> pack_forest(const Forest& forest) {
  return Packing<Key>(forest).run();
}

template std::optional<PackedForest<uint32_t>> pack_forest<uint32_t>(const Forest&);
template std::optional<PackedForest<uint64_t>> pack_forest<uint64_t>(const Forest&);

}  // namespace bascule
