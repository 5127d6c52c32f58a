// SPDX-License-Identifier: Apache-2.0
// parts: float16 bfloat16
//
// Products of a few rows with 16-bit weights, [n, k]: as fast as the weights can be read.
#include "stream.cuh"

namespace {

template <typename T>
struct Weights {
  static constexpr int depth = 5, more_bytes = 0;
  static constexpr int together = 32, segments = 1, noted_of_group = 0;

  const T* data;
  int row_bytes;
  float* noted;

  __device__ static int place(int i) { return i; }
  __device__ const unsigned char* row(int column) const {
    return reinterpret_cast<const unsigned char*>(data) + static_cast<int64_t>(column) * row_bytes;
  }
  __device__ void select(int, int) {}
  __device__ void fetch(int, unsigned char*) const {}
  __device__ void note(int, int, int, const uint4&) const {}
  __device__ void begin(int) {}

  __device__ void multiply(int, int, const uint4& low, const uint4& high, const unsigned char*,
                           const uint4* x, float (&sums)[4]) const {
    const uint32_t first[4] = {low.x, high.x, low.y, high.y};
    const uint32_t second[4] = {low.z, high.z, low.w, high.w};
    multiply_tiles<T>(sums, first, x->x, x->y);
    multiply_tiles<T>(sums, second, x->z, x->w);
  }
};

}  // namespace

#define ENTRY(name, T)                                                                         \
  extern "C" __global__ void __launch_bounds__(stream_threads, 2) stream_matmul_##name(        \
      const T* x, const T* w, T* y, const T* norm, const T* shift, float epsilon, int centers, \
      int m, int n, int k, int slices, int depth, int constant, EPILOGUE_PARAMETERS(T)) {      \
    wait_for_previous_kernels(true);                                                           \
    const Product<T> product{x, norm, shift,  y,     epsilon, centers, m,                      \
                             n, k,    slices, depth, 0,       constant};                       \
    Weights<T> weights{w, k * 2, nullptr};                                                     \
    multiply_streamed(product, weights, EPILOGUE(T));                                          \
  }
FOR_TYPE(ENTRY, float16, float16)
FOR_TYPE(ENTRY, bfloat16, bfloat16)
