// SPDX-License-Identifier: Apache-2.0
// Around products whose rows are no multiples of 16 bytes: the first columns of a matrix, as a
// dense matrix that begins at a multiple of 16 bytes; and the columns that products of aligned ones
// leave.
#include "common.cuh"

namespace {

template <typename T>
__device__ void drop_columns(const T* __restrict__ x, T* __restrict__ y, int64_t size, int64_t n,
                             int64_t columns) {
  constexpr int width = 16 / sizeof(T);
  for (int64_t i = thread_number() * width; i < size; i += thread_count() * width) {
    int64_t column = i % n;
    const T* row = x + i / n * columns;
    const int count = static_cast<int>(size - i < width ? size - i : width);
    uint4 packed;
    T* elements = reinterpret_cast<T*>(&packed);
#pragma unroll
    for (int j = 0; j < width; ++j) {
      elements[j] = j < count ? row[column] : T(0);
      if (++column == n) {
        column = 0;
        row += columns;
      }
    }
    if (count == width) {
      *reinterpret_cast<uint4*>(y + i) = packed;
    } else {
      for (int j = 0; j < count; ++j) y[i + j] = elements[j];
    }
  }
}

// x, [m, 3 * unit], holds the first `unit` columns of y and the last 2 * unit, where a unit is 16
// bytes. In each row `width` columns from the first aligned one on are there already.
template <typename T>
__device__ void edge_columns(const T* __restrict__ x, T* __restrict__ y, int64_t m, int64_t n,
                             int64_t width) {
  constexpr int unit = 16 / sizeof(T);
  for (int64_t i = thread_number(); i < m * 3 * unit; i += thread_count()) {
    const int64_t row = i / (3 * unit);
    const int slot = static_cast<int>(i % (3 * unit));
    const int first = static_cast<int>((unit - row * n % unit) % unit);
    const int64_t column = slot < unit ? slot : n - 3 * unit + slot;
    const bool is_left = slot < unit ? column < first : column >= first + width;
    if (is_left) y[row * n + column] = x[i];
  }
}

}  // namespace

#define DROP_COLUMNS(bytes, T)                                                           \
  extern "C" __global__ void __launch_bounds__(256)                                      \
      drop_columns_##bytes(const T* x, T* y, int64_t size, int64_t n, int64_t columns) { \
    drop_columns(x, y, size, n, columns);                                                \
  }
DROP_COLUMNS(2, uint16_t)
DROP_COLUMNS(4, uint32_t)

#define EDGE_COLUMNS(bytes, T)                                                      \
  extern "C" __global__ void __launch_bounds__(256)                                 \
      edge_columns_##bytes(const T* x, T* y, int64_t m, int64_t n, int64_t width) { \
    edge_columns(x, y, m, n, width);                                                \
  }
EDGE_COLUMNS(2, uint16_t)
EDGE_COLUMNS(4, uint32_t)
