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

// 4 or 8 bytes that are there.
template <int bytes>
__device__ inline void copy_few_bytes(void* to, const void* from) {
#if !defined(BASCULE_EMULATED) && __CUDA_ARCH__ >= 800
  const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(address), "l"(from), "n"(bytes)
               : "memory");
#else
  memcpy(to, from, bytes);
#endif
}

// The copies of this thread since the last call become a batch.
__device__ inline void end_batch_of_copies() {
#if !defined(BASCULE_EMULATED) && __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Waits for all batches but the `pending` last ones.
template <int pending>
__device__ inline void wait_for_batches() {
#if !defined(BASCULE_EMULATED) && __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
#endif
}

__device__ inline void wait_for_copies() {
#if !defined(BASCULE_EMULATED) && __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}

// Rows of `size` elements, `stride` apart.
template <typename T>
struct Rows {
  const T* data;
  int64_t stride;
  int size;
};

// `each(row, vector)` for this thread's share of rows of 16-byte vectors.
template <int rows, int vectors, int threads, typename Each>
__device__ inline void for_own_vectors(Each each) {
  static_assert(rows * vectors % threads == 0);
#pragma unroll
  for (int first = 0; first < rows * vectors; first += threads) {
    if constexpr (threads % vectors == 0) {  // so that a thread's lie a constant apart
      each(threadIdx.x / vectors + first / vectors, threadIdx.x % vectors);
    } else {
      const int i = first + threadIdx.x;
      each(i / vectors, i % vectors);
    }
  }
}

// Rows `begin` to `end`, at most `rows` of them, to shared rows of `width` elements that lie
// `to_stride` apart; zeros in all other places. Everything is a multiple of 16 bytes.
template <int rows, int width, int to_stride, int threads, typename T>
__device__ inline void copy_rows(T* to, const Rows<T>& from, int begin, int end) {
  constexpr int elements = 16 / sizeof(T);
  const T* data = from.data + begin * from.stride;
  for_own_vectors<rows, width / elements, threads>([&](int row, int vector) {
    const int column = vector * elements;
    copy_16_bytes(to + row * to_stride + column, data + row * from.stride + column,
                  row < end - begin && column < from.size);
  });
}
