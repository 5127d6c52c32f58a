// SPDX-License-Identifier: Apache-2.0
// Ensembles of decision trees. A thread walks all trees for one row, so each sum has one order.
#include "post_transform.cuh"

// A node asks one thing of one feature. A way that is below zero leads to leaf ~way.
struct TreeNode {
  double split;
  int32_t feature;
  int32_t mode;     // LEQ, LT, GTE, GT, EQ, NEQ, MEMBER
  int32_t missing;  // whether NaN goes the way of true
  int32_t yes, no;
  int32_t first, last;  // of the set of MEMBER
};

struct Ensemble {
  int64_t rows, columns;
  int32_t trees, nodes, targets;
  int32_t aggregate;  // AVERAGE, SUM, MIN, MAX
  int32_t single;     // integers are compared as float32
};

__device__ inline bool goes_on(const TreeNode& node, const double* members, double x) {
  if (node.missing && x != x) return true;
  switch (node.mode) {
    case 0:
      return x <= node.split;
    case 1:
      return x < node.split;
    case 2:
      return x >= node.split;
    case 3:
      return x > node.split;
    case 4:
      return x == node.split;
    case 5:
      return x != node.split;
    default:
      for (int i = node.first; i < node.last; ++i) {
        if (members[i] == x) return true;
      }
      return false;
  }
}

// roots[i] and the ways of nodes are places: those of nodes, or ~leaf. Leaf i has the votes from
// first_votes[i] on, each a weight for a target. `base` may be null.
template <typename T>
__device__ void score(const T* x, const TreeNode* nodes, const int32_t* roots,
                      const double* members, const int32_t* first_votes, const double* weights,
                      const int32_t* targets, const double* base, double* scores, uint8_t* seen,
                      Ensemble e) {
  const int64_t row = thread_number();
  if (row >= e.rows) return;
  double* own = scores + row * e.targets;
  uint8_t* known = seen + row * e.targets;
  for (int t = 0; t < e.targets; ++t) {
    own[t] = 0;
    known[t] = 0;
  }
  for (int tree = 0; tree < e.trees; ++tree) {
    int32_t at = roots[tree];
    while (at >= 0) {  // no path is a circle
      const TreeNode node = nodes[at];
      const auto given = widen(x[row * e.columns + node.feature]);
      const double value = e.single ? static_cast<double>(static_cast<float>(given)) : given;
      at = goes_on(node, members, value) ? node.yes : node.no;
    }
    for (int32_t vote = first_votes[~at]; vote < first_votes[~at + 1]; ++vote) {
      const int32_t t = targets[vote];
      const double weight = weights[vote];
      if (e.aggregate < 2) {
        own[t] += weight;
      } else if (!known[t] || (e.aggregate == 2 ? weight < own[t] : weight > own[t])) {
        own[t] = weight;
      }
      known[t] = 1;
    }
  }
  for (int t = 0; t < e.targets; ++t) {
    if (e.aggregate == 0) own[t] /= e.trees > 0 ? e.trees : 1;
    if (base != nullptr) own[t] += base[t];
  }
}

#define SCORES(name, T)                                                                   \
  extern "C" __global__ void tree_scores_##name(                                          \
      const T* x, const TreeNode* nodes, const int32_t* roots, const double* members,     \
      const int32_t* first_votes, const double* weights, const int32_t* targets,          \
      const double* base, double* scores, uint8_t* seen, Ensemble ensemble) {             \
    score<T>(x, nodes, roots, members, first_votes, weights, targets, base, scores, seen, \
             ensemble);                                                                   \
  }
FOR_FLOATS(SCORES)
SCORES(int32, int32_t)
SCORES(int64, int64_t)

template <typename T>
__device__ void values(double* scores, T* y, int64_t rows, int64_t targets, int transform) {
  const int64_t row = thread_number();
  if (row >= rows) return;
  double* own = scores + row * targets;
  transform_scores(transform, own, targets);
  for (int64_t t = 0; t < targets; ++t) {
    y[row * targets + t] = narrow<T>(static_cast<wide_t<T>>(own[t]));
  }
}

#define VALUES(name, T)                                                             \
  extern "C" __global__ void tree_values_##name(double* scores, T* y, int64_t rows, \
                                                int64_t targets, int transform) {   \
    values<T>(scores, y, rows, targets, transform);                                 \
  }
FOR_FLOATS(VALUES)

struct Decision {
  int64_t rows;
  int32_t classes;
  int32_t voted;          // of two classes the only one that has votes, or -1
  int32_t probabilities;  // one class's votes are compared with 0.5, not with 0
  int32_t has_base;
  int32_t transform;
  int32_t single;  // weights are float32
};

// The number of the class, or -1 for no class. The scores become what is put out.
__device__ inline int decide(double* s, const uint8_t* seen, const Decision& d) {
  if (d.voted >= 0) {
    // Two classes, and votes for one of them: they speak for class 1, whichever they name.
    const bool second = s[d.voted] > (d.probabilities ? 0.5 : 0.0);
    if (d.voted == 0) {
      s[1] = s[0];
      s[0] = d.probabilities ? 1 - s[1] : -s[1];
    }
    const bool is_softmax = d.transform == softmax || d.transform == softmax_zero;
    if (d.voted == 1 || !is_softmax) transform_scores(d.transform, s, d.classes);
    return second ? 1 : 0;
  }
  int best = -1;
  for (int i = 0; i < d.classes; ++i) {
    const bool counts = seen[i] || d.has_base;
    if (counts && (best < 0 || s[i] > s[best])) best = i;
  }
  if (d.classes == 1 && !(s[0] > 0)) best = -1;
  if (d.classes > 1 && best < 0) best = 0;
  transform_scores(d.transform, s, d.classes);
  return best;
}

extern "C" __global__ void tree_classes(double* scores, const uint8_t* seen, const int64_t* names,
                                        int64_t* labels, float* z, Decision decision) {
  const int64_t row = thread_number();
  if (row >= decision.rows) return;
  double* own = scores + row * decision.classes;
  // Votes of equal weight that a float32 has rounded are to end in a tie.
  for (int i = 0; decision.single && i < decision.classes; ++i) own[i] = static_cast<float>(own[i]);
  const int label = decide(own, seen + row * decision.classes, decision);
  labels[row] = label < 0 ? 0 : names[label];
  for (int i = 0; i < decision.classes; ++i) {
    z[row * decision.classes + i] = static_cast<float>(own[i]);
  }
}
