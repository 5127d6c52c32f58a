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

constexpr int tile = 64, stages = 6, threads = 256, sums_stride = tile + 4;

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

// A thread's part of copying tile after tile of A and B to the stages; what does not exist becomes
// zeros.
template <typename T>
struct Copier {
  const T* a;
  const T* b;
  T* to;
  int64_t a_step, b_step;  // between the thread's two rows of a tile
  int left;                // of K
  int row, eighth;
  bool a_exists[2], b_exists;

  __device__ Copier(const Matrices<T>& x, int first, int last, T* shared)
      : left(last - first), row(threadIdx.x / 8), eighth(threadIdx.x % 8) {
    a = x.a + static_cast<int64_t>(x.row + row) * x.k + first + eighth * 8;
    b = x.b + static_cast<int64_t>(first + row) * x.n + x.column + eighth * 8;
    a_step = static_cast<int64_t>(x.k) * (tile / 2);
    b_step = static_cast<int64_t>(x.n) * (tile / 2);
    to = eight(shared, row, eighth);
    a_exists[0] = x.row + row < x.m;
    a_exists[1] = x.row + row + tile / 2 < x.m;
    b_exists = x.column + eighth * 8 < x.n;
  }

  // The next tiles, to a stage.
  __device__ void copy(int stage) {
    if (left > 0) {
      T* place = to + stage * (2 * tile * tile);
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        copy_16_bytes(place + i * (tile / 2 * tile), a + i * a_step,
                      a_exists[i] && eighth * 8 < left);
      }
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        copy_16_bytes(place + (tile + i * tile / 2) * tile, b + i * b_step,
                      b_exists && row + i * tile / 2 < left);
      }
      a += tile;
      b += 2 * b_step;
      left -= tile;
    }
    end_of_copies();
  }
};

// A warp's quarter of a tile: sums[i][j] is the tile of 16 x 8 at (16 i, 8 j). Four warps compute
// with one half of the stage's part of K, four with the other.
using Quarter = float[2][4][4];

template <typename T>
__device__ void multiply_tile(Quarter& sums, T* a, T* b) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, half = warp / 4;
  const int row = warp % 4 / 2 * 32 + lane % 16, column = warp % 2 * 4 + lane / 16;
  uint32_t of_a[2][2][4], of_b[2][2][4];
#pragma unroll
  for (int step = 0; step < 2; ++step) {
    const int sixteenth = half * 2 + step;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      load_tiles<false>(of_a[step][i], eight(a, row + i * 16, sixteenth * 2 + lane / 16));
      load_tiles<true>(of_b[step][i], eight(b, sixteenth * 16 + lane % 16, column + i * 2));
    }
  }
#pragma unroll
  for (int step = 0; step < 2; ++step) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const auto& pair = of_b[step][j];
        multiply_tiles<T>(sums[i][2 * j], of_a[step][i], pair[0], pair[1]);
        multiply_tiles<T>(sums[i][2 * j + 1], of_a[step][i], pair[2], pair[3]);
      }
    }
  }
}

// The sums over k from `first` on, up to `last`.
template <typename T>
__device__ void multiply_part(Quarter& sums, const Matrices<T>& x, int first, int last, T* shared) {
  Copier<T> copier(x, first, last, shared);
  const int count = (last - first + tile - 1) / tile;
#pragma unroll
  for (int i = 0; i < stages - 1; ++i) copier.copy(i);
  int stage = 0;
#pragma unroll 1
  for (int i = 0; i < count; ++i) {
    wait_for_copies<stages - 2>();
    __syncthreads();
    copier.copy(stage == 0 ? stages - 1 : stage - 1);
    T* from = shared + stage * (2 * tile * tile);
    multiply_tile(sums, from, from + tile * tile);
    stage = stage == stages - 1 ? 0 : stage + 1;
  }
  wait_for_copies();
  __syncthreads();
}

// The sums of the two halves of K behind each other.
__device__ void store_sums(float* to, const Quarter& sums) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int row = warp % 4 / 2 * 32 + lane / 4, column = warp % 2 * 32 + lane % 4 * 2;
  to += warp / 4 * (tile * sums_stride);
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
__device__ void activate_all(float (&values)[8]) {
#pragma unroll
  for (int i = 0; i < 8; ++i) values[i] = activate<float>(kind, values[i], 0, 0);
}

// The addends are widened where they are used, so that loads are not waited for before.
template <typename T>
__device__ void add_eight(float (&values)[8], const uint4& raw) {
  T addends[8];
  memcpy(addends, &raw, sizeof(raw));
#pragma unroll
  for (int i = 0; i < 8; ++i) values[i] += widen(addends[i]);
}

// Rows of the tile, from their sums in the shared memory of `blocks` blocks.
template <typename T, int blocks>
__device__ void finish_rows(const Matrices<T>& x, const float* sums, int first, int rows,
                            const T* bias, const T* residual, float alpha, int activation) {
#pragma unroll 1
  for (int i = threadIdx.x; i < rows * (tile / 8); i += threads) {
    const int row = first + i / 8, eighth = i % 8, column = x.column + eighth * 8;
    if (x.row + row >= x.m || column >= x.n) continue;
    const int64_t place = static_cast<int64_t>(x.row + row) * x.n + column;
    uint4 raw_bias, raw_residual;
    if (bias != nullptr) raw_bias = *reinterpret_cast<const uint4*>(bias + column);
    if (residual != nullptr) raw_residual = *reinterpret_cast<const uint4*>(residual + place);
    float values[8] = {};
#pragma unroll
    for (int part = 0; part < 2 * blocks; ++part) {
      const float* own = sums + (part % 2 * tile + row) * sums_stride + eighth * 8;
      const float4 low = sums_of<blocks>(part / 2, own), high = sums_of<blocks>(part / 2, own + 4);
      const float each[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
      for (int j = 0; j < 8; ++j) values[j] += each[j];
    }
#pragma unroll
    for (int j = 0; j < 8; ++j) values[j] *= alpha;
    if (bias != nullptr) add_eight<T>(values, raw_bias);
    if (residual != nullptr) add_eight<T>(values, raw_residual);
    if (activation == activation_gelu) activate_all<activation_gelu>(values);
    if (activation == activation_gelu_tanh) activate_all<activation_gelu_tanh>(values);
    if (activation == activation_relu) activate_all<activation_relu>(values);
    T results[8];
#pragma unroll
    for (int j = 0; j < 8; ++j) results[j] = narrow<T>(values[j]);
    uint4 raw;
    memcpy(&raw, results, sizeof(raw));
    *reinterpret_cast<uint4*>(x.y + place) = raw;
  }
}

template <typename T, int blocks>
__device__ void multiply(const Matrices<T>& x, const T* bias, const T* residual, float alpha,
                         int activation) {
  DYNAMIC_SHARED(bytes);
  T* shared = reinterpret_cast<T*>(bytes);
  float* sums = reinterpret_cast<float*>(bytes);
  const int length = (x.k + tile * blocks - 1) / (tile * blocks) * tile;
  const auto end = [&](int first) { return first + length < x.k ? first + length : x.k; };
#ifdef BASCULE_EMULATED
  // Blocks run one after the other: the first of a cluster does the work of all.
  static float all[2 * tile * sums_stride];
  if (blockIdx.z != 0) return;
  for (int block = 0; block < blocks; ++block) {
    Quarter own = {};
    multiply_part(own, x, block * length, end(block * length), shared);
    store_sums(sums, own);
    __syncthreads();
    for (int i = threadIdx.x; i < tile * sums_stride; i += threads) {
      const float sum = block == 0 ? sums[i] : all[i] + sums[i];
      all[i] = sum + sums[tile * sums_stride + i];
      all[tile * sums_stride + i] = 0;
    }
    __syncthreads();
  }
  finish_rows<T, 1>(x, all, 0, tile, bias, residual, alpha, activation);
#else
  const int block = blockIdx.z, first = block * length;
  Quarter own = {};
  multiply_part(own, x, first, end(first), shared);
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

#define KERNEL(blocks, name, T)                                                                  \
  extern "C" __global__ void CLUSTER(blocks) __launch_bounds__(threads)                          \
      cluster_matmul_##blocks##_##name(const T* a, const T* b, T* y, int32_t m, int32_t n,       \
                                       int32_t k, const T* bias, const T* residual, float alpha, \
                                       int32_t activation) {                                     \
    wait_for_previous_kernels();                                                                 \
    const int row = blockIdx.y * tile, column = blockIdx.x * tile;                               \
    const Matrices<T> x{a, b, y, m, n, k, row, column};                                          \
    multiply<T, blocks>(x, bias, residual, alpha, activation);                                   \
  }
#define KERNELS(name, T) KERNEL(1, name, T) KERNEL(2, name, T) KERNEL(4, name, T) KERNEL(8, name, T)
KERNELS(float16, float16)
KERNELS(bfloat16, bfloat16)
