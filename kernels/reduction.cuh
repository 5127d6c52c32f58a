// SPDX-License-Identifier: Apache-2.0
// Reductions over one axis of a tensor [outer, n, inner]: of rows where inner is 1, else of
// columns. Other axes are reduced one after the other, and long axes in pieces: then the first
// kernels write states, and the join_ kernels take these.
//
// Integers are summed in 64 bits and wrap around.
#pragma once

#include "rows.cuh"

template <typename T>
struct Total {
  using type = int64_t;
};
template <>
struct Total<uint64_t> {
  using type = uint64_t;
};
template <>
struct Total<float> {
  using type = float;
};
template <>
struct Total<float16> {
  using type = float;
};
template <>
struct Total<bfloat16> {
  using type = float;
};
template <>
struct Total<double> {
  using type = double;
};
template <typename T>
using total_t = typename Total<T>::type;

template <typename T>
struct IsFloat {
  static constexpr bool value = false;
};
template <>
struct IsFloat<float> {
  static constexpr bool value = true;
};
template <>
struct IsFloat<double> {
  static constexpr bool value = true;
};

// The least (or the largest) value of T, as a total: what a maximum (minimum) starts with.
template <typename T>
__device__ inline total_t<T> extreme(bool least) {
  using A = total_t<T>;
  if constexpr (IsFloat<A>::value) {
    return least ? -static_cast<A>(INFINITY) : static_cast<A>(INFINITY);
  } else if constexpr (static_cast<T>(-1) > static_cast<T>(0)) {  // unsigned, and bool
    return least ? A{0} : static_cast<A>(static_cast<T>(-1));
  } else {
    const uint64_t top = uint64_t{1} << (8 * sizeof(T) - 1);
    return least ? static_cast<A>(~(top - 1)) : static_cast<A>(top - 1);
  }
}

// Sums and products of integers wrap around.
template <typename A>
__device__ inline A add(A a, A b) {
  if constexpr (IsFloat<A>::value) {
    return a + b;
  } else {
    return static_cast<A>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
  }
}
template <typename A>
__device__ inline A multiply(A a, A b) {
  if constexpr (IsFloat<A>::value) {
    return a * b;
  } else {
    return static_cast<A>(static_cast<uint64_t>(a) * static_cast<uint64_t>(b));
  }
}

template <typename T>
struct SumFold {
  using State = total_t<T>;
  static constexpr int unroll = 4;
  int kind;

  __device__ State neutral() const { return 0; }
  __device__ State take(State s, State x) const { return add(s, x); }
  __device__ State join(State a, State b) const { return add(a, b); }
  __device__ static State value(State s) { return s; }
};

enum Kind { sum_abs = 0, sum_squares = 1, product = 2, maximum = 3, minimum = 4 };

template <typename T>
struct OtherFold {
  using State = total_t<T>;
  static constexpr int unroll = 1;
  int kind;

  __device__ State neutral() const {
    if (kind == maximum || kind == minimum) return extreme<T>(kind == maximum);
    return kind == product ? 1 : 0;
  }
  __device__ State take(State s, State x) const {
    if (kind == sum_abs) return add(s, x > 0 ? x : multiply(x, static_cast<State>(-1)));
    if (kind == sum_squares) return add(s, multiply(x, x));
    return join(s, x);
  }
  __device__ State join(State a, State b) const {
    if (kind == product) return multiply(a, b);
    if (kind == maximum) return a != a || a > b ? a : b;
    if (kind == minimum) return a != a || a < b ? a : b;
    return add(a, b);
  }
  __device__ static State value(State s) { return s; }
};

// The sum of exp(x) as sum * exp(largest).
template <typename A>
struct Exponents {
  A largest, sum;
};
template <typename A>
__device__ inline Exponents<A> shuffled(Exponents<A> s, int step) {
  return {shuffled(s.largest, step), shuffled(s.sum, step)};
}

template <typename T>
struct LogSumExpFold {
  using A = total_t<T>;
  using State = Exponents<A>;
  static constexpr int unroll = 1;
  int kind;

  // Of equal infinities the difference is no number.
  __device__ static A scaled(A sum, A from, A to) {
    return from == to ? sum : sum * exp(from - to);
  }
  __device__ State neutral() const { return {-static_cast<A>(INFINITY), 0}; }
  __device__ State take(State s, A x) const { return join(s, {x, 1}); }
  __device__ State join(State a, State b) const {
    const A largest = Largest()(a.largest, b.largest);
    return {largest, scaled(a.sum, a.largest, largest) + scaled(b.sum, b.largest, largest)};
  }
  __device__ static A value(State s) { return log(s.sum) + s.largest; }
};

// How many, their mean, and the sum of squared distances from it.
template <typename A>
struct Moments {
  A count, mean, squares;
};
template <typename A>
__device__ inline Moments<A> shuffled(Moments<A> s, int step) {
  return {shuffled(s.count, step), shuffled(s.mean, step), shuffled(s.squares, step)};
}

template <typename T>
struct MomentsFold {
  using A = total_t<T>;
  using State = Moments<A>;
  static constexpr int unroll = 1;
  int kind;

  __device__ State neutral() const { return {0, 0, 0}; }
  __device__ State take(State s, A x) const {
    s.count += 1;
    const A distance = x - s.mean;
    s.mean += distance / s.count;
    s.squares += distance * (x - s.mean);
    return s;
  }
  __device__ State join(State a, State b) const {
    if (a.count == 0) return b;
    if (b.count == 0) return a;
    const A count = a.count + b.count, part = b.count / count, distance = b.mean - a.mean;
    return {count, a.mean + distance * part,
            a.squares + b.squares + distance * distance * (a.count * part)};
  }
  __device__ static A value(State s) { return s.mean; }
};

enum Finish { nothing = 0, divide = 1, root = 2, logarithm = 3 };

template <typename A>
__device__ inline A finished(int finish, A value, int64_t count) {
  if constexpr (IsFloat<A>::value) {
    if (finish == divide) return value / static_cast<A>(count);
    if (finish == root) return sqrt(value);
    if (finish == logarithm) return log(value);
  } else {
    if (finish == divide) return count == 0 ? 0 : value / static_cast<A>(count);
    if (finish == root) return static_cast<A>(sqrt(static_cast<double>(value)));
  }
  return value;
}

template <typename T, typename A>
__device__ inline T stored(A value) {
  return narrow<T>(value);
}
template <>
__device__ inline bool stored<bool, int64_t>(int64_t value) {
  return value != 0;
}

// One more value for a state: an element, or a state itself.
template <bool joins, typename Fold, typename In>
__device__ inline typename Fold::State taken(const Fold& fold, typename Fold::State state, In x) {
  if constexpr (joins) {
    return fold.join(state, x);
  } else {
    return fold.take(state, static_cast<total_t<In>>(widen(x)));
  }
}

// Where results go: to `states` as they are, or finished to `y` when `states` is null.
template <typename T, typename Fold>
struct Target {
  T* y;
  typename Fold::State* states;
  int finish;
  int64_t count;

  __device__ void put(int64_t at, typename Fold::State state) const {
    if (states != nullptr) {
      states[at] = state;
    } else {
      y[at] = stored<T>(finished(finish, Fold::value(state), count));
    }
  }
};

// A team of `lanes` threads for each piece of each row of n; a row has `pieces` of `length`.
template <bool joins, typename T, typename In, typename Fold>
__device__ void reduce_rows(const Fold& fold, const In* x, const Target<T, Fold>& target,
                            int64_t rows, int64_t n, int64_t pieces, int64_t length, int lanes,
                            bool aligned) {
  constexpr int width = joins || !IsFloat<total_t<In>>::value ? 1 : 16 / sizeof(In);
  const int lane = threadIdx.x % lanes;
  const int64_t id = static_cast<int64_t>(blockIdx.x) * (blockDim.x / lanes) + threadIdx.x / lanes;
  const bool is_used = id < rows * pieces;
  const int64_t row = pieces == 1 ? id : id / pieces, start = (id - row * pieces) * length;
  const int64_t size = is_used ? (n - start < length ? n - start : length) : 0;
  const In* from = x + row * n + start;
  typename Fold::State state = fold.neutral();
#pragma unroll Fold::unroll
  for (int64_t first = lane * width; first < size; first += static_cast<int64_t>(lanes) * width) {
    if constexpr (width == 1) {
      state = taken<joins>(fold, state, from[first]);
    } else if (aligned) {
      const Packed<In> pack = *reinterpret_cast<const Packed<In>*>(from + first);
#pragma unroll
      for (int i = 0; i < width; ++i) state = taken<joins>(fold, state, pack.data[i]);
    } else {
#pragma unroll
      for (int i = 0; i < width; ++i) {
        if (first + i < size) state = taken<joins>(fold, state, from[first + i]);
      }
    }
  }
  state = team_join(fold, state, lanes);
  if (is_used && lane == 0) target.put(id, state);
}

constexpr int column_threads = 512;

// A block has `lanes` threads for each of its columns, side by side; a thread takes every
// `lanes`-th element of a piece.
template <bool joins, typename T, typename In, typename Fold>
__device__ void reduce_columns(const Fold& fold, const In* x, const Target<T, Fold>& target,
                               int64_t outer, int64_t n, int64_t inner, int64_t pieces,
                               int64_t length, int lanes) {
  __shared__ typename Fold::State states[column_threads];
  const int width = blockDim.x / lanes, column = threadIdx.x % width, lane = threadIdx.x / width;
  const int64_t id = static_cast<int64_t>(blockIdx.x) * width + column;
  const bool is_used = id < outer * pieces * inner;
  typename Fold::State state = fold.neutral();
  if (is_used) {
    const int64_t group = id / inner, first = pieces == 1 ? 0 : group % pieces * length;
    const int64_t end = n - first < length ? n : first + length;
    const In* from = x + (pieces == 1 ? group : group / pieces) * n * inner + (id - group * inner);
#pragma unroll Fold::unroll
    for (int64_t i = first + lane; i < end; i += lanes) {
      state = taken<joins>(fold, state, from[i * inner]);
    }
  }
#pragma unroll 1
  for (int step = lanes / 2; step > 0; step /= 2) {
    states[threadIdx.x] = state;
    __syncthreads();
    if (lane < step) state = fold.join(state, states[threadIdx.x + step * width]);
    __syncthreads();
  }
  if (is_used && lane == 0) target.put(id, state);
}

#define KERNELS(fold, Fold, name, T)                                                              \
  extern "C" __global__ void reduce_rows_##fold##_##name(                                         \
      const T* x, T* y, void* states, int64_t rows, int64_t n, int64_t pieces, int64_t length,    \
      int32_t lanes, int32_t aligned, int32_t kind, int32_t finish, int64_t count) {              \
    wait_for_previous_kernels();                                                                  \
    const Target<T, Fold<T>> target{y, static_cast<Fold<T>::State*>(states), finish, count};      \
    reduce_rows<false>(Fold<T>{kind}, x, target, rows, n, pieces, length, lanes, aligned != 0);   \
  }                                                                                               \
  extern "C" __global__ void join_rows_##fold##_##name(                                           \
      const void* x, T* y, void* states, int64_t rows, int64_t n, int64_t pieces, int64_t length, \
      int32_t lanes, int32_t aligned, int32_t kind, int32_t finish, int64_t count) {              \
    wait_for_previous_kernels();                                                                  \
    using State = Fold<T>::State;                                                                 \
    const Target<T, Fold<T>> target{y, static_cast<State*>(states), finish, count};               \
    reduce_rows<true>(Fold<T>{kind}, static_cast<const State*>(x), target, rows, n, pieces,       \
                      length, lanes, aligned != 0);                                               \
  }                                                                                               \
  extern "C" __global__ void reduce_columns_##fold##_##name(                                      \
      const T* x, T* y, void* states, int64_t outer, int64_t n, int64_t inner, int64_t pieces,    \
      int64_t length, int32_t lanes, int32_t kind, int32_t finish, int64_t count) {               \
    wait_for_previous_kernels();                                                                  \
    const Target<T, Fold<T>> target{y, static_cast<Fold<T>::State*>(states), finish, count};      \
    reduce_columns<false>(Fold<T>{kind}, x, target, outer, n, inner, pieces, length, lanes);      \
  }                                                                                               \
  extern "C" __global__ void join_columns_##fold##_##name(                                        \
      const void* x, T* y, void* states, int64_t outer, int64_t n, int64_t inner, int64_t pieces, \
      int64_t length, int32_t lanes, int32_t kind, int32_t finish, int64_t count) {               \
    wait_for_previous_kernels();                                                                  \
    using State = Fold<T>::State;                                                                 \
    const Target<T, Fold<T>> target{y, static_cast<State*>(states), finish, count};               \
    reduce_columns<true>(Fold<T>{kind}, static_cast<const State*>(x), target, outer, n, inner,    \
                         pieces, length, lanes);                                                  \
  }

#define SUM(name, T) KERNELS(sum, SumFold, name, T)
#define OTHER(name, T) KERNELS(other, OtherFold, name, T)
