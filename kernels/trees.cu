// SPDX-License-Identifier: Apache-2.0
// Ensembles of decision trees. A thread walks all trees for one row, so each sum has one order.
#include "common.cuh"

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
  int32_t transform;  // NONE, SOFTMAX, LOGISTIC
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

template <typename T>
__device__ void walk(const T* x, const TreeNode* nodes, const int32_t* roots, const double* members,
                     const double* weights, const int32_t* targets, double* scores, uint8_t* seen,
                     T* y, Ensemble e) {
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
    // As many steps as there are nodes: a tree that bites its tail ends as well.
    for (int32_t steps = 0; at >= 0 && steps < e.nodes; ++steps) {
      const TreeNode node = nodes[at];
      const double value = widen(x[row * e.columns + node.feature]);
      at = goes_on(node, members, value) ? node.yes : node.no;
    }
    if (at >= 0) continue;
    const int32_t t = targets[~at];
    const double weight = weights[~at];
    if (e.aggregate < 2) {
      own[t] += weight;
    } else if (!known[t] || (e.aggregate == 2 ? weight < own[t] : weight > own[t])) {
      own[t] = weight;
    }
    known[t] = 1;
  }
  double largest = 0, sum = 0;
  for (int t = 0; t < e.targets; ++t) {
    if (e.aggregate == 0) own[t] /= e.trees > 0 ? e.trees : 1;
    largest = t == 0 || own[t] > largest ? own[t] : largest;
  }
  const bool softmax = e.transform == 1 && e.targets > 1;
  for (int t = 0; softmax && t < e.targets; ++t) sum += own[t] = exp(own[t] - largest);
  for (int t = 0; t < e.targets; ++t) {
    double value = own[t];
    if (softmax) value /= sum;
    if (e.transform == 2) {
      const double power = exp(-fabs(value));
      value = (value < 0 ? power : 1.0) / (1 + power);
    }
    y[row * e.targets + t] = narrow<T>(static_cast<wide_t<T>>(value));
  }
}

#define TREES(name, T)                                                                             \
  extern "C" __global__ void trees_##name(const T* x, const TreeNode* nodes, const int32_t* roots, \
                                          const double* members, const double* weights,            \
                                          const int32_t* targets, double* scores, uint8_t* seen,   \
                                          T* y, Ensemble ensemble) {                               \
    walk<T>(x, nodes, roots, members, weights, targets, scores, seen, y, ensemble);                \
  }
FOR_FLOATS(TREES)
