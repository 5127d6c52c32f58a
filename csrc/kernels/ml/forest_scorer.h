// SPDX-License-Identifier: Apache-2.0
// The scores that a forest gives to rows of features.
//
// The trees are cut into blocks of a fixed size. The votes of a block are added up in the order of
// its trees, then the blocks in theirs: the same bits for any batch and number of threads.
#pragma once

#include <cstdint>
#include <functional>
#include <utility>
#include <variant>
#include <vector>

#include "kernels/ml/packed_forest.h"
#include "runtime/run_context.h"

namespace bascule {

// The scores of one row, and which of them some tree has voted for.
struct Scores {
  double* value;
  uint8_t* seen;
};

class ForestScorer {
 public:
  // Features are compared as float64 where `wide`, else rounded to float32 first.
  ForestScorer(Forest forest, bool wide);

  int64_t targets() const { return forest_.targets; }
  int64_t features() const { return forest_.features; }

  // finish(row, scores) for each of the rows of x, [N, F] or [F], perhaps from several threads; it
  // may change the scores. `rows` is N, and F at least forest.features.
  template <class Finish>
  void run(RunContext& c, const Tensor& x, int64_t rows, Finish&& finish) const {
    score(c, x, rows, std::ref(finish));
  }

 private:
  using Callback = std::function<void(int64_t, Scores)>;

  void score(RunContext& c, const Tensor& x, int64_t rows, const Callback& finish) const;

  Forest forest_;
  std::variant<PackedForest<uint32_t>, PackedForest<uint64_t>> packed_;
  bool wide_;
};

}  // namespace bascule
