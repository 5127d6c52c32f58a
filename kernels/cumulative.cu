// SPDX-License-Identifier: Apache-2.0
// CumSum and CumProd along one axis of [outer, n, inner]. Integers wrap around.
#include "reduction.cuh"

template <typename A>
struct Running {
  bool product;

  __device__ A neutral() const { return product ? 1 : 0; }
  __device__ A join(A a, A b) const { return product ? multiply(a, b) : add(a, b); }
};

// A thread for each line, one element after the other.
template <typename T>
__device__ void scan_lines(const Running<total_t<T>>& running, const T* x, T* y, int64_t lines,
                           int64_t n, int64_t inner, bool exclusive, bool reverse) {
  const int64_t id = thread_number();
  if (id >= lines) return;
  const int64_t line = id / inner * n * inner + id % inner;
  total_t<T> total = running.neutral();
  for (int64_t i = 0; i < n; ++i) {
    const int64_t at = line + (reverse ? n - 1 - i : i) * inner;
    const total_t<T> before = total;
    total = running.join(total, static_cast<total_t<T>>(widen(x[at])));
    y[at] = stored<T>(exclusive ? before : total);
  }
}

// A block for each line, as many elements at a time as it has threads: a scan of each warp, and one
// of the warps' totals.
template <typename T>
__device__ void scan_line(const Running<total_t<T>>& running, const T* x, T* y, int64_t n,
                          int64_t inner, bool exclusive, bool reverse) {
  using A = total_t<T>;
  __shared__ A totals[32];
  const int64_t id = blockIdx.x, line = id / inner * n * inner + id % inner;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  A carry = running.neutral();
  for (int64_t start = 0; start < n; start += blockDim.x) {
    const int64_t i = start + threadIdx.x, at = line + (reverse ? n - 1 - i : i) * inner;
    A value = i < n ? static_cast<A>(widen(x[at])) : running.neutral();
    for (int step = 1; step < 32; step *= 2) {
      const A other = __shfl_up_sync(0xffffffffu, value, step);
      if (lane >= step) value = running.join(other, value);
    }
    A before = __shfl_up_sync(0xffffffffu, value, 1);
    if (lane == 0) before = running.neutral();
    if (lane == 31) totals[warp] = value;
    __syncthreads();
    if (warp == 0) {
      A total = lane < warps ? totals[lane] : running.neutral();
      for (int step = 1; step < 32; step *= 2) {
        const A other = __shfl_up_sync(0xffffffffu, total, step);
        if (lane >= step) total = running.join(other, total);
      }
      totals[lane] = total;
    }
    __syncthreads();
    const A of_warps = warp > 0 ? running.join(carry, totals[warp - 1]) : carry;
    if (i < n) y[at] = stored<T>(running.join(of_warps, exclusive ? before : value));
    carry = running.join(carry, totals[warps - 1]);
    __syncthreads();
  }
}

#define KERNEL(name, T)                                                                           \
  extern "C" __global__ void scan_lines_##name(const T* x, T* y, int64_t lines, int64_t n,        \
                                               int64_t inner, int32_t product, int32_t exclusive, \
                                               int32_t reverse) {                                 \
    wait_for_previous_kernels();                                                                  \
    scan_lines<T>({product != 0}, x, y, lines, n, inner, exclusive != 0, reverse != 0);           \
  }                                                                                               \
  extern "C" __global__ void scan_line_##name(const T* x, T* y, int64_t n, int64_t inner,         \
                                              int32_t product, int32_t exclusive,                 \
                                              int32_t reverse) {                                  \
    wait_for_previous_kernels();                                                                  \
    scan_line<T>({product != 0}, x, y, n, inner, exclusive != 0, reverse != 0);                   \
  }
FOR_NUMBERS(KERNEL)
