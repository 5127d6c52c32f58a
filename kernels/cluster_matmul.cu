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
  int width;        // columns of each of the results that lie behind each other in y
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
template <typename T, bool transposed>
struct Copier {
  const T* a;
  const T* b;
  T* to;
  int64_t a_step, b_step;    // between the thread's two rows of a tile
  int left_of_a, left_of_b;  // elements of K
  int row, eighth;
  bool a_exists[2], b_exists[2];

  __device__ Copier(const Matrices<T>& x, int first, int last, T* shared)
      : left_of_a(last - first),
        left_of_b(last - first),
        row(threadIdx.x / 8),
        eighth(threadIdx.x % 8) {
    a = x.a + static_cast<int64_t>(x.row + row) * x.k + first + eighth * 8;
    a_step = static_cast<int64_t>(x.k) * (tile / 2);
    if (transposed) {
      b = x.b + static_cast<int64_t>(x.column + row) * x.k + first + eighth * 8;
      b_step = a_step;
    } else {
      b = x.b + static_cast<int64_t>(first + row) * x.n + x.column + eighth * 8;
      b_step = static_cast<int64_t>(x.n) * (tile / 2);
    }
    to = eight(shared, row, eighth);
    for (int i = 0; i < 2; ++i) {
      a_exists[i] = x.row + row + i * tile / 2 < x.m;
      b_exists[i] = x.column + (transposed ? row + i * tile / 2 : eighth * 8) < x.n;
    }
  }

  // The next tile of A, to a stage.
  __device__ void copy_a(int stage) {
    if (left_of_a <= 0) return;
    T* place = to + stage * (2 * tile * tile);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const bool exists = a_exists[i] && eighth * 8 < left_of_a;
      copy_16_bytes(place + i * (tile / 2 * tile), a + i * a_step, exists);
    }
    a += tile;
    left_of_a -= tile;
  }
  __device__ void copy_b(int stage) {
    if (left_of_b <= 0) return;
    T* place = to + stage * (2 * tile * tile) + tile * tile;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const bool exists = b_exists[i] && (transposed ? eighth * 8 : row + i * tile / 2) < left_of_b;
      copy_16_bytes(place + i * (tile / 2 * tile), b + i * b_step, exists);
    }
    b += transposed ? tile : 2 * b_step;
    left_of_b -= tile;
  }
};

// A warp's quarter of a tile: sums[i][j] is the tile of 16 x 8 at (16 i, 8 j). Four warps compute
// with one half of the stage's part of K, four with the other.
using Quarter = float[2][4][4];

template <typename T, bool transposed>
__device__ void multiply_tile(Quarter& sums, T* a, T* b) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, half = warp / 4;
  const int row = warp % 4 / 2 * 32 + lane % 16, column = warp % 2 * 4;
  uint32_t of_a[2][2][4], of_b[2][2][4];
#pragma unroll
  for (int step = 0; step < 2; ++step) {
    const int sixteenth = half * 2 + step;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      load_tiles<false>(of_a[step][i], eight(a, row + i * 16, sixteenth * 2 + lane / 16));
      if (transposed) {
        const int at = (column + i * 2) * 8 + lane / 16 * 8 + lane % 8;
        load_tiles<false>(of_b[step][i], eight(b, at, sixteenth * 2 + lane / 8 % 2));
      } else {
        const int eighth = column + i * 2 + lane / 16;
        load_tiles<true>(of_b[step][i], eight(b, sixteenth * 16 + lane % 16, eighth));
      }
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

// What is added to the sums of a thread's places in the block's rows of the tile.
template <typename T, int blocks>
struct Addends {
  static constexpr int rows = tile / blocks, count = (rows * tile / 8 + threads - 1) / threads;
  uint4 bias[count], residual[count];

  // Row of the tile and eighth of place number i.
  __device__ static int row(int i) { return (threadIdx.x + i * threads) / 8; }
  __device__ static int eighth() { return threadIdx.x % 8; }
  __device__ static bool exists(const Matrices<T>& x, int first, int i) {
    return row(i) < rows && x.row + first + row(i) < x.m && x.column + eighth() * 8 < x.n;
  }
  __device__ static int64_t place(const Matrices<T>& x, int first, int i) {
    const int column = x.column + eighth() * 8, result = column / x.width;
    const int64_t line = static_cast<int64_t>(result) * x.m + x.row + first + row(i);
    return line * x.width + column - result * x.width;
  }
  __device__ void load(const Matrices<T>& x, int first, const T* of_columns, const T* of_places) {
#pragma unroll
    for (int i = 0; i < count; ++i) {
      if (!exists(x, first, i)) continue;
      if (of_columns != nullptr) {
        bias[i] = *reinterpret_cast<const uint4*>(of_columns + x.column + eighth() * 8);
      }
      if (of_places != nullptr) {
        residual[i] = *reinterpret_cast<const uint4*>(of_places + place(x, first, i));
      }
    }
  }
};

// The sums over k from `first` on, up to `last`. What `meanwhile` does has the time that the first
// tiles take.
template <typename T, bool transposed, typename Meanwhile>
__device__ void multiply_part(Quarter& sums, const Matrices<T>& x, int first, int last, T* shared,
                              bool has_constant_b, Meanwhile meanwhile) {
  Copier<T, transposed> copier(x, first, last, shared);
  const int count = (last - first + tile - 1) / tile;
#pragma unroll
  for (int i = 0; i < stages - 1; ++i) copier.copy_b(i);
  if (has_constant_b) wait_for_previous_kernels();
#pragma unroll
  for (int i = 0; i < stages - 1; ++i) {
    copier.copy_a(i);
    end_batch_of_copies();
  }
  meanwhile();
  int stage = 0;
#pragma unroll 1
  for (int i = 0; i < count; ++i) {
    wait_for_batches<stages - 2>();
    __syncthreads();
    const int free = stage == 0 ? stages - 1 : stage - 1;
    copier.copy_a(free);
    copier.copy_b(free);
    end_batch_of_copies();
    T* from = shared + stage * (2 * tile * tile);
    multiply_tile<T, transposed>(sums, from, from + tile * tile);
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
__device__ void part() {
#if !defined(BASCULE_EMULATED) && __CUDA_ARCH__ >= 900
  if constexpr (blocks > 1) {
    asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
    asm volatile("barrier.cluster.wait.aligned;" ::: "memory");
  }
#endif
}

template <int kind>
__device__ void activate_all(float (&values)[8], const Activation& activation) {
  if (activation.kind != kind) return;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    values[i] = activate<float>(kind, values[i], activation.alpha, activation.beta);
  }
}

// The addends are widened where they are used, so that loads are not waited for before.
template <typename T>
__device__ void add_eight(float (&values)[8], const uint4& raw) {
  T addends[8];
  memcpy(addends, &raw, sizeof(raw));
#pragma unroll
  for (int i = 0; i < 8; ++i) values[i] += widen(addends[i]);
}

// The block's rows of the tile, the first of which is `first`, from the sums in the shared memory
// of the cluster: `parts` blocks, or this one.
template <typename T, int blocks, int parts>
__device__ void finish_rows(const Matrices<T>& x, const float* sums, int first,
                            const Addends<T, blocks>& addends, bool has_bias, bool has_residual,
                            float alpha, const Activation& activation) {
  using Places = Addends<T, blocks>;
#pragma unroll
  for (int i = 0; i < Places::count; ++i) {
    if (!Places::exists(x, first, i)) continue;
    float values[8] = {};
#pragma unroll
    for (int part = 0; part < 2 * parts; ++part) {
      const int row = part % 2 * tile + first + Places::row(i);
      const float* own = sums + row * sums_stride + Places::eighth() * 8;
      const float4 low = sums_of<parts>(part / 2, own), high = sums_of<parts>(part / 2, own + 4);
      const float each[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
      for (int j = 0; j < 8; ++j) values[j] += each[j];
    }
#pragma unroll
    for (int j = 0; j < 8; ++j) values[j] *= alpha;
    if (has_bias) add_eight<T>(values, addends.bias[i]);
    if (has_residual) add_eight<T>(values, addends.residual[i]);
    activate_all<activation_gelu>(values, activation);
    activate_all<activation_gelu_tanh>(values, activation);
    activate_all<activation_relu>(values, activation);
    activate_all<activation_clip>(values, activation);
    activate_all<activation_swish>(values, activation);
    activate_all<activation_hard_swish>(values, activation);
    T results[8];
#pragma unroll
    for (int j = 0; j < 8; ++j) results[j] = narrow<T>(values[j]);
    uint4 raw;
    memcpy(&raw, results, sizeof(raw));
    *reinterpret_cast<uint4*>(x.y + Places::place(x, first, i)) = raw;
  }
}

template <typename T, int blocks, bool transposed>
__device__ void multiply(const Matrices<T>& x, bool has_constant_b, const T* bias,
                         const T* residual, float alpha, const Activation& activation) {
  DYNAMIC_SHARED(bytes);
  T* shared = reinterpret_cast<T*>(bytes);
  float* sums = reinterpret_cast<float*>(bytes);
  const bool has_bias = bias != nullptr, has_residual = residual != nullptr;
  const int length = (x.k + tile * blocks - 1) / (tile * blocks) * tile;
  const auto end = [&](int first) { return first + length < x.k ? first + length : x.k; };
#ifdef BASCULE_EMULATED
  // Blocks run one after the other: the first of a cluster does the work of all.
  static float all[2 * tile * sums_stride];
  if (blockIdx.z != 0) return;
  Addends<T, 1> addends;
  const auto load = [&] { addends.load(x, 0, bias, residual); };
  for (int block = 0; block < blocks; ++block) {
    Quarter own = {};
    const int first = block * length;
    multiply_part<T, transposed>(own, x, first, end(first), shared, has_constant_b, load);
    store_sums(sums, own);
    __syncthreads();
    for (int i = threadIdx.x; i < tile * sums_stride; i += threads) {
      const float sum = block == 0 ? sums[i] : all[i] + sums[i];
      all[i] = sum + sums[tile * sums_stride + i];
      all[tile * sums_stride + i] = 0;
    }
    __syncthreads();
  }
  finish_rows<T, 1, 1>(x, all, 0, addends, has_bias, has_residual, alpha, activation);
#else
  const int block = blockIdx.z, first = block * length, row = block * (tile / blocks);
  Quarter own = {};
  Addends<T, blocks> addends;
  multiply_part<T, transposed>(own, x, first, end(first), shared, has_constant_b,
                               [&] { addends.load(x, row, bias, residual); });
  store_sums(sums, own);
  meet<blocks>();
  finish_rows<T, blocks, blocks>(x, sums, row, addends, has_bias, has_residual, alpha, activation);
  part<blocks>();
#endif
}

}  // namespace

#if !defined(BASCULE_EMULATED) && __CUDA_ARCH__ >= 900
#define CLUSTER(blocks) __cluster_dims__(1, 1, blocks)
#else
#define CLUSTER(blocks)
#endif

#define KERNEL(blocks, layout, transposed, name, T)                                             \
  extern "C" __global__ void CLUSTER(blocks) __launch_bounds__(threads)                         \
      cluster_matmul_##layout##_##blocks##_##name(const T* a, const T* b, T* y, int32_t m,      \
                                                  int32_t n, int32_t k, int32_t width,          \
                                                  int32_t constant_b, EPILOGUE_PARAMETERS(T)) { \
    wait_for_previous_kernels(constant_b);                                                      \
    const int row = blockIdx.y * tile, column = blockIdx.x * tile;                              \
    const Matrices<T> x{a, b, y, m, n, k, width, row, column};                                  \
    const Activation activated{activation, activation_alpha, activation_beta};                  \
    multiply<T, blocks, transposed>(x, constant_b != 0, bias, residual, alpha, activated);      \
  }
#define LAYOUTS(blocks, name, T)       \
  KERNEL(blocks, rows, false, name, T) \
  KERNEL(blocks, columns, true, name, T)
#define KERNELS(name, T) \
  LAYOUTS(1, name, T) LAYOUTS(2, name, T) LAYOUTS(4, name, T) LAYOUTS(8, name, T)
KERNELS(float16, float16)
KERNELS(bfloat16, bfloat16)
