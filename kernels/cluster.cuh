// SPDX-License-Identifier: Apache-2.0
// Clusters of blocks, which read each other's shared memory, from compute capability 9.0 on.
#pragma once

#include "common.cuh"

#if !defined(BASCULE_EMULATED) && __CUDA_ARCH__ >= 900
#define CLUSTER(x, y, z) __cluster_dims__(x, y, z)
#else
#define CLUSTER(x, y, z)
#endif

// Until all blocks of the cluster are here, and what they wrote to shared memory is visible.
template <int blocks>
__device__ void meet() {
#if !defined(BASCULE_EMULATED) && __CUDA_ARCH__ >= 900
  if constexpr (blocks > 1) {
    asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
    return;
  }
#endif
  __syncthreads();
}

// Until the others have read this block's shared memory; its results need not be visible to them.
template <int blocks>
__device__ void leave() {
#if !defined(BASCULE_EMULATED) && __CUDA_ARCH__ >= 900
  if constexpr (blocks > 1) {
    asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
    asm volatile("barrier.cluster.wait.aligned;" ::: "memory");
  }
#endif
}

// What block number `block` of the cluster has there where this one has `own`: a float, or a vector
// of two or four.
template <typename V>
__device__ inline V there(int block, const float* own) {
#if !defined(BASCULE_EMULATED) && __CUDA_ARCH__ >= 900
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(own));
  uint32_t at;
  V found;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(at) : "r"(address), "r"(block));
  if constexpr (sizeof(V) == 16) {
    asm volatile("ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(found.x), "=f"(found.y), "=f"(found.z), "=f"(found.w)
                 : "r"(at)
                 : "memory");
  } else if constexpr (sizeof(V) == 8) {
    asm volatile("ld.shared::cluster.v2.f32 {%0, %1}, [%2];"
                 : "=f"(found.x), "=f"(found.y)
                 : "r"(at)
                 : "memory");
  } else {
    asm volatile("ld.shared::cluster.f32 %0, [%1];" : "=f"(found) : "r"(at) : "memory");
  }
  return found;
#else
  return *reinterpret_cast<const V*>(own);
#endif
}
