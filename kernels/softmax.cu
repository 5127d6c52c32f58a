// SPDX-License-Identifier: Apache-2.0
// Softmax, LogSoftmax and Hardmax along one axis: maximum m, then e = exp(x - m) and its sum s,
// then e / s, or (x - m) - log(s). A line with nothing but -Inf, or with NaN, gives NaN.
#include "rows.cuh"

template <typename T>
struct LoadRow {
  const T* row;
  int64_t n;
  bool aligned;

  __device__ Pack<T> operator()(int64_t first, wide_t<T> fill) const {
    return load_pack(row, first, n, aligned, fill);
  }
};

// A row that its team holds in registers.
template <typename T, int packs, typename Team>
__device__ void softmax_held(const T* x, T* y, int64_t rows, int64_t n, bool aligned,
                             bool logarithm) {
  using W = wide_t<T>;
  const int64_t number = Team::row();
  if (number >= rows) return;
  const W lowest = -static_cast<W>(INFINITY);
  Team team(n);
  const LoadRow<T> load{x + number * n, n, aligned};
  HeldRow<T, packs, Team, LoadRow<T>> row(load, n, lowest);
  W top = lowest;
  row.each([&](int64_t, const Pack<T>& pack) { top = Largest()(top, largest_of_pack(pack)); });
  top = team.reduce(top, lowest, Largest());
  W sum = 0;
  row.each([&](int64_t, Pack<T>& pack) {
    Pack<T> exponents;
#pragma unroll
    for (int i = 0; i < Pack<T>::width; ++i) {
      pack.data[i] -= top;
      exponents.data[i] = exp(pack.data[i]);
    }
    sum += sum_of_pack(exponents, [](W e) { return e; });
    if (!logarithm) pack = exponents;
  });
  sum = team.reduce(sum, W(0), Sum());
  const W scale = 1 / sum, shift = logarithm ? log(sum) : 0;
  T* to = y + number * n;
  row.each([&](int64_t first, Pack<T>& pack) {
#pragma unroll
    for (int i = 0; i < Pack<T>::width; ++i) {
      pack.data[i] = logarithm ? pack.data[i] - shift : pack.data[i] * scale;
    }
    store_pack(to, first, n, aligned, pack);
  });
}

// The largest of a part of a line, and the sum of the exponentials of the distances from it.
template <typename W>
struct Partial {
  W top, sum;

  // The sum, now relative to `largest`.
  __device__ void rise(W largest) {
    if (top != largest) sum *= exp(top - largest);
    top = largest;
  }
};

// A row of any length: one pass for maximum and sum together, one for the result.
template <typename T>
__device__ void softmax_streamed(const T* x, T* y, int64_t rows, int64_t n, bool aligned,
                                 bool logarithm) {
  using W = wide_t<T>;
  const int64_t number = BlockTeam::row();
  const W lowest = -static_cast<W>(INFINITY);
  const LoadRow<T> load{x + number * n, n, aligned};
  StreamedRow<T, BlockTeam, LoadRow<T>> row(load, n, lowest);
  Partial<W> part{lowest, 0};
  row.each([&](int64_t, const Pack<T>& pack) {
    part.rise(Largest()(part.top, largest_of_pack(pack)));
    if (part.top == lowest) return;  // nothing but -Inf so far
    part.sum += sum_of_pack(pack, [&](W v) { return exp(v - part.top); });
  });
  BlockTeam team(n);
  const W top = team.reduce(part.top, lowest, Largest());
  part.rise(top);
  const W sum = team.reduce(part.sum, W(0), Sum());
  const W scale = 1 / sum, shift = logarithm ? log(sum) : 0;
  T* to = y + number * n;
  row.each([&](int64_t first, Pack<T>& pack) {
#pragma unroll
    for (int i = 0; i < Pack<T>::width; ++i) {
      const W distance = pack.data[i] - top;
      pack.data[i] = logarithm ? distance - shift : exp(distance) * scale;
    }
    store_pack(to, first, n, aligned, pack);
  });
}

constexpr int column_threads = 256;

// Columns of [outer, n, inner] side by side, `lanes` threads for each.
template <typename T>
__device__ void softmax_columns(const T* x, T* y, int64_t outer, int64_t n, int64_t inner,
                                int lanes, bool logarithm) {
  using W = wide_t<T>;
  __shared__ W tops[column_threads];
  __shared__ W sums[column_threads];
  const int width = blockDim.x / lanes, column = threadIdx.x % width, lane = threadIdx.x / width;
  const int64_t id = static_cast<int64_t>(blockIdx.x) * width + column;
  const bool is_used = id < outer * inner;
  const int64_t offset = id / inner * n * inner + id % inner, end = is_used ? n : 0;
  const W lowest = -static_cast<W>(INFINITY);
  Partial<W> part{lowest, 0};
  for (int64_t i = lane; i < end; i += lanes) {
    const W value = widen(x[offset + i * inner]);
    part.rise(Largest()(part.top, value));
    if (part.top != lowest) part.sum += exp(value - part.top);
  }
  tops[threadIdx.x] = part.top;
  sums[threadIdx.x] = part.sum;
  __syncthreads();
  W top = lowest, sum = 0;
  for (int k = 0; k < lanes; ++k) top = Largest()(top, tops[k * width + column]);
  for (int k = 0; k < lanes; ++k) {
    const W own = tops[k * width + column], own_sum = sums[k * width + column];
    sum += own == top ? own_sum : own_sum * exp(own - top);
  }
  const W scale = 1 / sum, shift = logarithm ? log(sum) : 0;
  for (int64_t i = lane; i < end; i += lanes) {
    const W distance = widen(x[offset + i * inner]) - top;
    y[offset + i * inner] = narrow<T>(logarithm ? distance - shift : exp(distance) * scale);
  }
}

// A warp for each line of [outer, n, inner]: one at the first of its largest elements, zero
// elsewhere. NaN is larger than nothing; no element is larger than NaN in front.
template <typename T>
__device__ void hardmax_lines(const T* x, T* y, int64_t lines, int64_t n, int64_t inner) {
  using W = wide_t<T>;
  const int64_t id = WarpTeam<32>::row();
  if (id >= lines) return;
  const int64_t offset = id / inner * n * inner + id % inner;
  const W in_front = widen(x[offset]);
  W best = in_front;
  int64_t index = 0;
  for (int64_t i = threadIdx.x % 32; i < n; i += 32) {
    const W value = widen(x[offset + i * inner]);
    if (value > best) {
      best = value;
      index = i;
    }
  }
  for (int step = 16; step > 0; step /= 2) {
    const W value = __shfl_xor_sync(0xffffffffu, best, step);
    const int64_t other = __shfl_xor_sync(0xffffffffu, index, step);
    if (value > best || (value == best && other < index)) {
      best = value;
      index = other;
    }
  }
  for (int64_t i = threadIdx.x % 32; i < n; i += 32) {
    y[offset + i * inner] = narrow<T>(static_cast<W>(i == index ? 1 : 0));
  }
}

#define HELD(kind, bound, name, T, elements, ...)                                        \
  extern "C" __global__ void __launch_bounds__(bound) softmax_##kind##_##name(           \
      const T* x, T* y, int64_t rows, int64_t n, int32_t aligned, int32_t logarithm) {   \
    wait_for_previous_kernels();                                                         \
    softmax_held<T, elements / Pack<T>::width, __VA_ARGS__>(x, y, rows, n, aligned != 0, \
                                                            logarithm != 0);             \
  }
#define KERNELS(name, T)                                                                        \
  HELD(warp_8, 256, name, T, 32, WarpTeam<8>)                                                   \
  HELD(warp_16, 256, name, T, 32, WarpTeam<16>)                                                 \
  HELD(warp_32, 256, name, T, 32, WarpTeam<32>)                                                 \
  HELD(spread_16, 256, name, T, Pack<T>::width, SpreadWarpTeam<16>)                             \
  HELD(spread_32, 256, name, T, Pack<T>::width, SpreadWarpTeam<32>)                             \
  HELD(spread_block, 1024 / Pack<T>::width, name, T, Pack<T>::width,                            \
       SpreadBlockTeam<Pack<T>::width>)                                                         \
  HELD(block, 1024, name, T, 8, BlockTeam)                                                      \
  extern "C" __global__ void __launch_bounds__(1024) softmax_long_##name(                       \
      const T* x, T* y, int64_t rows, int64_t n, int32_t aligned, int32_t logarithm) {          \
    wait_for_previous_kernels();                                                                \
    softmax_streamed(x, y, rows, n, aligned != 0, logarithm != 0);                              \
  }                                                                                             \
  extern "C" __global__ void softmax_columns_##name(const T* x, T* y, int64_t outer, int64_t n, \
                                                    int64_t inner, int32_t lanes,               \
                                                    int32_t logarithm) {                        \
    wait_for_previous_kernels();                                                                \
    softmax_columns(x, y, outer, n, inner, lanes, logarithm != 0);                              \
  }                                                                                             \
  extern "C" __global__ void hardmax_##name(const T* x, T* y, int64_t lines, int64_t n,         \
                                            int64_t inner) {                                    \
    wait_for_previous_kernels();                                                                \
    hardmax_lines(x, y, lines, n, inner);                                                       \
  }
FOR_FLOATS(KERNELS)
