// SPDX-License-Identifier: Apache-2.0
// The first columns of a matrix, as a dense matrix that begins at a multiple of 16 bytes.
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

}  // namespace

#define DROP_COLUMNS(bytes, T)                                                           \
  extern "C" __global__ void __launch_bounds__(256)                                      \
      drop_columns_##bytes(const T* x, T* y, int64_t size, int64_t n, int64_t columns) { \
    drop_columns(x, y, size, n, columns);                                                \
  }
DROP_COLUMNS(2, uint16_t)
DROP_COLUMNS(4, uint32_t)
