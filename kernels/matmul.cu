// SPDX-License-Identifier: Apache-2.0
// Matrix products of any type and layout, and what cuBLASLt leaves to be done after its products.
#include "activation.cuh"

namespace {

constexpr int most_axes = 8;
constexpr int tile = 64, depth = 16, tile_threads = 256;

// The axes of a batch, outermost first, with the elements from one matrix to the next along them.
struct Batch {
  int64_t axes;
  int64_t sizes[most_axes];
  int64_t a[most_axes];
  int64_t b[most_axes];
};

// Sums of integers are taken modulo 2^bits, where overflow of signed ones is undefined.
template <typename T>
struct Summed {
  using type = wide_t<T>;
};
template <>
struct Summed<int32_t> {
  using type = uint32_t;
};
template <>
struct Summed<int64_t> {
  using type = uint64_t;
};

template <typename T>
struct Limits;
template <>
struct Limits<int32_t> {
  static constexpr int32_t least = INT32_MIN, largest = INT32_MAX;
};
template <>
struct Limits<int64_t> {
  static constexpr int64_t least = INT64_MIN, largest = INT64_MAX;
};
template <>
struct Limits<uint32_t> {
  static constexpr uint32_t least = 0, largest = UINT32_MAX;
};
template <>
struct Limits<uint64_t> {
  static constexpr uint64_t least = 0, largest = UINT64_MAX;
};

// factor * value: modulo 2^bits by a whole factor; by another one in double, cut toward zero and to
// the range of T.
template <typename T>
__device__ T scaled_integer(float factor, T value) {
  using U = typename Summed<T>::type;
  if (fabsf(factor) < 9223372036854775808.0f && truncf(factor) == factor) {
    return static_cast<T>(static_cast<U>(static_cast<int64_t>(factor)) * static_cast<U>(value));
  }
  const double exact = static_cast<double>(factor) * static_cast<double>(value);
  if (exact != exact) return 0;
  if (exact <= static_cast<double>(Limits<T>::least)) return Limits<T>::least;
  if (exact >= static_cast<double>(Limits<T>::largest)) return Limits<T>::largest;
  return static_cast<T>(exact);
}

template <typename T>
struct IntegerEpilogue {
  const T* bias;
  const T* residual;
  float alpha;

  __device__ T operator()(typename Summed<T>::type sum, int64_t index, int64_t column) const {
    using U = typename Summed<T>::type;
    U value = static_cast<U>(scaled_integer(alpha, static_cast<T>(sum)));
    if (bias != nullptr) value += static_cast<U>(bias[column]);
    if (residual != nullptr) value += static_cast<U>(residual[index]);
    return static_cast<T>(value);
  }
};

// A tile of one operand: along its lines and along k. Threads that follow each other read elements
// that do, in whichever direction that is.
template <typename T, typename W>
__device__ void load_tile(W (*to)[tile + 4], const T* from, int64_t lines, int64_t first,
                          int64_t line_stride, int64_t k, int64_t first_k, int64_t k_stride) {
  for (int i = threadIdx.x; i < tile * depth; i += tile_threads) {
    const int line = k_stride == 1 ? i / depth : i % tile;
    const int inner = k_stride == 1 ? i % depth : i / tile;
    const bool inside = first + line < lines && first_k + inner < k;
    to[inner][line] =
        inside ? static_cast<W>(
                     widen(from[(first + line) * line_stride + (first_k + inner) * k_stride]))
               : W(0);
  }
}

// A block makes 64 x 64 elements, a thread 4 x 4 of them.
template <typename T, typename Finish>
__device__ void multiply_tiles(const T* a, const T* b, T* y, int64_t m, int64_t n, int64_t k,
                               int64_t a_row, int64_t a_column, int64_t b_row, int64_t b_column,
                               const Batch& batch, const Finish& finish) {
  using W = typename Summed<T>::type;
  __shared__ W a_tile[depth][tile + 4], b_tile[depth][tile + 4];
  const int64_t column_tiles = (n + tile - 1) / tile, row_tiles = (m + tile - 1) / tile;
  const int64_t first_column = blockIdx.x % column_tiles * tile;
  const int64_t first_row = blockIdx.x / column_tiles % row_tiles * tile;
  const int64_t item = blockIdx.x / column_tiles / row_tiles;
  int64_t rest = item;
  for (int64_t axis = batch.axes - 1; axis >= 0; --axis) {
    const int64_t at = rest % batch.sizes[axis];
    rest /= batch.sizes[axis];
    a += at * batch.a[axis];
    b += at * batch.b[axis];
  }
  const int column = threadIdx.x % 16 * 4, row = threadIdx.x / 16 * 4;
  W sums[4][4] = {};
  for (int64_t first_k = 0; first_k < k; first_k += depth) {
    load_tile(a_tile, a, m, first_row, a_row, k, first_k, a_column);
    load_tile(b_tile, b, n, first_column, b_column, k, first_k, b_row);
    __syncthreads();
#pragma unroll
    for (int inner = 0; inner < depth; ++inner) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          sums[i][j] += a_tile[inner][row + i] * b_tile[inner][column + j];
        }
      }
    }
    __syncthreads();
  }
  for (int i = 0; i < 4 && first_row + row + i < m; ++i) {
    for (int j = 0; j < 4 && first_column + column + j < n; ++j) {
      const int64_t index = (item * m + first_row + row + i) * n + first_column + column + j;
      y[index] = finish(sums[i][j], index, first_column + column + j);
    }
  }
}

// factor * x, spread over rows and columns by strides.
template <typename T>
__device__ T scaled(float factor, T value) {
  return scaled_integer(factor, value);
}
template <>
__device__ float scaled(float factor, float value) {
  return factor * value;
}
template <>
__device__ double scaled(float factor, double value) {
  return factor * value;
}
template <>
__device__ float16 scaled(float factor, float16 value) {
  return narrow<float16>(factor * widen(value));
}
template <>
__device__ bfloat16 scaled(float factor, bfloat16 value) {
  return narrow<bfloat16>(factor * widen(value));
}

}  // namespace

#define TILED_FLOATS(name, T)                                                                     \
  extern "C" __global__ void __launch_bounds__(256)                                               \
      matmul_tiled_##name(const T* __restrict__ a, const T* __restrict__ b, T* __restrict__ y,    \
                          int64_t m, int64_t n, int64_t k, int64_t a_row, int64_t a_column,       \
                          int64_t b_row, int64_t b_column, Batch batch, EPILOGUE_PARAMETERS(T)) { \
    multiply_tiles(a, b, y, m, n, k, a_row, a_column, b_row, b_column, batch, EPILOGUE(T));       \
  }
FOR_FLOATS(TILED_FLOATS)

#define FOR_SUMMED_INTEGERS(X) \
  X(int32, int32_t) X(int64, int64_t) X(uint32, uint32_t) X(uint64, uint64_t)
#define TILED_INTEGERS(name, T)                                                                   \
  extern "C" __global__ void __launch_bounds__(256)                                               \
      matmul_tiled_##name(const T* __restrict__ a, const T* __restrict__ b, T* __restrict__ y,    \
                          int64_t m, int64_t n, int64_t k, int64_t a_row, int64_t a_column,       \
                          int64_t b_row, int64_t b_column, Batch batch, EPILOGUE_PARAMETERS(T)) { \
    multiply_tiles(a, b, y, m, n, k, a_row, a_column, b_row, b_column, batch,                     \
                   IntegerEpilogue<T>{bias, residual, alpha});                                    \
  }
FOR_SUMMED_INTEGERS(TILED_INTEGERS)

#define ADDEND(name, T)                                                                 \
  extern "C" __global__ void matmul_addend_##name(                                      \
      const T* __restrict__ x, T* __restrict__ y, int64_t rows, int64_t columns,        \
      int64_t row_stride, int64_t column_stride, float factor) {                        \
    for (int64_t i = thread_number(); i < rows * columns; i += thread_count()) {        \
      y[i] = scaled(factor, x[i / columns * row_stride + i % columns * column_stride]); \
    }                                                                                   \
  }
FOR_FLOATS(ADDEND)
FOR_SUMMED_INTEGERS(ADDEND)
