// SPDX-License-Identifier: Apache-2.0
// Fast Fourier transforms of lines of complex numbers in double: Stockham's, a stage for each
// factor of the length. Factors exp(2 pi i k / length) come from a table, each rounded once.
#pragma once

#include "common.cuh"

struct alignas(16) Pair {
  double re, im;
};
__device__ inline Pair operator+(Pair a, Pair b) { return {a.re + b.re, a.im + b.im}; }
__device__ inline Pair operator-(Pair a, Pair b) { return {a.re - b.re, a.im - b.im}; }
__device__ inline Pair operator*(Pair a, Pair b) {
  return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}
// The conjugate where `forward`.
__device__ inline Pair directed(Pair x, bool forward) { return {x.re, forward ? -x.im : x.im}; }

constexpr int most_stages = 32;

struct Factors {
  int64_t length;
  int32_t count;
  int32_t radices[most_stages + 1];  // their product is the length
};

// A stage joins transforms of `done` elements to those of `done` * radix. Item j takes the elements
// j + t * length / radix and gives those from its place on, `done` apart.
struct Stage {
  int64_t length, done, step;  // step: of the table, from one factor to the next
  int radix;
  bool forward;

  __device__ Stage(int64_t length, int64_t done, int radix, bool forward)
      : length(length), done(done), step(length / (done * radix)), radix(radix), forward(forward) {}
  __device__ int64_t items() const { return length / radix; }
  __device__ int64_t place(int64_t j) const { return j / done * done * radix + j % done; }
  // Element t of item j, turned.
  __device__ Pair turned(const Pair* x, const Pair* table, int64_t j, int t) const {
    const Pair value = x[j + t * items()];
    const int64_t turn = j % done * t * step;
    return turn == 0 ? value : value * directed(table[turn], forward);
  }
};

template <int radix>
__device__ inline void join(const Pair* x, Pair* y, const Pair* table, const Stage& s, int64_t j) {
  Pair v[radix];
#pragma unroll
  for (int t = 0; t < radix; ++t) v[t] = s.turned(x, table, j, t);
  Pair* to = y + s.place(j);
  if constexpr (radix == 2) {
    to[0] = v[0] + v[1];
    to[s.done] = v[0] - v[1];
  } else if constexpr (radix == 4) {
    const Pair even = v[0] + v[2], odd = v[0] - v[2], sum = v[1] + v[3], gap = v[1] - v[3];
    const Pair quarter = s.forward ? Pair{gap.im, -gap.re} : Pair{-gap.im, gap.re};
    to[0] = even + sum;
    to[s.done] = odd + quarter;
    to[2 * s.done] = even - sum;
    to[3 * s.done] = odd - quarter;
  } else {
    Pair root[radix];
#pragma unroll
    for (int t = 1; t < radix; ++t) root[t] = directed(table[t * s.items()], s.forward);
#pragma unroll
    for (int u = 0; u < radix; ++u) {
      Pair sum = v[0];
#pragma unroll
      for (int t = 1; t < radix; ++t) sum = sum + (u == 0 ? v[t] : v[t] * root[t * u % radix]);
      to[u * s.done] = sum;
    }
  }
}

// Output u of item j, for any radix.
__device__ inline void join_one(const Pair* x, Pair* y, const Pair* table, const Stage& s,
                                int64_t j, int u) {
  Pair sum = s.turned(x, table, j, 0);
  for (int t = 1; t < s.radix; ++t) {
    const int64_t turn = t * u % s.radix;
    const Pair value = s.turned(x, table, j, t);
    sum = sum + (turn == 0 ? value : value * directed(table[turn * s.items()], s.forward));
  }
  y[s.place(j) + u * s.done] = sum;
}

// The items of a stage that number `first` of `threads` has.
__device__ inline void run_stage(const Pair* x, Pair* y, const Pair* table, const Stage& s,
                                 int64_t first, int64_t threads) {
  const int64_t items = s.items();
  switch (s.radix) {
    case 2:
      for (int64_t j = first; j < items; j += threads) join<2>(x, y, table, s, j);
      break;
    case 3:
      for (int64_t j = first; j < items; j += threads) join<3>(x, y, table, s, j);
      break;
    case 4:
      for (int64_t j = first; j < items; j += threads) join<4>(x, y, table, s, j);
      break;
    case 5:
      for (int64_t j = first; j < items; j += threads) join<5>(x, y, table, s, j);
      break;
    default:
      for (int64_t i = first; i < s.length; i += threads) {
        join_one(x, y, table, s, i % items, static_cast<int>(i / items));
      }
  }
}
