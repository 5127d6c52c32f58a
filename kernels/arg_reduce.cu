// SPDX-License-Identifier: Apache-2.0
// ArgMax and ArgMin along one axis of [outer, n, inner]: the number of the first (or last) of the
// largest (smallest) elements. NaN comes before every number. Long axes are searched in pieces,
// whose results are joined by a second kernel.
#include "reduction.cuh"

// An element and its number; -1: there is none.
template <typename A>
struct Candidate {
  A value;
  int64_t index;
};
template <typename A>
__device__ inline Candidate<A> shuffled(Candidate<A> s, int step) {
  return {shuffled(s.value, step), shuffled(s.index, step)};
}

template <typename A>
struct BestFold {
  bool largest, last;

  __device__ Candidate<A> neutral() const { return {0, -1}; }
  __device__ Candidate<A> join(Candidate<A> a, Candidate<A> b) const { return wins(b, a) ? b : a; }
  __device__ bool wins(Candidate<A> a, Candidate<A> b) const {
    if (a.index < 0 || b.index < 0) return b.index < 0;
    const bool a_is_nan = a.value != a.value, b_is_nan = b.value != b.value;
    if (a.value == b.value || (a_is_nan && b_is_nan)) {
      return last ? a.index > b.index : a.index < b.index;
    }
    if (a_is_nan || b_is_nan) return a_is_nan;
    return largest ? a.value > b.value : a.value < b.value;
  }
};

template <typename T>
__device__ inline total_t<T> compared(T x) {
  return static_cast<total_t<T>>(widen(x));
}

// A team of `lanes` threads for each piece of each row.
template <typename T>
__device__ void search_rows(const BestFold<total_t<T>>& fold, const T* x, int64_t* indices,
                            int64_t rows, int64_t n, int64_t pieces, int64_t length, int lanes) {
  const int lane = threadIdx.x % lanes;
  const int64_t id = static_cast<int64_t>(blockIdx.x) * (blockDim.x / lanes) + threadIdx.x / lanes;
  const bool is_used = id < rows * pieces;
  const int64_t row = id / pieces, start = id % pieces * length;
  const int64_t end = is_used ? (n - start < length ? n : start + length) : 0;
  Candidate<total_t<T>> best = fold.neutral();
#pragma unroll 4
  for (int64_t i = start + lane; i < end; i += lanes) {
    best = fold.join(best, {compared(x[row * n + i]), i});
  }
  best = team_join(fold, best, lanes);
  if (is_used && lane == 0) indices[id] = best.index;
}

// A thread for each piece of each column.
template <typename T>
__device__ void search_columns(const BestFold<total_t<T>>& fold, const T* x, int64_t* indices,
                               int64_t outer, int64_t n, int64_t inner, int64_t pieces,
                               int64_t length) {
  const int64_t id = thread_number();
  if (id >= outer * pieces * inner) return;
  const int64_t group = id / inner, start = group % pieces * length;
  const int64_t end = n - start < length ? n : start + length;
  const T* from = x + group / pieces * n * inner + id % inner;
  Candidate<total_t<T>> best = fold.neutral();
#pragma unroll 4
  for (int64_t i = start; i < end; ++i) {
    best = fold.join(best, {compared(from[i * inner]), i});
  }
  indices[id] = best.index;
}

// A thread for each column: the best of the results for its pieces.
template <typename T>
__device__ void join_pieces(const BestFold<total_t<T>>& fold, const T* x, const int64_t* indices,
                            int64_t* y, int64_t outer, int64_t n, int64_t inner, int64_t pieces) {
  const int64_t id = thread_number();
  if (id >= outer * inner) return;
  const int64_t group = id / inner, column = id % inner;
  Candidate<total_t<T>> best = fold.neutral();
  for (int64_t piece = 0; piece < pieces; ++piece) {
    const int64_t index = indices[(group * pieces + piece) * inner + column];
    best = fold.join(best, {compared(x[(group * n + index) * inner + column]), index});
  }
  y[id] = best.index;
}

#define KERNEL(name, T)                                                                          \
  extern "C" __global__ void arg_rows_##name(const T* x, int64_t* indices, int64_t rows,         \
                                             int64_t n, int64_t pieces, int64_t length,          \
                                             int32_t lanes, int32_t largest, int32_t last) {     \
    wait_for_previous_kernels();                                                                 \
    search_rows<T>({largest != 0, last != 0}, x, indices, rows, n, pieces, length, lanes);       \
  }                                                                                              \
  extern "C" __global__ void arg_columns_##name(const T* x, int64_t* indices, int64_t outer,     \
                                                int64_t n, int64_t inner, int64_t pieces,        \
                                                int64_t length, int32_t largest, int32_t last) { \
    wait_for_previous_kernels();                                                                 \
    search_columns<T>({largest != 0, last != 0}, x, indices, outer, n, inner, pieces, length);   \
  }                                                                                              \
  extern "C" __global__ void arg_join_##name(const T* x, const int64_t* indices, int64_t* y,     \
                                             int64_t outer, int64_t n, int64_t inner,            \
                                             int64_t pieces, int32_t largest, int32_t last) {    \
    wait_for_previous_kernels();                                                                 \
    join_pieces<T>({largest != 0, last != 0}, x, indices, y, outer, n, inner, pieces);           \
  }
FOR_NUMBERS(KERNEL)
