// SPDX-License-Identifier: Apache-2.0
// LinearRegressor, LinearClassifier, SVMRegressor and SVMClassifier, in float64: products by a warp
// an element, then a thread a row for what follows them.
#include "post_transform.cuh"

struct Functions {
  int64_t rows, columns;  // of x
  int64_t outputs;        // functions of a row of x, each with `columns` weights
  int64_t offset_step;    // 0: one offset for all
};

// The sum of a[i] * b[i]; every lane of the warp gets it.
template <typename T>
__device__ double dot(const T* a, const double* b, int64_t n) {
  double sum = 0;
  for (int64_t i = threadIdx.x % 32; i < n; i += 32) sum += static_cast<double>(a[i]) * b[i];
  return warp_reduce(sum, Sum());
}

// `offsets` may be null. With `single` scores are rounded to float32.
template <typename T>
__device__ void linear(const T* x, const double* weights, const double* offsets, double* scores,
                       Functions f, int single) {
  const int64_t i = thread_number() / 32;
  if (i >= f.rows * f.outputs) return;
  const int64_t row = i / f.outputs, output = i % f.outputs;
  double sum = dot(x + row * f.columns, weights + output * f.columns, f.columns);
  if (offsets != nullptr) sum += offsets[output * f.offset_step];
  if (threadIdx.x % 32 == 0) scores[i] = single ? static_cast<float>(sum) : sum;
}

struct SvmKernel {
  int32_t kind;  // LINEAR, POLY, RBF, SIGMOID
  int32_t unused;
  double gamma, offset, degree;
};

// base to the degree, whole ones by squaring.
__device__ inline double power(double base, double degree) {
  if (degree != floor(degree) || degree < 0 || degree > 64) return pow(base, degree);
  double result = 1;
  for (int left = static_cast<int>(degree); left > 0; left >>= 1, base *= base) {
    if (left & 1) result *= base;
  }
  return result;
}

// values[row][vector], how near a row is to each support vector.
template <typename T>
__device__ void nearness(const T* x, const double* vectors, double* values, Functions f,
                         SvmKernel kernel) {
  const int64_t i = thread_number() / 32;
  if (i >= f.rows * f.outputs) return;
  const T* row = x + i / f.outputs * f.columns;
  const double* vector = vectors + i % f.outputs * f.columns;
  double value = 0;
  if (kernel.kind == 2) {
    for (int64_t j = threadIdx.x % 32; j < f.columns; j += 32) {
      const double step = static_cast<double>(row[j]) - vector[j];
      value += step * step;
    }
    value = exp(-kernel.gamma * warp_reduce(value, Sum()));
  } else {
    value = dot(row, vector, f.columns);
    if (kernel.kind != 0) value = kernel.gamma * value + kernel.offset;
    if (kernel.kind == 1) value = power(value, kernel.degree);
    if (kernel.kind == 3) value = tanh(value);
  }
  if (threadIdx.x % 32 == 0) values[i] = value;
}

#define MODEL(name, T)                                                                            \
  extern "C" __global__ void linear_scores_##name(const T* x, const double* weights,              \
                                                  const double* offsets, double* scores,          \
                                                  Functions functions, int single) {              \
    linear<T>(x, weights, offsets, scores, functions, single);                                    \
  }                                                                                               \
  extern "C" __global__ void svm_kernel_##name(const T* x, const double* vectors, double* values, \
                                               Functions functions, SvmKernel kernel) {           \
    nearness<T>(x, vectors, values, functions, kernel);                                           \
  }
MODEL(float32, float)
MODEL(float64, double)
MODEL(int32, int32_t)
MODEL(int64, int64_t)

// A row's scores as they are put out.
__device__ inline void put_out(double* scores, float* y, int64_t columns, int transform) {
  transform_scores(transform, scores, columns);
  for (int64_t i = 0; i < columns; ++i) y[i] = static_cast<float>(scores[i]);
}

extern "C" __global__ void regressor_values(double* scores, float* y, int64_t rows, int64_t targets,
                                            int transform, int one_class) {
  const int64_t row = thread_number();
  if (row >= rows) return;
  double* own = scores + row * targets;
  if (one_class) own[0] = own[0] > 0 ? 1 : -1;
  put_out(own, y + row * targets, targets, transform);
}

// Of equal ones the first.
__device__ inline int64_t largest_of(const double* x, int64_t n) {
  int64_t best = 0;
  for (int64_t i = 1; i < n; ++i) {
    if (x[best] < x[i]) best = i;
  }
  return best;
}

struct Classes {
  int64_t rows;
  int32_t classes;
  int32_t outputs;  // scores of a row: one for each class, or one for two classes
  int32_t transform;
  int32_t positive;  // 1: of two classes the second wins from 0.5 on; -1: a lone class from 0 on
};

// `scores` has room for `classes` of each row, and holds `outputs` of each, densely.
extern "C" __global__ void classifier_values(const double* scores, double* space,
                                             const int64_t* names, int64_t* labels, float* y,
                                             Classes c) {
  const int64_t row = thread_number();
  if (row >= c.rows) return;
  const double* raw = scores + row * c.outputs;
  double* own = space + row * c.classes;
  int64_t label;
  if (c.outputs < c.classes) {  // one score s for two classes: (-s, s)
    label = raw[0] > 0 ? 1 : 0;
    own[0] = -raw[0];
    own[1] = raw[0];
  } else {
    for (int i = 0; i < c.classes; ++i) own[i] = raw[i];
    label = largest_of(raw, c.classes);
    if (c.positive > 0 && raw[label] >= 0.5) label = 1;
    if (c.positive < 0 && c.classes == 1 && !(raw[0] >= 0)) label = -1;
  }
  labels[row] = label < 0 ? 0 : names[label];
  put_out(own, y + row * c.classes, c.classes, c.transform);
}

// The pair with number `pair` of (0, 1), (0, 2) ... (1, 2) ...
__device__ inline void find_pair(int64_t pair, int64_t classes, int64_t& i, int64_t& j) {
  i = 0;
  for (int64_t left = classes - 1; pair >= left; --left, ++i) pair -= left;
  j = i + 1 + pair;
}

// decisions[row][pair], the classes' vectors begin at `starts`.
extern "C" __global__ void svm_decisions(const double* values, const double* coefficients,
                                         const double* rho, const int64_t* starts,
                                         double* decisions, int64_t rows, int64_t classes) {
  const int64_t n = thread_number() / 32, pairs = classes * (classes - 1) / 2;
  if (n >= rows * pairs) return;
  const int64_t vectors = starts[classes];
  const double* row = values + n / pairs * vectors;
  int64_t i, j;
  find_pair(n % pairs, classes, i, j);
  const double* of_i = coefficients + (j - 1) * vectors + starts[i];
  const double* of_j = coefficients + i * vectors + starts[j];
  const double sum = dot(row + starts[i], of_i, starts[i + 1] - starts[i]) +
                     dot(row + starts[j], of_j, starts[j + 1] - starts[j]);
  if (threadIdx.x % 32 == 0) decisions[n] = rho[n % pairs] + sum;
}

// Class probabilities from those of the pairs, r[i * n + j] = P(i | i or j): the second method of
// Wu, Lin and Weng, "Probability estimates for multi-class classification by pairwise coupling"
// (2004). The number of steps is part of the result. `q` has n * n elements, `qp` has n.
__device__ inline void couple_probabilities(int64_t n, const double* r, double* q, double* qp,
                                            double* p) {
  for (int64_t i = 0; i < n; ++i) {
    p[i] = 1.0 / static_cast<double>(n);
    q[i * n + i] = 0;
    for (int64_t j = 0; j < n; ++j) {
      if (j == i) continue;
      q[i * n + i] += r[j * n + i] * r[j * n + i];
      q[i * n + j] = -r[j * n + i] * r[i * n + j];
    }
  }
  const double enough = 0.005 / static_cast<double>(n);
  const int64_t most = n > 100 ? n : 100;
  for (int64_t step = 0; step < most; ++step) {
    double pqp = 0, error = 0;
    for (int64_t i = 0; i < n; ++i) {
      qp[i] = 0;
      for (int64_t j = 0; j < n; ++j) qp[i] += q[i * n + j] * p[j];
      pqp += p[i] * qp[i];
    }
    for (int64_t i = 0; i < n; ++i) error = fmax(error, fabs(qp[i] - pqp));
    if (error < enough) return;
    for (int64_t i = 0; i < n; ++i) {
      const double change = (pqp - qp[i]) / q[i * n + i], scale = 1 + change;
      p[i] += change;
      pqp = (pqp + change * (change * q[i * n + i] + 2 * qp[i])) / scale / scale;
      for (int64_t j = 0; j < n; ++j) {
        qp[j] = (qp[j] + change * q[i * n + j]) / scale;
        p[j] /= scale;
      }
    }
  }
}

// The class that wins most pairs. What is put out are the decisions (d as (-d, d) for one pair),
// or, with `a` and `b`, the classes' probabilities. `space` has 2 * classes * (classes + 1)
// elements for each row.
extern "C" __global__ void svm_values(const double* decisions, const double* a, const double* b,
                                      double* space, const int64_t* names, int64_t* labels,
                                      float* y, int64_t rows, int64_t classes, int transform) {
  const int64_t row = thread_number(), pairs = classes * (classes - 1) / 2;
  if (row >= rows) return;
  const double* decided = decisions + row * pairs;
  double* p = space + row * 2 * classes * (classes + 1);
  double* qp = p + classes;
  double* r = qp + classes;
  double* q = r + classes * classes;
  for (int64_t i = 0; i < classes; ++i) p[i] = 0;
  int64_t pair = 0;
  for (int64_t i = 0; i < classes; ++i) {
    for (int64_t j = i + 1; j < classes; ++j, ++pair) {
      p[decided[pair] > 0 ? i : j] += 1;
      if (a == nullptr) continue;
      const double chance = logistic_of(-(decided[pair] * a[pair] + b[pair]));
      r[i * classes + j] = chance < 1e-7 ? 1e-7 : chance > 1 - 1e-7 ? 1 - 1e-7 : chance;
      r[j * classes + i] = 1 - r[i * classes + j];
    }
  }
  labels[row] = names[largest_of(p, classes)];
  if (a != nullptr) {
    couple_probabilities(classes, r, q, qp, p);
    put_out(p, y + row * classes, classes, transform);
  } else if (pairs == 1) {
    p[0] = -decided[0];
    p[1] = decided[0];
    put_out(p, y + row * 2, 2, transform);
  } else {
    for (pair = 0; pair < pairs; ++pair) p[pair] = decided[pair];
    put_out(p, y + row * pairs, pairs, transform);
  }
}
