// SPDX-License-Identifier: Apache-2.0
// Products of a few rows x with a matrix of weights, which are read once, 16 bytes at a time. The
// time is that of reading them.
#include "gemv.cuh"

namespace {

// Threads of a block, at most.
constexpr int most_threads = 256;

// A normalization of the rows of x before the product.
template <typename T>
struct Normalization {
  const T* scale;  // null: none
  const T* bias;   // null, or what is added afterwards
  float epsilon;
  int centers;  // whether the mean is taken off
};

// Each thread's vectors of a row of k elements: the index of the first element, and the elements.
template <typename T, typename Function>
__device__ void each_vector(const T* row, int64_t k, const Function& function) {
  constexpr int width = 16 / sizeof(T);
  for (int64_t at = threadIdx.x * width; at < k; at += blockDim.x * width) {
    float values[width];
    unpack<T>(*reinterpret_cast<const uint4*>(row + at), values);
    function(at, values);
  }
}

// Rows of x to shared memory, normalized. k is a multiple of the width of a vector.
template <typename T>
__device__ void stage(const T* x, int64_t m, int64_t k, const Normalization<T>& norm, T* staged) {
  constexpr int width = 16 / sizeof(T);
  for (int64_t row = 0; row < m; ++row) {
    float mean = 0, squares = 0;
    if (norm.centers) {
      each_vector(x + row * k, k, [&](int64_t, const float* values) {
        for (int i = 0; i < width; ++i) mean += values[i];
      });
      mean = block_reduce(mean, 0.0f, Sum()) / k;
    }
    each_vector(x + row * k, k, [&](int64_t, const float* values) {
      for (int i = 0; i < width; ++i) squares += (values[i] - mean) * (values[i] - mean);
    });
    const float factor = 1 / sqrtf(block_reduce(squares, 0.0f, Sum()) / k + norm.epsilon);
    each_vector(x + row * k, k, [&](int64_t at, const float* values) {
      for (int i = 0; i < width; ++i) {
        float value = (values[i] - mean) * factor * widen(norm.scale[at + i]);
        if (norm.bias != nullptr) value += widen(norm.bias[at + i]);
        staged[row * k + at + i] = narrow<T>(value);
      }
    });
  }
  __syncthreads();
}

// Which columns and which parts of k a warp has: `slices` of the 8 warps of a block share columns.
struct Share {
  int64_t first;
  int slice, lane;

  __device__ Share(int columns, int slices) {
    const int warp = threadIdx.x / 32;
    lane = threadIdx.x % 32;
    slice = warp % slices;
    first =
        (static_cast<int64_t>(blockIdx.x) * (most_threads / 32 / slices) + warp / slices) * columns;
  }
};

// Reads of each column that are under way.
template <int columns>
constexpr int ahead = columns == 1 ? 4 : 2;

template <typename T, int columns>
__device__ void prefetch_rows(const T* weights, int64_t n, int64_t k, int slices) {
  constexpr int width = 16 / sizeof(T);
  const Share share(columns, slices);
  for (int u = 0; u < ahead<columns>; ++u) {
    const int64_t at = ((u * slices + share.slice) * 32 + share.lane) * static_cast<int64_t>(width);
    for (int c = 0; c < columns && at < k && share.first + c < n; ++c) {
      prefetch(weights + (share.first + c) * k + at);
    }
  }
}

// Weights [n, k]: a warp makes `columns` columns for all rows from its part of k.
// k is a multiple of the width of a vector; x and weights are 16-byte aligned.
template <typename T, int rows, int columns>
__device__ void multiply_rows(const T* x, const T* weights, T* y, int64_t m, int64_t n, int64_t k,
                              int slices, const Normalization<T>& norm,
                              const Epilogue<T>& epilogue) {
  constexpr int width = 16 / sizeof(T), count = rows * columns, unroll = ahead<columns>;
  DYNAMIC_SHARED(memory);
  __shared__ float of_warps[most_threads / 32][count];
  if (norm.scale != nullptr) {
    T* staged = reinterpret_cast<T*>(memory);
    stage(x, m, k, norm, staged);
    x = staged;
  }
  const Share share(columns, slices);
  const int64_t step = slices * 32 * static_cast<int64_t>(width);
  float sums[count] = {};
  for (int64_t begin = (share.slice * 32 + share.lane) * static_cast<int64_t>(width); begin < k;
       begin += unroll * step) {
    uint4 packed[unroll][columns];
#pragma unroll
    for (int u = 0; u < unroll; ++u) {
#pragma unroll
      for (int c = 0; c < columns; ++c) {
        packed[u][c] = make_uint4(0, 0, 0, 0);
        if (begin + u * step < k) {
          packed[u][c] = load_once(weights + min(share.first + c, n - 1) * k + begin + u * step);
        }
      }
    }
#pragma unroll
    for (int u = 0; u < unroll; ++u) {
      const int64_t at = begin + u * step;
      if (at >= k) break;
      float numbers[columns][width];
#pragma unroll
      for (int c = 0; c < columns; ++c) unpack<T>(packed[u][c], numbers[c]);
#pragma unroll
      for (int r = 0; r < rows; ++r) {
        float values[width];
        unpack<T>(*reinterpret_cast<const uint4*>(x + min(static_cast<int64_t>(r), m - 1) * k + at),
                  values);
#pragma unroll
        for (int c = 0; c < columns; ++c) {
#pragma unroll
          for (int i = 0; i < width; ++i) sums[r * columns + c] += values[i] * numbers[c][i];
        }
      }
    }
  }
  sum_over_block(sums, of_warps);
  const int groups = most_threads / 32 / slices;
  for (int i = threadIdx.x; i < groups * count; i += most_threads) {
    const int group = i / count, value = i % count;
    const int64_t row = value / columns;
    const int64_t column =
        (static_cast<int64_t>(blockIdx.x) * groups + group) * columns + value % columns;
    if (row >= m || column >= n) continue;
    float sum = 0;
    for (int slice = 0; slice < slices; ++slice) sum += of_warps[group * slices + slice][value];
    y[row * n + column] = epilogue(sum, row * n + column, column);
  }
}

// Weights [k, n]: a block of 256 threads makes the columns of 8 vectors, 128 bytes of each row of
// weights, from `slice` of the k rows. Of several slices each leaves its sums in `parts`,
// [slices, m, n]. n is a multiple of the width of a vector; weights are 16-byte aligned.
template <typename T, int rows>
__device__ void multiply_columns(const T* x, const T* weights, T* y, float* parts, int64_t m,
                                 int64_t n, int64_t k, int64_t slice, const Epilogue<T>& epilogue) {
  constexpr int width = 16 / sizeof(T), across = 8, step = most_threads / across, unroll = 4;
  constexpr int columns = across * width;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * columns;
  const int64_t column = first + threadIdx.x % across * width;
  const int64_t end = min(k, (blockIdx.y + int64_t{1}) * slice);
  float sums[rows][width] = {};
  if (column < n) {
    for (int64_t at = blockIdx.y * slice + threadIdx.x / across; at < end; at += step * unroll) {
      uint4 packed[unroll];
#pragma unroll
      for (int u = 0; u < unroll; ++u) {
        packed[u] = make_uint4(0, 0, 0, 0);
        if (at + u * step < end) packed[u] = load_once(weights + (at + u * step) * n + column);
      }
#pragma unroll
      for (int u = 0; u < unroll; ++u) {
        if (at + u * step >= end) break;
        float numbers[width];
        unpack<T>(packed[u], numbers);
#pragma unroll
        for (int r = 0; r < rows; ++r) {
          const float value = widen(x[min(static_cast<int64_t>(r), m - 1) * k + at + u * step]);
#pragma unroll
          for (int i = 0; i < width; ++i) sums[r][i] += value * numbers[i];
        }
      }
    }
  }
  // Four threads of a warp have the same columns, and each of the eight warps.
  __shared__ float of_warps[most_threads / 32][rows][columns];
#pragma unroll
  for (int r = 0; r < rows; ++r) {
#pragma unroll
    for (int i = 0; i < width; ++i) {
      float sum = sums[r][i];
      sum += __shfl_xor_sync(0xffffffffu, sum, 16);
      sum += __shfl_xor_sync(0xffffffffu, sum, 8);
      if (threadIdx.x % 32 < across) {
        of_warps[threadIdx.x / 32][r][threadIdx.x % across * width + i] = sum;
      }
    }
  }
  __syncthreads();
  for (int i = threadIdx.x; i < rows * columns; i += most_threads) {
    const int64_t r = i / columns, c = first + i % columns;
    if (r >= m || c >= n) continue;
    float sum = 0;
    for (int warp = 0; warp < most_threads / 32; ++warp) sum += of_warps[warp][r][i % columns];
    if (parts != nullptr) {
      parts[(blockIdx.y * m + r) * n + c] = sum;
    } else {
      y[r * n + c] = epilogue(sum, r * n + c, c);
    }
  }
}

}  // namespace

#define ROWS(name, T, rows, columns)                                                             \
  extern "C" __global__ void __launch_bounds__(256) gemv_rows_##rows##_##columns##_##name(       \
      const T* x, const T* w, T* y, int64_t m, int64_t n, int64_t k, int slices, const T* scale, \
      const T* shift, float epsilon, int centers, EPILOGUE_PARAMETERS(T)) {                      \
    prefetch_rows<T, columns>(w, n, k, slices);                                                  \
    wait_for_previous_kernels();                                                                 \
    const Normalization<T> norm = {scale, shift, epsilon, centers};                              \
    multiply_rows<T, rows, columns>(x, w, y, m, n, k, slices, norm, EPILOGUE(T));                \
  }
#define COLUMNS(name, T, rows)                                                                    \
  extern "C" __global__ void __launch_bounds__(256)                                               \
      gemv_columns_##rows##_##name(const T* x, const T* w, T* y, float* parts, int64_t m,         \
                                   int64_t n, int64_t k, int64_t slice, EPILOGUE_PARAMETERS(T)) { \
    wait_for_previous_kernels();                                                                  \
    multiply_columns<T, rows>(x, w, y, parts, m, n, k, slice, EPILOGUE(T));                       \
  }
#define FOR_ROWS(name, T) \
  ROWS(name, T, 1, 1)     \
  ROWS(name, T, 2, 1)     \
  ROWS(name, T, 4, 1)     \
  ROWS(name, T, 8, 1)     \
  ROWS(name, T, 1, 4)     \
  ROWS(name, T, 2, 4)     \
  ROWS(name, T, 4, 4)     \
  ROWS(name, T, 8, 4)     \
  COLUMNS(name, T, 1)     \
  COLUMNS(name, T, 2)     \
  COLUMNS(name, T, 4)     \
  COLUMNS(name, T, 8)

// The sum of the parts [slices, size], in their order.
#define COMBINE(name, T)                                                                           \
  extern "C" __global__ void gemv_combine_##name(                                                  \
      const float* parts, T* y, int64_t slices, int64_t size, int64_t n, EPILOGUE_PARAMETERS(T)) { \
    wait_for_previous_kernels();                                                                   \
    const Epilogue<T> epilogue = EPILOGUE(T);                                                      \
    for (int64_t i = thread_number(); i < size; i += thread_count()) {                             \
      float sum = 0;                                                                               \
      for (int64_t slice = 0; slice < slices; ++slice) sum += parts[slice * size + i];             \
      y[i] = epilogue(sum, i, i % n);                                                              \
    }                                                                                              \
  }

#define FOR_SINGLE(X) X(float32, float) X(float16, float16) X(bfloat16, bfloat16)
FOR_SINGLE(FOR_ROWS)
FOR_SINGLE(COMBINE)
