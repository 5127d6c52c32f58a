// SPDX-License-Identifier: Apache-2.0
// instruction sets: base avx2 avx512
#include "kernels/signal/pairs.h"

#include "simd/vec.h"

namespace bascule::BASCULE_ISA {
namespace {

constexpr int side = most_side_by_side;
constexpr int64_t pairs = side / 2;

template <class T>
struct Row {
  typedef T type __attribute__((vector_size(side * sizeof(T))));
};

// Exchanges rows and columns of a square of eight, by blocks of 1, 2 and 4.
template <class V>
BASCULE_INLINE void transpose(V (&r)[side]) {
  V t[side];
#pragma GCC unroll 8
  for (int i = 0; i < side; i += 2) {
    t[i] = __builtin_shufflevector(r[i], r[i + 1], 0, 8, 2, 10, 4, 12, 6, 14);
    t[i + 1] = __builtin_shufflevector(r[i], r[i + 1], 1, 9, 3, 11, 5, 13, 7, 15);
  }
#pragma GCC unroll 8
  for (int i = 0; i < side; i += 4) {
#pragma GCC unroll 8
    for (int k = i; k < i + 2; ++k) {
      r[k] = __builtin_shufflevector(t[k], t[k + 2], 0, 1, 8, 9, 4, 5, 12, 13);
      r[k + 2] = __builtin_shufflevector(t[k], t[k + 2], 2, 3, 10, 11, 6, 7, 14, 15);
    }
  }
#pragma GCC unroll 8
  for (int k = 0; k < side / 2; ++k) {
    t[k] = __builtin_shufflevector(r[k], r[k + 4], 0, 1, 2, 3, 8, 9, 10, 11);
    t[k + 4] = __builtin_shufflevector(r[k], r[k + 4], 4, 5, 6, 7, 12, 13, 14, 15);
  }
#pragma GCC unroll 8
  for (int k = 0; k < side; ++k) r[k] = t[k];
}

template <class T, class U>
void read_pairs(const T* from, const int64_t* starts, int64_t n, Planes<U> to) {
  using From = typename Row<T>::type;
  using To = typename Row<U>::type;
  int64_t i = 0;
  for (; i + pairs <= n; i += pairs) {
    From rows[side];
#pragma GCC unroll 8
    for (int lane = 0; lane < side; ++lane) {
      __builtin_memcpy(&rows[lane], from + starts[lane] + 2 * i, sizeof(From));
    }
    transpose(rows);
#pragma GCC unroll 8
    for (int k = 0; k < side; ++k) {
      const To row = __builtin_convertvector(rows[k], To);
      U* plane = k % 2 == 0 ? to.re : to.im;
      __builtin_memcpy(plane + (i + k / 2) * side, &row, sizeof(row));
    }
  }
  for (; i < n; ++i) {
#pragma GCC unroll 8
    for (int lane = 0; lane < side; ++lane) {
      to.re[i * side + lane] = static_cast<U>(from[starts[lane] + 2 * i]);
      to.im[i * side + lane] = static_cast<U>(from[starts[lane] + 2 * i + 1]);
    }
  }
}

template <class T, class U>
void write_pairs(Planes<const U> from, int64_t n, U scale, T* to, const int64_t* starts) {
  using From = typename Row<U>::type;
  using To = typename Row<T>::type;
  int64_t i = 0;
  for (; i + pairs <= n; i += pairs) {
    To rows[side];
#pragma GCC unroll 8
    for (int k = 0; k < side; ++k) {
      From row;
      const U* plane = k % 2 == 0 ? from.re : from.im;
      __builtin_memcpy(&row, plane + (i + k / 2) * side, sizeof(row));
      rows[k] = __builtin_convertvector(row * scale, To);
    }
    transpose(rows);
#pragma GCC unroll 8
    for (int lane = 0; lane < side; ++lane) {
      __builtin_memcpy(to + starts[lane] + 2 * i, &rows[lane], sizeof(To));
    }
  }
  for (; i < n; ++i) {
#pragma GCC unroll 8
    for (int lane = 0; lane < side; ++lane) {
      to[starts[lane] + 2 * i] = static_cast<T>(from.re[i * side + lane] * scale);
      to[starts[lane] + 2 * i + 1] = static_cast<T>(from.im[i * side + lane] * scale);
    }
  }
}

}  // namespace

Pairs<float, float> pairs_f32() { return {read_pairs<float, float>, write_pairs<float, float>}; }
Pairs<float, double> pairs_f32_f64() {
  return {read_pairs<float, double>, write_pairs<float, double>};
}
Pairs<double, double> pairs_f64() {
  return {read_pairs<double, double>, write_pairs<double, double>};
}

}  // namespace bascule::BASCULE_ISA
