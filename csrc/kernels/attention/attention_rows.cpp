// SPDX-License-Identifier: Apache-2.0
// instruction sets: base avx2 avx512
#include "kernels/attention/attention_rows.h"
#include "kernels/attention/score_tile.h"
#include "kernels/attention/weights.h"
#include "simd/math.h"

namespace bascule::BASCULE_ISA {
namespace {

// Rows that read keys or values together: 4 times 4 sums need 32 registers.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int most_together = 4;
#else
constexpr int most_together = 2;
#endif

// All lanes added by halves.
BASCULE_INLINE float sum_lanes(F32 v) {
#if defined(__AVX512F__)
  v += __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
  v += __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11);
  v += __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
  v += __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14);
#elif defined(__AVX2__)
  v += __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3);
  v += __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5);
  v += __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6);
#else
  v += __builtin_shufflevector(v, v, 2, 3, 0, 1);
  v += __builtin_shufflevector(v, v, 1, 0, 3, 2);
#endif
  return v[0];
}

// The sums of the lanes of some vectors, in the order of sum_lanes.
template <int count>
BASCULE_INLINE void store_sums(const F32 (&v)[count], float* to) {
#if defined(__AVX512F__)
  if constexpr (count == 4) {
    F32 halves[2];
    for (int i = 0; i < 2; ++i) {
      const F32 a = v[2 * i], b = v[2 * i + 1];
      halves[i] =
          __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
          __builtin_shufflevector(a, b, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30,
                                  31);
    }
    F32 sum = __builtin_shufflevector(halves[0], halves[1], 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18,
                                      19, 24, 25, 26, 27) +
              __builtin_shufflevector(halves[0], halves[1], 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22,
                                      23, 28, 29, 30, 31);
    sum += __builtin_shufflevector(sum, sum, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
    sum += __builtin_shufflevector(sum, sum, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14);
    const auto sums = __builtin_shufflevector(sum, sum, 0, 4, 8, 12);
    __builtin_memcpy(to, &sums, sizeof(sums));
    return;
  }
#endif
  for (int i = 0; i < count; ++i) to[i] = sum_lanes(v[i]);
}

// `rows` rows times `keys` keys.
template <int rows, int keys>
BASCULE_INLINE void dot_tile(const float* q, int64_t q_stride, const float* k, int64_t k_stride,
                             int64_t size, float* scores, int64_t score_stride) {
  F32 sum[rows][keys] = {};
  for_vectors(size, [&](int64_t i, int64_t count) __attribute__((always_inline)) {
    F32 key[keys];
#pragma GCC unroll 4
    for (int j = 0; j < keys; ++j) key[j] = load(k + j * k_stride + i, count, 0);
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) {
      const F32 query = load(q + r * q_stride + i, count, 0);
#pragma GCC unroll 4
      for (int j = 0; j < keys; ++j) sum[r][j] = fma(query, key[j], sum[r][j]);
    }
  });
#pragma GCC unroll 4
  for (int r = 0; r < rows; ++r) store_sums(sum[r], scores + r * score_stride);
}

template <int rows>
void dot_some_rows(const float* q, int64_t q_stride, const float* k, int64_t k_stride,
                   int64_t count, int64_t size, float* scores, int64_t score_stride) {
  int64_t j = 0;
  for (; j + 4 <= count; j += 4) {
    dot_tile<rows, 4>(q, q_stride, k + j * k_stride, k_stride, size, scores + j, score_stride);
  }
  for (; j < count; ++j) {
    dot_tile<rows, 1>(q, q_stride, k + j * k_stride, k_stride, size, scores + j, score_stride);
  }
}

void dot_rows(const float* q, int64_t q_stride, int64_t rows, const float* k, int64_t k_stride,
              int64_t count, int64_t size, float* scores, int64_t score_stride) {
  int64_t r = 0;
  for (; r + most_together <= rows; r += most_together) {
    dot_some_rows<most_together>(q + r * q_stride, q_stride, k, k_stride, count, size,
                                 scores + r * score_stride, score_stride);
  }
  for (; r + 2 <= rows; r += 2) {
    dot_some_rows<2>(q + r * q_stride, q_stride, k, k_stride, count, size,
                     scores + r * score_stride, score_stride);
  }
  if (r < rows) {
    dot_some_rows<1>(q + r * q_stride, q_stride, k, k_stride, count, size,
                     scores + r * score_stride, score_stride);
  }
}

template <int rows>
void weigh_some_rows(const float* weights, int64_t weight_stride, const float* v, int64_t v_stride,
                     int64_t count, int64_t size, float* y, int64_t y_stride, bool more) {
  constexpr int vectors = 4;
  int64_t i = 0;
  for (; i + vectors * lanes <= size; i += vectors * lanes) {
    F32 sum[rows][vectors] = {};
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 4
      for (int p = 0; p < vectors; ++p) {
        if (more) sum[r][p] = load(y + r * y_stride + i + p * lanes);
      }
    }
    for (int64_t j = 0; j < count; ++j) {
      const float* value = v + j * v_stride + i;
#pragma GCC unroll 4
      for (int r = 0; r < rows; ++r) {
        const F32 weight = set(weights[r * weight_stride + j]);
#pragma GCC unroll 4
        for (int p = 0; p < vectors; ++p) {
          sum[r][p] = fma(weight, load(value + p * lanes), sum[r][p]);
        }
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 4
      for (int p = 0; p < vectors; ++p) store(y + r * y_stride + i + p * lanes, sum[r][p]);
    }
  }
  for (; i < size; i += lanes) {
    const int64_t part = size - i < lanes ? size - i : int64_t{lanes};
    F32 sum[rows] = {};
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) {
      if (more) sum[r] = load(y + r * y_stride + i, part, 0);
    }
    for (int64_t j = 0; j < count; ++j) {
      const F32 value = load(v + j * v_stride + i, part, 0);
#pragma GCC unroll 4
      for (int r = 0; r < rows; ++r) {
        sum[r] = fma(set(weights[r * weight_stride + j]), value, sum[r]);
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) store(y + r * y_stride + i, sum[r], part);
  }
}

void weighted_rows(const float* weights, int64_t weight_stride, int64_t rows, const float* v,
                   int64_t v_stride, int64_t count, int64_t size, float* y, int64_t y_stride,
                   bool more) {
  int64_t r = 0;
  for (; r + most_together <= rows; r += most_together) {
    weigh_some_rows<most_together>(weights + r * weight_stride, weight_stride, v, v_stride, count,
                                   size, y + r * y_stride, y_stride, more);
  }
  for (; r + 2 <= rows; r += 2) {
    weigh_some_rows<2>(weights + r * weight_stride, weight_stride, v, v_stride, count, size,
                       y + r * y_stride, y_stride, more);
  }
  if (r < rows) {
    weigh_some_rows<1>(weights + r * weight_stride, weight_stride, v, v_stride, count, size,
                       y + r * y_stride, y_stride, more);
  }
}

void cap_row(float* x, int64_t n, float cap) {
  for_vectors(n, [&](int64_t i, int64_t count) {
    store(x + i, tanh(load(x + i, count, 0) / set(cap)) * set(cap), count);
  });
}

void weigh(const WeightBlock<float>& b) { weigh_rows(b, 0, b.rows, 0, b.keys); }

void divide(const WeightBlock<float>& b, float* to, int64_t stride) {
  for (int64_t r = 0; r < b.rows; ++r) {
    F32 parts = set(0);
    for (int64_t i = 0; i < attention_sum_lanes; i += lanes) {
      parts += load(b.sums + r * attention_sum_lanes + i);
    }
    const float sum = sum_lanes(parts);
    if (sum == 0) {
      for_vectors(b.y_size,
                  [&](int64_t i, int64_t count) { store(to + r * stride + i, set(0), count); });
    } else {
      scale_row(b.y + r * b.y_stride, b.y_size, 1 / sum, to + r * stride);
    }
  }
}

void scale_rows(const float* x, int64_t rows, int64_t n, int64_t stride, float factor, float* to) {
  for (int64_t r = 0; r < rows; ++r) scale_row(x + r * stride, n, factor, to + r * n);
}

}  // namespace

const AttentionFunctions<float>& attention_functions_f32() {
  static constexpr AttentionFunctions<float> functions = {
      key_panel, dot_rows, weighted_rows, cap_row, weigh, score_rows, divide, scale_rows};
  return functions;
}
}  // namespace bascule::BASCULE_ISA

#if BASCULE_ONCE
#include <algorithm>
#include <cmath>
#include <limits>

#include "simd/isa.h"
namespace bascule {
BASCULE_PER_ISA(const AttentionFunctions<float>& attention_functions_f32());

template <>
const AttentionFunctions<float>& attention_functions<float>() {
  static const AttentionFunctions<float>& functions = BASCULE_PICK(attention_functions_f32)();
  return functions;
}

namespace {

void dot_rows_f64(const double* q, int64_t q_stride, int64_t rows, const double* k,
                  int64_t k_stride, int64_t count, int64_t size, double* scores,
                  int64_t score_stride) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t j = 0; j < count; ++j) {
      double sum = 0;
      for (int64_t i = 0; i < size; ++i) sum += q[r * q_stride + i] * k[j * k_stride + i];
      scores[r * score_stride + j] = sum;
    }
  }
}

void weighted_rows_f64(const double* weights, int64_t weight_stride, int64_t rows, const double* v,
                       int64_t v_stride, int64_t count, int64_t size, double* y, int64_t y_stride,
                       bool more) {
  for (int64_t r = 0; r < rows; ++r) {
    double* to = y + r * y_stride;
    if (!more) std::fill_n(to, size, 0.0);
    for (int64_t j = 0; j < count; ++j) {
      const double weight = weights[r * weight_stride + j];
      for (int64_t i = 0; i < size; ++i) to[i] += weight * v[j * v_stride + i];
    }
  }
}

void cap_row_f64(double* x, int64_t n, double cap) {
  for (int64_t i = 0; i < n; ++i) x[i] = cap * std::tanh(x[i] / cap);
}

void scale_row_f64(const double* x, int64_t n, double factor, double* to) {
  for (int64_t i = 0; i < n; ++i) to[i] = x[i] * factor;
}

void weigh_f64(const WeightBlock<double>& b) {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  for (int64_t r = 0; r < b.rows; ++r) {
    double* x = b.x + r * b.stride;
    double* sum = b.sums + r * attention_sum_lanes;
    double top = b.tops[r];
    for (int64_t i = 0; i < b.keys; ++i) {
      if (b.mask != nullptr) x[i] += b.mask[r * b.mask_stride + i];
      if (x[i] > top) top = x[i];
    }
    if (top > b.tops[r] && b.tops[r] != -infinity) {
      const double factor = std::exp(b.tops[r] - top);
      *sum *= factor;
      if (b.y != nullptr) {
        double* y = b.y + r * b.y_stride;
        scale_row_f64(y, b.y_size, factor, y);
      }
    }
    b.tops[r] = top;
    // Where there is nothing but -infinity, any top gives zeros.
    if (top == -infinity) top = 0;
    for (int64_t i = 0; i < b.keys; ++i) {
      x[i] = std::exp(x[i] - top);
      *sum += x[i];
    }
  }
}

void divide_f64(const WeightBlock<double>& b, double* to, int64_t stride) {
  for (int64_t r = 0; r < b.rows; ++r) {
    const double sum = b.sums[r * attention_sum_lanes];
    if (sum == 0) {
      std::fill_n(to + r * stride, b.y_size, 0.0);
    } else {
      scale_row_f64(b.y + r * b.y_stride, b.y_size, 1 / sum, to + r * stride);
    }
  }
}

void scale_rows_f64(const double* x, int64_t rows, int64_t n, int64_t stride, double factor,
                    double* to) {
  for (int64_t r = 0; r < rows; ++r) scale_row_f64(x + r * stride, n, factor, to + r * n);
}

}  // namespace

template <>
const AttentionFunctions<double>& attention_functions<double>() {
  static constexpr AttentionFunctions<double> functions = {
      0,         dot_rows_f64, weighted_rows_f64, cap_row_f64,
      weigh_f64, nullptr,      divide_f64,        scale_rows_f64};
  return functions;
}
}  // namespace bascule
#endif
