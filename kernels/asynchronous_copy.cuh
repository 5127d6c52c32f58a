// SPDX-License-Identifier: Apache-2.0
// Copies to shared memory that go on while a block computes, from compute capability 8.0 on.
#pragma once

#include "common.cuh"

// 16 bytes from global to shared memory, zeros where there is nothing to copy. They are there when
// wait_for_copies() and a barrier have been passed.
__device__ inline void copy_16_bytes(void* to, const void* from, bool exists) {
#if !defined(BASCULE_EMULATED) && __CUDA_ARCH__ >= 800
  const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(to));
  const int bytes = exists ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from), "r"(bytes)
               : "memory");
#else
  *static_cast<uint4*>(to) = exists ? *static_cast<const uint4*>(from) : make_uint4(0, 0, 0, 0);
#endif
}

// The copies since the last call are a group.
__device__ inline void end_of_copies() {
#if !defined(BASCULE_EMULATED) && __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Until all groups but the last `groups` are there.
template <int groups>
__device__ inline void wait_for_copies() {
#if !defined(BASCULE_EMULATED) && __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(groups) : "memory");
#endif
}

__device__ inline void wait_for_copies() {
#if !defined(BASCULE_EMULATED) && __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}

// The first `count` of `rows` rows, of `size` elements each, to shared rows of `width` elements
// that lie `stride` apart; zeros in all other places. Everything is a multiple of 16 bytes.
template <typename T, int rows, int width, int stride, int threads>
__device__ inline void copy_rows(T* to, const T* from, int64_t from_stride, int count, int size) {
  constexpr int elements = 16 / sizeof(T), vectors = width / elements;
#pragma unroll
  for (int i = threadIdx.x; i < rows * vectors; i += threads) {
    const int row = i / vectors, column = i % vectors * elements;
    const bool exists = row < count && column < size;
    copy_16_bytes(to + row * stride + column, exists ? from + row * from_stride + column : from,
                  exists);
  }
}
