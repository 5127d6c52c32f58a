// SPDX-License-Identifier: Apache-2.0
// What kernels that stream weights share: wide loads, their elements as floats, sums over a block.
#pragma once

#include "activation.cuh"

// 16 bytes that nobody reads again soon.
__device__ inline uint4 load_once(const void* from) {
#ifdef BASCULE_EMULATED
  return *static_cast<const uint4*>(from);
#else
  return __ldcs(static_cast<const uint4*>(from));
#endif
}

// Asks for memory that is soon read. It may be done before wait_for_previous_kernels: what is read
// afterwards is what is in memory then.
__device__ inline void prefetch(const void* from) {
#ifndef BASCULE_EMULATED
  asm volatile("prefetch.global.L2 [%0];" ::"l"(from));
#endif
}

template <typename T>
__device__ inline void unpack_word(uint32_t word, float* to);
template <>
__device__ inline void unpack_word<float>(uint32_t word, float* to) {
  to[0] = __uint_as_float(word);
}
template <>
__device__ inline void unpack_word<float16>(uint32_t word, float* to) {
  const float2 pair = __half22float2(*reinterpret_cast<const __half2*>(&word));
  to[0] = pair.x;
  to[1] = pair.y;
}
template <>
__device__ inline void unpack_word<bfloat16>(uint32_t word, float* to) {
  to[0] = __uint_as_float(word << 16);
  to[1] = __uint_as_float(word & 0xffff0000u);
}

// 16 bytes of elements of type T as floats.
template <typename T>
__device__ inline void unpack(const uint4& packed, float* to) {
  constexpr int width = 4 / sizeof(T);
  unpack_word<T>(packed.x, to);
  unpack_word<T>(packed.y, to + width);
  unpack_word<T>(packed.z, to + 2 * width);
  unpack_word<T>(packed.w, to + 3 * width);
}

// Each of `count` (a power of two, at most 32) values of the lanes of a warp, summed over the warp.
// A lane ends up with one of the sums in values[0], number lane / (32 / count).
template <int count>
__device__ inline void sum_over_warp(float (&values)[count]) {
  const int lane = threadIdx.x % 32;
  int step = 16;
#pragma unroll
  for (int half = count / 2; half > 0; half /= 2, step /= 2) {
    const bool upper = (lane & step) != 0;
#pragma unroll
    for (int i = 0; i < half; ++i) {
      const float given = upper ? values[i] : values[i + half];
      const float kept = upper ? values[i + half] : values[i];
      values[i] = kept + __shfl_xor_sync(0xffffffffu, given, step);
    }
  }
#pragma unroll
  for (; step > 0; step /= 2) values[0] += __shfl_xor_sync(0xffffffffu, values[0], step);
}

// Leaves the sums of each warp in of_warps[warp]; the block may read them afterwards.
template <int count>
__device__ inline void sum_over_block(float (&values)[count], float (*of_warps)[count]) {
  sum_over_warp(values);
  const int lane = threadIdx.x % 32;
  if (lane % (32 / count) == 0) of_warps[threadIdx.x / 32][lane / (32 / count)] = values[0];
  __syncthreads();
}
