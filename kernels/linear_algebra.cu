// SPDX-License-Identifier: Apache-2.0
// Determinants, by elimination with pivots in double; a block of 256 threads takes a matrix.
#include "common.cuh"

namespace {

// `matrix` holds n x n numbers for each block.
template <typename T>
__device__ void determinant(const T* x, T* y, double* matrix, int64_t n) {
  __shared__ int64_t pivot;
  x += static_cast<int64_t>(blockIdx.x) * n * n;
  matrix += static_cast<int64_t>(blockIdx.x) * n * n;
  for (int64_t i = threadIdx.x; i < n * n; i += blockDim.x) matrix[i] = widen(x[i]);
  __syncthreads();
  double result = 1;  // the same in all threads
  for (int64_t k = 0; k < n; ++k) {
    if (threadIdx.x == 0) {
      pivot = k;
      for (int64_t i = k + 1; i < n; ++i) {
        if (fabs(matrix[i * n + k]) > fabs(matrix[pivot * n + k])) pivot = i;
      }
    }
    __syncthreads();
    if (pivot != k) {
      for (int64_t j = threadIdx.x; j < n; j += blockDim.x) {
        const double moved = matrix[k * n + j];
        matrix[k * n + j] = matrix[pivot * n + j];
        matrix[pivot * n + j] = moved;
      }
      result = -result;
    }
    __syncthreads();
    const double head = matrix[k * n + k];
    result *= head;
    if (head == 0) {
      result = 0;
      break;
    }
    const int64_t left = n - k - 1;
    for (int64_t i = threadIdx.x; i < left * left; i += blockDim.x) {
      const int64_t row = k + 1 + i / left, column = k + 1 + i % left;
      matrix[row * n + column] -= matrix[row * n + k] / head * matrix[k * n + column];
    }
    __syncthreads();
  }
  if (threadIdx.x == 0) y[blockIdx.x] = narrow<T>(static_cast<wide_t<T>>(result));
}

}  // namespace

#define DETERMINANT(name, T)                                                                      \
  extern "C" __global__ void __launch_bounds__(256)                                               \
      determinant_##name(const T* __restrict__ x, T* __restrict__ y, double* matrix, int64_t n) { \
    determinant(x, y, matrix, n);                                                                 \
  }
FOR_FLOATS(DETERMINANT)
