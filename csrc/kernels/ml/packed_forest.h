// SPDX-License-Identifier: Apache-2.0
// A forest laid out for walking.
//
// Every test becomes `key of a column <= threshold`: left where it holds, else to the slot after
// it. Keys are unsigned integers in the order of the floats, with NaN above all, so NaN goes right.
// A column is a feature or its negative, which expresses >= and either way for NaN; equality and
// sets become searches. Column 0 holds the least key, by which a leaf leads to itself.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <type_traits>
#include <vector>

#include "kernels/ml/forest.h"

namespace bascule {

// The key of a float or double: -0 counts as 0.
template <class T>
auto key_of(T x) {
  using Key = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
  constexpr Key sign = Key{1} << (8 * sizeof(Key) - 1);
  if (x != x) return static_cast<Key>(~Key{0});
  const Key bits = std::bit_cast<Key>(x + T{0});
  return static_cast<Key>(bits & sign ? ~bits : bits | sign);
}

// Of keys of float32 (uint32_t) or of float64 (uint64_t).
template <class Key>
struct PackedForest {
  using Float = std::conditional_t<sizeof(Key) == 4, float, double>;
  using Index = std::conditional_t<sizeof(Key) == 4, uint16_t, uint32_t>;

  // Rows side by side in memory: column c of row i of a group is at c * lanes + i.
  static constexpr int lanes = 8;

  struct Node {
    Key threshold;  // of a leaf its payload: the number of the leaf, or the bits of its weight
    Index column;   // times `lanes`
    Index left;     // counted from the tree's first node
  };
  struct Tree {
    uint32_t first;
    Index root;
    uint32_t depth;  // the longest path, or `unknown_depth`
    int32_t target;  // the one that all its leaves vote for, where payloads are weights
  };
  static constexpr uint32_t unknown_depth = ~0u;
  struct Column {
    int32_t feature;
    bool negative;
  };

  std::vector<Node> nodes;
  std::vector<Tree> trees;
  std::vector<Column> columns;  // from column 1 on
  bool has_weights = false;     // payloads are weights

  size_t row_size() const { return columns.size() + 1; }
};

// Nothing where the forest is too large for the indices of PackedForest<uint32_t>.
template <class Key>
std::optional<PackedForest<Key>> pack_forest(const Forest& forest);

}  // namespace bascule
