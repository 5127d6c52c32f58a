// SPDX-License-Identifier: Apache-2.0
// Products with few rows, of 16-bit elements, from compute capability 9.0 on:
// y[M, N] = activation(alpha * a[M, K] b[K, N] + bias + residual), row-major, K and N multiples
// of 8.
//
// A block computes a tile of 64 x 64. Few tiles do not fill a GPU, so K is cut between the blocks
// of a cluster, which read the sums of each other from shared memory and add them in order.
#include "activation.cuh"
#include "asynchronous_copy.cuh"
#include "tensor_core.cuh"

namespace {

constexpr int tile = 64, stages = 6, sums_stride = tile + 4;

template <typename T>
struct Matrices {
  const T* a;
  const T* b;
  T* y;
  int m, n, k;
  int row, column;  // of the block's tile
};

// Eight elements in a row of a tile in shared memory. They change places so that neither copies nor
// load_tiles meet in a bank.
template <typename T>
__device__ T* eight(T* rows, int row, int eighth) {
  return rows + row * tile + (eighth ^ (row & 7)) * 8;
}

// A tile, of which so many rows and columns exist; the rest becomes zeros.
template <typename T>
__device__ void copy_tile(T* to, const T* from, int stride, int rows, int columns) {
#pragma unroll
  for (int i = 0; i < tile * tile / 8 / 128; ++i) {
    const int row = threadIdx.x / 8 + i * 16, eighth = threadIdx.x % 8;
    const bool exists = row < rows && eighth * 8 < columns;
    const int64_t offset = static_cast<int64_t>(row) * stride + eighth * 8;
    copy_16_bytes(eight(to, row, eighth), exists ? from + offset : from, exists);
  }
}

// A warp's quarter of a tile: sums[i][j] is the tile of 16 x 8 at (16 i, 8 j).
using Quarter = float[2][4][4];

template <typename T>
__device__ void multiply_tile(Quarter& sums, T* a, T* b) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int row = warp / 2 * 32 + lane % 16, column = warp % 2 * 4 + lane / 16;
#pragma unroll
  for (int step = 0; step < tile / 16; ++step) {
    uint32_t of_a[2][4], of_b[2][4];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      load_tiles<false>(of_a[i], eight(a, row + i * 16, step * 2 + lane / 16));
      load_tiles<true>(of_b[i], eight(b, step * 16 + lane % 16, column + i * 2));
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        multiply_tiles<T>(sums[i][2 * j], of_a[i], of_b[j][0], of_b[j][1]);
        multiply_tiles<T>(sums[i][2 * j + 1], of_a[i], of_b[j][2], of_b[j][3]);
      }
    }
  }
}

// The sums over k from `first` on, up to `last`.
template <typename T>
__device__ void multiply_part(Quarter& sums, const Matrices<T>& x, int first, int last, T* shared) {
  const T* a = x.a + static_cast<int64_t>(x.row) * x.k;
  const T* b = x.b + x.column;
  const int count = (last - first + tile - 1) / tile;
  const auto copy = [&](int i) {
    if (i < count) {
      T* to = shared + i % stages * (2 * tile * tile);
      const int k = first + i * tile;
      copy_tile(to, a + k, x.k, x.m - x.row, last - k);
      copy_tile(to + tile * tile, b + static_cast<int64_t>(k) * x.n, x.n, last - k, x.n - x.column);
    }
    end_of_copies();
  };
#pragma unroll
  for (int i = 0; i < stages - 1; ++i) copy(i);
  for (int i = 0; i < count; ++i) {
    wait_for_copies<stages - 2>();
    __syncthreads();
    copy(i + stages - 1);
    T* from = shared + i % stages * (2 * tile * tile);
    multiply_tile(sums, from, from + tile * tile);
  }
  wait_for_copies();
  __syncthreads();
}

__device__ void store_sums(float* to, const Quarter& sums) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int row = warp / 2 * 32 + lane / 4, column = warp % 2 * 32 + lane % 4 * 2;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      float* at = to + (row + i * 16) * sums_stride + column + j * 8;
      *reinterpret_cast<float2*>(at) = {sums[i][j][0], sums[i][j][1]};
      *reinterpret_cast<float2*>(at + 8 * sums_stride) = {sums[i][j][2], sums[i][j][3]};
    }
  }
}

// Four sums of block number `block` of a cluster, which lie there where this block has `own`.
template <int blocks>
__device__ float4 sums_of(int block, const float* own) {
#if !defined(BASCULE_EMULATED) && __CUDA_ARCH__ >= 900
  if constexpr (blocks > 1) {
    const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(own));
    uint32_t there;
    float4 found;
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(address), "r"(block));
    asm volatile("ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(found.x), "=f"(found.y), "=f"(found.z), "=f"(found.w)
                 : "r"(there)
                 : "memory");
    return found;
  }
#endif
  return *reinterpret_cast<const float4*>(own);
}

// Until all blocks of the cluster are here.
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

template <int kind>
__device__ void activate_all(float (&values)[8], const Activation& activation) {
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    values[i] = activate<float>(kind < 0 ? activation.kind : kind, values[i], activation.alpha,
                                activation.beta);
  }
}

// Rows of the tile, from their sums in the shared memory of `blocks` blocks.
template <typename T, int blocks>
__device__ void finish_rows(const Matrices<T>& x, const float* sums, int first, int rows,
                            const T* bias, const T* residual, float alpha,
                            const Activation& activation) {
  for (int i = threadIdx.x; i < rows * (tile / 8); i += blockDim.x) {
    const int row = first + i / 8, eighth = i % 8, column = x.column + eighth * 8;
    if (x.row + row >= x.m || column >= x.n) continue;
    const int64_t place = static_cast<int64_t>(x.row + row) * x.n + column;
    T addend[8] = {}, added[8] = {};
    if (bias != nullptr)
      *reinterpret_cast<uint4*>(addend) = *reinterpret_cast<const uint4*>(bias + column);
    if (residual != nullptr)
      *reinterpret_cast<uint4*>(added) = *reinterpret_cast<const uint4*>(residual + place);
    float values[8] = {};
    const float* own = sums + row * sums_stride + eighth * 8;
#pragma unroll
    for (int block = 0; block < blocks; ++block) {
      const float4 low = sums_of<blocks>(block, own), high = sums_of<blocks>(block, own + 4);
      const float part[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
      for (int j = 0; j < 8; ++j) values[j] += part[j];
    }
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      values[j] *= alpha;
      if (bias != nullptr) values[j] += widen(addend[j]);
      if (residual != nullptr) values[j] += widen(added[j]);
    }
    if (activation.kind == activation_gelu) {
      activate_all<activation_gelu>(values, activation);
    } else if (activation.kind != activation_none) {
      activate_all<-1>(values, activation);
    }
    T results[8];
#pragma unroll
    for (int j = 0; j < 8; ++j) results[j] = narrow<T>(values[j]);
    *reinterpret_cast<uint4*>(x.y + place) = *reinterpret_cast<uint4*>(results);
  }
}

template <typename T, int blocks>
__device__ void multiply(const Matrices<T>& x, const T* bias, const T* residual, float alpha,
                         const Activation& activation) {
  DYNAMIC_SHARED(bytes);
  T* shared = reinterpret_cast<T*>(bytes);
  float* sums = reinterpret_cast<float*>(bytes);
  const int length = (x.k + tile * blocks - 1) / (tile * blocks) * tile;
#ifdef BASCULE_EMULATED
  // Blocks run one after the other: the first of a cluster does the work of all.
  static float all[tile * sums_stride];
  if (blockIdx.z != 0) return;
  for (int block = 0; block < blocks; ++block) {
    Quarter own = {};
    multiply_part(own, x, block * length,
                  block * length + length < x.k ? block * length + length : x.k, shared);
    store_sums(sums, own);
    __syncthreads();
    for (int i = threadIdx.x; i < tile * sums_stride; i += blockDim.x) {
      all[i] = block == 0 ? sums[i] : all[i] + sums[i];
    }
    __syncthreads();
  }
  finish_rows<T, 1>(x, all, 0, tile, bias, residual, alpha, activation);
#else
  const int block = blockIdx.z, first = block * length;
  Quarter own = {};
  multiply_part(own, x, first, first + length < x.k ? first + length : x.k, shared);
  store_sums(sums, own);
  meet<blocks>();
  constexpr int rows = tile / blocks;
  finish_rows<T, blocks>(x, sums, block * rows, rows, bias, residual, alpha, activation);
  if constexpr (blocks > 1) meet<blocks>();  // the others may still read this block's sums
#endif
}

}  // namespace

#if !defined(BASCULE_EMULATED) && __CUDA_ARCH__ >= 900
#define CLUSTER(blocks) __cluster_dims__(1, 1, blocks)
#else
#define CLUSTER(blocks)
#endif

#define KERNEL(blocks, name, T)                                                            \
  extern "C" __global__ void CLUSTER(blocks) __launch_bounds__(128)                        \
      cluster_matmul_##blocks##_##name(const T* a, const T* b, T* y, int32_t m, int32_t n, \
                                       int32_t k, EPILOGUE_PARAMETERS(T)) {                \
    wait_for_previous_kernels();                                                           \
    const Matrices<T> x{a,                                                                 \
                        b,                                                                 \
                        y,                                                                 \
                        m,                                                                 \
                        n,                                                                 \
                        k,                                                                 \
                        static_cast<int>(blockIdx.y) * tile,                               \
                        static_cast<int>(blockIdx.x) * tile};                              \
    multiply<T, blocks>(x, bias, residual, alpha,                                          \
                        Activation{activation, activation_alpha, activation_beta});        \
  }
#define KERNELS(name, T) KERNEL(1, name, T) KERNEL(2, name, T) KERNEL(4, name, T) KERNEL(8, name, T)
KERNELS(float16, float16)
KERNELS(bfloat16, bfloat16)
