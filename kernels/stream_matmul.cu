// SPDX-License-Identifier: Apache-2.0
// parts: float16 bfloat16
//
// Products of a few rows with 16-bit weights, [n, k]: as fast as the weights can be read.
#include "stream.cuh"

namespace {

template <typename T>
struct Weights {
  static constexpr int depth = 5, entry_bytes = 2 * 32 * 16;
  static constexpr int together = 32, segments = 1;

  const T* data;
  int k;
  const T* columns[2];  // of the lane, from its first element on
  int left;             // elements from there on

  __device__ static int order(int i) { return i; }

  __device__ void select(int column, int second) {
    const int t = threadIdx.x % 4;
    columns[0] = data + static_cast<int64_t>(column) * k + t * 8;
    columns[1] = data + static_cast<int64_t>(second) * k + t * 8;
    left = k - t * 8;
  }

  __device__ void fetch(int group, unsigned char* entry) const {
    uint4* to = reinterpret_cast<uint4*>(entry) + threadIdx.x % 32;
    const int at = group * together;
#pragma unroll
    for (int i = 0; i < 2; ++i) copy_16_bytes(to + 32 * i, columns[i] + at, at < left);
  }

  __device__ void multiply(int, int, const unsigned char* entry, const uint4* from,
                           float (&sums)[4]) const {
    const uint4* own = reinterpret_cast<const uint4*>(entry) + threadIdx.x % 32;
    const uint4 low = own[0], high = own[32], x = *from;
    const uint32_t first[4] = {low.x, high.x, low.y, high.y};
    const uint32_t second[4] = {low.z, high.z, low.w, high.w};
    multiply_tiles<T>(sums, first, x.x, x.y);
    multiply_tiles<T>(sums, second, x.z, x.w);
  }
};

}  // namespace

#define ENTRY(name, T)                                                                         \
  extern "C" __global__ void __launch_bounds__(32 * stream_warps, 2) stream_matmul_##name(     \
      const T* x, const T* w, T* y, const T* norm, const T* shift, float epsilon, int centers, \
      int m, int n, int k, int slices, int depth, int constant, EPILOGUE_PARAMETERS(T)) {      \
    wait_for_previous_kernels(true);                                                           \
    const Product<T> product{x, norm, shift,  y,     epsilon, centers, m,                      \
                             n, k,    slices, depth, 0,       constant};                       \
    Weights<T> weights{w, k, {}, 0};                                                           \
    multiply_streamed(product, weights, EPILOGUE(T));                                          \
  }
FOR_TYPE(ENTRY, float16, float16)
FOR_TYPE(ENTRY, bfloat16, bfloat16)
