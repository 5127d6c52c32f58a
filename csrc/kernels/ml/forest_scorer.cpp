// SPDX-License-Identifier: Apache-2.0
#include "kernels/ml/forest_scorer.h"

#include <algorithm>

#include "kernels/work_view.h"

namespace bascule {
namespace {

constexpr int64_t block_trees = 256;
constexpr int64_t most_tile_rows = 128;
constexpr int64_t tile_bytes = 16384;  // of keys: they and a tree stay in the L1 cache
constexpr int64_t most_partial_scores = 1 << 20;
constexpr double path_cost = 12;

template <class Key>
using Node = typename PackedForest<Key>::Node;
template <class Key>
using Tree = typename PackedForest<Key>::Tree;
template <class Key>
constexpr int lanes = PackedForest<Key>::lanes;

// Walks `lanes` paths at a time, whose latencies overlap, without a branch: a path that has reached
// its leaf stays there. Path i goes through nodes(i), from its root(i), by the keys(i).
template <class Key, class Paths>
__attribute__((always_inline)) inline void walk(const Paths& paths, uint32_t depth, Key* payloads) {
  constexpr uint32_t most_blind_steps = 8;
  constexpr int n = lanes<Key>;
  size_t at[n];
  for (int i = 0; i < n; ++i) at[i] = paths.root(i);
  const auto step = [&]() __attribute__((always_inline)) {
#pragma GCC unroll 8
    for (int i = 0; i < n; ++i) {
      const Node<Key>& node = paths.nodes(i)[at[i]];
      at[i] = node.left + size_t{node.threshold < paths.keys(i)[node.column]};
    }
  };
  if (depth <= most_blind_steps) {
    for (uint32_t i = 0; i < depth; ++i) step();
  } else {
    size_t inner = 1;
    while (inner != 0) {
      for (int i = 0; i < 4; ++i) step();
      inner = 0;
      for (int i = 0; i < n; ++i) inner |= paths.nodes(i)[at[i]].column;
    }
  }
  for (int i = 0; i < n; ++i) payloads[i] = paths.nodes(i)[at[i]].threshold;
}

// A group of rows through one tree.
template <class Key>
struct RowPaths {
  const Node<Key>* tree_nodes;
  size_t tree_root;
  const Key* group;

  const Node<Key>* nodes(int) const { return tree_nodes; }
  size_t root(int) const { return tree_root; }
  const Key* keys(int i) const { return group + i; }
};

// One row through several trees.
template <class Key>
struct TreePaths {
  const Node<Key>* tree_nodes[lanes<Key>];
  size_t tree_root[lanes<Key>];
  const Key* row;

  const Node<Key>* nodes(int i) const { return tree_nodes[i]; }
  size_t root(int i) const { return tree_root[i]; }
  const Key* keys(int) const { return row; }
};

struct Fold {
  Aggregate aggregate;

  void operator()(Scores to, double weight) const {
    if (aggregate == Aggregate::min) {
      if (!*to.seen || weight < *to.value) *to.value = weight;
    } else if (aggregate == Aggregate::max) {
      if (!*to.seen || weight > *to.value) *to.value = weight;
    } else {
      *to.value += weight;
    }
    *to.seen = 1;
  }
};

// One run over rows of features.
template <class Key>
class Scoring {
 public:
  using Packed = PackedForest<Key>;
  using Float = typename Packed::Float;

  Scoring(const Packed& packed, const Forest& forest, const Float* x, int64_t columns, int64_t rows)
      : packed_(packed), forest_(forest), fold_{forest.aggregate}, x_(x), columns_(columns) {
    const int64_t row_bytes =
        std::max(static_cast<int64_t>(packed.row_size() * sizeof(Key)), forest.targets);
    const int64_t most = std::clamp(tile_bytes / row_bytes / n * n, n, most_tile_rows);
    tile_rows_ = std::clamp<int64_t>(rows, 1, most);
  }

  int64_t blocks() const { return (trees() + block_trees - 1) / block_trees; }
  int64_t trees() const { return static_cast<int64_t>(packed_.trees.size()); }
  int64_t tile_rows() const { return tile_rows_; }
  // Of the keys of a tile, and of the scores of a tile.
  int64_t key_count() const {
    return (tile_rows_ + n - 1) / n * n * static_cast<int64_t>(packed_.row_size());
  }
  int64_t score_count() const { return tile_rows_ * forest_.targets; }

  // `rows` rows from `first` on become the keys of a tile, in groups of `n`.
  void fill(int64_t first, int64_t rows, Key* keys) const {
    for (int64_t begin = 0; begin < rows; begin += n) {
      std::fill_n(keys, n, Key{0});
      keys += n;
      const Float* x = x_ + (first + begin) * columns_;
      const int64_t last = std::min(n, rows - begin) - 1;  // stands for the rows that are missing
      for (const typename Packed::Column& column : packed_.columns) {
        for (int64_t i = 0; i < n; ++i) {
          const Float value = x[std::min(i, last) * columns_ + column.feature];
          keys[i] = key_of(column.negative ? -value : value);
        }
        keys += n;
      }
    }
  }

  // The partial scores that the trees of one block give to a tile.
  void score_block(int64_t block, const Key* keys, int64_t rows, Scores out) const {
    std::fill_n(out.value, rows * forest_.targets, 0.0);
    std::fill_n(out.seen, rows * forest_.targets, uint8_t{0});
    const int64_t begin = block * block_trees;
    const int64_t end = std::min(begin + block_trees, trees());
    // A group that is half empty takes longer than its rows one by one.
    const int64_t lone = rows % n <= n / 2 ? rows % n : 0;
    if (rows > lone) walk_groups(begin, end, keys, rows - lone, out);
    for (int64_t row = rows - lone; row < rows; ++row) {
      const Key* group = keys + row / n * n * static_cast<int64_t>(packed_.row_size());
      walk_row(begin, end, group + row % n, at_row(out, row));
    }
  }

  void combine(Scores total, Scores part, int64_t rows) const {
    for (int64_t i = 0; i < rows * forest_.targets; ++i) {
      if (part.seen[i]) fold_({total.value + i, total.seen + i}, part.value[i]);
    }
  }

  void finish_row(Scores scores) const {
    const auto divisor = static_cast<double>(std::max<int64_t>(trees(), 1));
    for (int64_t t = 0; t < forest_.targets; ++t) {
      if (forest_.aggregate == Aggregate::average) scores.value[t] /= divisor;
      if (!forest_.base.empty()) scores.value[t] += forest_.base[static_cast<size_t>(t)];
    }
  }

  Scores at_row(Scores scores, int64_t row) const {
    return {scores.value + row * forest_.targets, scores.seen + row * forest_.targets};
  }

 private:
  static constexpr int64_t n = lanes<Key>;

  const Tree<Key>& tree(int64_t i) const { return packed_.trees[static_cast<size_t>(i)]; }
  const Node<Key>* nodes_of(const Tree<Key>& tree) const {
    return packed_.nodes.data() + tree.first;
  }
  static double weight_of(Key payload) {
    return static_cast<double>(std::bit_cast<Float>(payload));
  }
  // Each tree adds one weight to the score of its target.
  bool adds_weights() const { return packed_.has_weights && forest_.aggregate <= Aggregate::sum; }

  void walk_groups(int64_t begin, int64_t end, const Key* keys, int64_t rows, Scores out) const {
    const int64_t group_size = n * static_cast<int64_t>(packed_.row_size());
    Key payloads[most_tile_rows];
    for (int64_t i = begin; i < end; ++i) {
      const Tree<Key>& t = tree(i);
      RowPaths<Key> paths{nodes_of(t), t.root, keys};
      for (int64_t row = 0; row < rows; row += n) {
        walk(paths, t.depth, payloads + row);
        paths.group += group_size;
      }
      if (adds_weights()) {
        double* const scores = out.value + t.target;
        for (int64_t row = 0; row < rows; ++row) {
          scores[row * forest_.targets] += weight_of(payloads[row]);
        }
      } else {
        for (int64_t row = 0; row < rows; ++row) vote(t, payloads[row], at_row(out, row));
      }
    }
    if (!adds_weights()) return;
    for (int64_t row = 0; row < rows; ++row) mark_targets(begin, end, at_row(out, row));
  }

  void walk_row(int64_t begin, int64_t end, const Key* row, Scores out) const {
    Key payloads[block_trees + n];
    for (int64_t first = begin; first < end; first += n) {
      TreePaths<Key> paths;
      paths.row = row;
      uint32_t depth = 0;
      for (int64_t i = 0; i < n; ++i) {
        const Tree<Key>& t = tree(std::min(first + i, end - 1));
        paths.tree_nodes[i] = nodes_of(t);
        paths.tree_root[i] = t.root;
        depth = std::max(depth, t.depth);
      }
      walk(paths, depth, payloads + (first - begin));
    }
    if (!adds_weights()) {
      for (int64_t i = begin; i < end; ++i) vote(tree(i), payloads[i - begin], out);
      return;
    }
    if (forest_.targets == 1) {
      double sum = 0;
      for (int64_t i = 0; i < end - begin; ++i) sum += weight_of(payloads[i]);
      *out.value = sum;
    } else {
      for (int64_t i = begin; i < end; ++i) {
        out.value[tree(i).target] += weight_of(payloads[i - begin]);
      }
    }
    mark_targets(begin, end, out);
  }

  void mark_targets(int64_t begin, int64_t end, Scores row) const {
    if (forest_.targets == 1) {
      *row.seen = 1;
    } else {
      for (int64_t i = begin; i < end; ++i) row.seen[tree(i).target] = 1;
    }
  }

  void vote(const Tree<Key>& tree, Key payload, Scores row) const {
    if (packed_.has_weights) {
      fold_({row.value + tree.target, row.seen + tree.target}, weight_of(payload));
      return;
    }
    for (const Forest::Vote& vote : forest_.votes_of(~static_cast<Forest::Place>(payload))) {
      fold_({row.value + vote.target, row.seen + vote.target}, vote.weight);
    }
  }

  const Packed& packed_;
  const Forest& forest_;
  Fold fold_;
  const Float* x_;
  int64_t columns_;
  int64_t tile_rows_;
};

// Scratch memory for the keys of a tile and for `parts` partial scores of it.
template <class Key>
class Scratch {
 public:
  Scratch(RunContext& c, const Scoring<Key>& scoring, int64_t tiles, int64_t parts)
      : key_count_(scoring.key_count()), score_count_(scoring.score_count()) {
    keys_ = c.workspace<Key>(tiles * key_count_);
    values_ = c.workspace<double>(parts * score_count_);
    seen_ = c.workspace<uint8_t>(parts * score_count_);
  }
  Key* keys(int64_t tile) const { return keys_ + tile * key_count_; }
  Scores scores(int64_t part) const {
    return {values_ + part * score_count_, seen_ + part * score_count_};
  }

 private:
  int64_t key_count_, score_count_;
  Key* keys_;
  double* values_;
  uint8_t* seen_;
};

template <class Key, class Finish>
void finish_tile(const Scoring<Key>& scoring, Scores total, int64_t first, int64_t rows,
                 const Finish& finish) {
  for (int64_t row = 0; row < rows; ++row) {
    const Scores scores = scoring.at_row(total, row);
    scoring.finish_row(scores);
    finish(first + row, scores);
  }
}

// The threads share the rows.
template <class Key, class Finish>
void score_by_rows(RunContext& c, const Scoring<Key>& scoring, int64_t rows, const Finish& finish) {
  const int64_t groups = (rows + lanes<Key> - 1) / lanes<Key>;
  const int64_t pieces = std::max<int64_t>(std::min<int64_t>(groups, c.threads()), 1);
  const Scratch<Key> scratch(c, scoring, pieces, 2 * pieces);
  const auto start_of = [&](int64_t piece) {
    return std::min(groups * piece / pieces * lanes<Key>, rows);
  };
  const double cost = path_cost * static_cast<double>(scoring.trees() * rows / pieces);
  c.parallel_for(pieces, cost, [&](int64_t begin, int64_t end) {
    const Scores total = scratch.scores(2 * begin), part = scratch.scores(2 * begin + 1);
    Key* const keys = scratch.keys(begin);
    for (int64_t first = start_of(begin); first < start_of(end); first += scoring.tile_rows()) {
      const int64_t count = std::min(scoring.tile_rows(), start_of(end) - first);
      scoring.fill(first, count, keys);
      scoring.score_block(0, keys, count, total);
      for (int64_t block = 1; block < scoring.blocks(); ++block) {
        scoring.score_block(block, keys, count, part);
        scoring.combine(total, part, count);
      }
      finish_tile(scoring, total, first, count, finish);
    }
  });
}

// The threads share the trees: for a few rows, no more than a tile.
template <class Key, class Finish>
void score_by_blocks(RunContext& c, const Scoring<Key>& scoring, int64_t rows,
                     const Finish& finish) {
  const Scratch<Key> scratch(c, scoring, 1, scoring.blocks());
  scoring.fill(0, rows, scratch.keys(0));
  const double cost = path_cost * static_cast<double>(block_trees * rows);
  c.parallel_for(scoring.blocks(), cost, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      scoring.score_block(block, scratch.keys(0), rows, scratch.scores(block));
    }
  });
  const Scores total = scratch.scores(0);
  for (int64_t block = 1; block < scoring.blocks(); ++block) {
    scoring.combine(total, scratch.scores(block), rows);
  }
  finish_tile(scoring, total, 0, rows, finish);
}

template <class Key>
auto features_of(RunContext& c, const Tensor& x, bool wide) {
  using Float = typename PackedForest<Key>::Float;
  const bool rounds = !wide && (x.dtype() == DType::int64 || x.dtype() == DType::int32);
  if constexpr (sizeof(Key) == 8) {
    if (rounds) {
      double* values = c.workspace<double>(x.size());
      std::copy_n(work_view<float>(c, x), x.size(), values);
      return static_cast<const double*>(values);
    }
  }
  return work_view<Float>(c, x);
}

std::variant<PackedForest<uint32_t>, PackedForest<uint64_t>> pack(const Forest& forest, bool wide) {
  if (!wide) {
    if (auto packed = pack_forest<uint32_t>(forest)) return std::move(*packed);
  }
  return pack_forest<uint64_t>(forest).value();
}

}  // namespace

ForestScorer::ForestScorer(Forest forest, bool wide)
    : forest_(std::move(forest)), packed_(pack(forest_, wide)), wide_(wide) {
  // Nothing but the votes is needed from here on.
  forest_.nodes = {};
  forest_.roots = {};
  forest_.members = {};
  forest_.first_member = {};
}

void ForestScorer::score(RunContext& c, const Tensor& x, int64_t rows,
                         const Callback& finish) const {
  std::visit(
      [&]<class Key>(const PackedForest<Key>& packed) {
        const Scoring<Key> scoring(packed, forest_, features_of<Key>(c, x, wide_), x.shape().back(),
                                   rows);
        const bool few_rows = rows <= lanes<Key> && c.threads() > 1;
        const bool few_scores =
            scoring.score_count() <= most_partial_scores / (scoring.blocks() + 1);
        if (few_rows && few_scores && scoring.blocks() > 1) {
          score_by_blocks(c, scoring, rows, finish);
        } else {
          score_by_rows(c, scoring, rows, finish);
        }
      },
      packed_);
}

}  // namespace bascule
