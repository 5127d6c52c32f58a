// SPDX-License-Identifier: Apache-2.0
// parts: rows_float32 rows_float16 rows_bfloat16 columns_float32 columns_float16 columns_bfloat16
// Products with few rows, of 16-bit elements or of floats as TF32, from compute capability 9.0 on:
// y[M, N] = activation(alpha * a[M, K] b[K, N] + bias + residual), row-major, or with b[N, K]; rows
// of all matrices are whole vectors of 16 bytes. Columns of the sums may be several results, which
// lie behind each other.
//
// A block computes a tile of 64 x 64. Few tiles do not fill a GPU, so K is cut between the blocks
// of a cluster, which read the sums of each other from shared memory and add them in order.
#include "activation.cuh"
#include "asynchronous_copy.cuh"
#include "cluster.cuh"
#include "tensor_core.cuh"

namespace {

// A stage is 128 bytes of K for the rows of A and columns of B of a tile: 8 KB of each.
constexpr int tile = 64, stages = 6, threads = 256, sums_stride = tile + 4;
constexpr int row_bytes = 128, operand_bytes = tile * row_bytes, stage_bytes = 2 * operand_bytes;

template <typename T>
constexpr int width = 16 / sizeof(T);  // elements of a vector
template <typename T>
constexpr int depth = row_bytes / sizeof(T);  // elements of K in a stage

template <typename T>
struct Matrices {
  const T* a;
  const T* b;
  T* y;
  int m, n, k;
  int part;         // columns of each of the results that lie behind each other in y
  int row, column;  // of the block's tile
};

// Where vector number `vector` of a row is in shared memory, whose rows are along K. Vectors change
// places so that neither copies nor load_tiles meet in a bank.
__device__ unsigned char* along_k(unsigned char* rows, int row, int vector) {
  return rows + row * row_bytes + (vector ^ (row & 7)) * 16;
}
// The same where rows are along the columns of B. Floats are read from four rows at once, by eight
// neighbours.
template <typename T>
__device__ unsigned char* along_n(unsigned char* rows, int row, int vector) {
  if (sizeof(T) == 2) return along_k(rows, row, vector);
  return rows + row * 2 * row_bytes + (vector ^ (row & 3) * 2) * 16;
}

// A thread's part of copying tile after tile of A and B to the stages; what does not exist becomes
// zeros.
template <typename T, bool transposed>
struct Copier {
  // Vectors in a row of B's tile, and rows between the two vectors of a thread.
  static constexpr int b_vectors = transposed ? 8 : tile / width<T>;
  static constexpr int a_rows = threads / 8, b_rows = threads / b_vectors;
  const T* a;
  const T* b;
  unsigned char *a_to, *b_to;
  int64_t a_step, b_step;    // between the thread's two rows of a tile
  int left_of_a, left_of_b;  // elements of K
  int a_place, b_place;      // in K, of the first of the thread's elements
  bool a_exists[2], b_exists[2];

  __device__ Copier(const Matrices<T>& x, int first, int last, unsigned char* shared)
      : left_of_a(last - first), left_of_b(last - first) {
    const int row = threadIdx.x / 8, vector = threadIdx.x % 8;
    a_place = vector * width<T>;
    a = x.a + static_cast<int64_t>(x.row + row) * x.k + first + a_place;
    a_step = static_cast<int64_t>(x.k) * a_rows;
    a_to = along_k(shared, row, vector);
    const int b_row = threadIdx.x / b_vectors, b_vector = threadIdx.x % b_vectors;
    if (transposed) {
      b_place = b_vector * width<T>;
      b = x.b + static_cast<int64_t>(x.column + b_row) * x.k + first + b_place;
      b_step = static_cast<int64_t>(x.k) * b_rows;
      b_to = along_k(shared + operand_bytes, b_row, b_vector);
    } else {
      b_place = b_row;
      b = x.b + static_cast<int64_t>(first + b_row) * x.n + x.column + b_vector * width<T>;
      b_step = static_cast<int64_t>(x.n) * b_rows;
      b_to = along_n<T>(shared + operand_bytes, b_row, b_vector);
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      a_exists[i] = x.row + row + i * a_rows < x.m;
      const int column = transposed ? b_row + i * b_rows : b_vector * width<T>;
      b_exists[i] = x.column + column < x.n;
    }
  }

  // The next tile of A, to a stage.
  __device__ void copy_a(int stage) {
    if (left_of_a <= 0) return;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      copy_16_bytes(a_to + stage * stage_bytes + i * (operand_bytes / 2), a + i * a_step,
                    a_exists[i] && a_place < left_of_a);
    }
    a += depth<T>;
    left_of_a -= depth<T>;
  }
  __device__ void copy_b(int stage) {
    if (left_of_b <= 0) return;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int place = b_place + (transposed ? 0 : i * b_rows);
      copy_16_bytes(b_to + stage * stage_bytes + i * (operand_bytes / 2), b + i * b_step,
                    b_exists[i] && place < left_of_b);
    }
    b += transposed ? depth<T> : 2 * b_step;
    left_of_b -= depth<T>;
  }
};

// Of B, what a warp multiplies by 16 columns from `column` on: vectors 2 step and 2 step + 1 of K.
template <typename T, bool transposed>
__device__ void load_columns(uint32_t (&of_b)[4], unsigned char* b, int column, int step) {
  const int lane = threadIdx.x % 32;
  if constexpr (transposed) {
    const int row = column + lane / 16 * 8 + lane % 8;
    load_tiles<false>(of_b, along_k(b, row, step * 2 + lane / 8 % 2));
  } else if constexpr (sizeof(T) == 2) {
    load_tiles<true>(of_b, along_n<T>(b, step * 16 + lane % 16, column / 8 + lane / 16));
  } else {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int row = step * 8 + i % 2 * 4 + lane % 4, at = column + i / 2 * 8 + lane / 4;
      of_b[i] = reinterpret_cast<const uint32_t*>(along_n<T>(b, row, at / 4))[at % 4];
    }
  }
}

// A warp's quarter of a tile: sums[i][j] is the tile of 16 x 8 at (16 i, 8 j). Four warps compute
// with one half of the stage's part of K, four with the other.
using Quarter = float[2][4][4];

template <typename T, bool transposed>
__device__ void multiply_stage(Quarter& sums, unsigned char* a, unsigned char* b) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, half = warp / 4;
  const int row = warp % 4 / 2 * 32 + lane % 16, column = warp % 2 * 32;
  uint32_t of_a[2][2][4], of_b[2][2][4];
#pragma unroll
  for (int step = 0; step < 2; ++step) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int at = half * 2 + step;
      load_tiles<false>(of_a[step][i], along_k(a, row + i * 16, at * 2 + lane / 16));
      load_columns<T, transposed>(of_b[step][i], b, column + i * 16, at);
    }
  }
  if constexpr (sizeof(T) == 4) {
    // Cut off instead, factors would all be too small, and errors of layers would add up.
#pragma unroll
    for (int i = 0; i < 16; ++i) {
      uint32_t& a = of_a[i / 8][i / 4 % 2][i % 4];
      uint32_t& b = of_b[i / 8][i / 4 % 2][i % 4];
      a = round_bits(a);
      b = round_bits(b);
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

// The sums over k from `first` on, up to `last`. What `meanwhile` does has the time that the first
// tiles take.
template <typename T, bool transposed, typename Meanwhile>
__device__ void multiply_part(Quarter& sums, const Matrices<T>& x, int first, int last,
                              unsigned char* shared, bool has_constant_b, Meanwhile meanwhile) {
  Copier<T, transposed> copier(x, first, last, shared);
  const int count = (last - first + depth<T> - 1) / depth<T>;
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
    unsigned char* from = shared + stage * stage_bytes;
    multiply_stage<T, transposed>(sums, from, from + operand_bytes);
    stage = stage == stages - 1 ? 0 : stage + 1;
  }
  wait_for_copies();
  __syncthreads();
}

// What is added to the sums of a thread's places, each a vector, in the block's rows of the tile.
template <typename T, int blocks>
struct Addends {
  static constexpr int rows = tile / blocks, vectors = tile / width<T>;
  static constexpr int count = (rows * vectors + threads - 1) / threads;
  uint4 bias[count], residual[count];

  // Row and column in the tile of place number i.
  __device__ static int row(int i) { return (threadIdx.x + i * threads) / vectors; }
  __device__ static int column() { return threadIdx.x % vectors * width<T>; }
  __device__ static bool exists(const Matrices<T>& x, int first, int i) {
    return row(i) < rows && x.row + first + row(i) < x.m && x.column + column() < x.n;
  }
  __device__ static int64_t place(const Matrices<T>& x, int first, int i) {
    const int at = x.column + column(), result = at / x.part;
    const int64_t line = static_cast<int64_t>(result) * x.m + x.row + first + row(i);
    return line * x.part + at - result * x.part;
  }
  __device__ void load(const Matrices<T>& x, int first, const T* of_columns, const T* of_places) {
#pragma unroll
    for (int i = 0; i < count; ++i) {
      if (!exists(x, first, i)) continue;
      if (of_columns != nullptr) {
        bias[i] = *reinterpret_cast<const uint4*>(of_columns + x.column + column());
      }
      if (of_places != nullptr) {
        residual[i] = *reinterpret_cast<const uint4*>(of_places + place(x, first, i));
      }
    }
  }
};

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
  if constexpr (blocks > 1) return there<float4>(block, own);
  return *reinterpret_cast<const float4*>(own);
}

template <int kind, int count>
__device__ void activate_all(float (&values)[count], const Activation& activation) {
  if (activation.kind != kind) return;
#pragma unroll
  for (int i = 0; i < count; ++i) {
    values[i] = activate<float>(kind, values[i], activation.alpha, activation.beta);
  }
}

// The addends are taken apart where they are used, so that loads are not waited for before.
template <typename T>
__device__ void add_vector(float (&values)[width<T>], const uint4& raw) {
  T addends[width<T>];
  memcpy(addends, &raw, sizeof(raw));
#pragma unroll
  for (int i = 0; i < width<T>; ++i) values[i] += widen(addends[i]);
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
    float values[width<T>] = {};
#pragma unroll
    for (int part = 0; part < 2 * parts; ++part) {
      const int row = part % 2 * tile + first + Places::row(i);
      const float* own = sums + row * sums_stride + Places::column();
#pragma unroll
      for (int j = 0; j < width<T>; j += 4) {
        const float4 four = sums_of<parts>(part / 2, own + j);
        values[j] += four.x;
        values[j + 1] += four.y;
        values[j + 2] += four.z;
        values[j + 3] += four.w;
      }
    }
#pragma unroll
    for (int j = 0; j < width<T>; ++j) values[j] *= alpha;
    if (has_bias) add_vector<T>(values, addends.bias[i]);
    if (has_residual) add_vector<T>(values, addends.residual[i]);
    activate_all<activation_gelu>(values, activation);
    activate_all<activation_gelu_tanh>(values, activation);
    activate_all<activation_relu>(values, activation);
    activate_all<activation_clip>(values, activation);
    activate_all<activation_swish>(values, activation);
    activate_all<activation_hard_swish>(values, activation);
    T results[width<T>];
#pragma unroll
    for (int j = 0; j < width<T>; ++j) results[j] = narrow<T>(values[j]);
    uint4 raw;
    memcpy(&raw, results, sizeof(raw));
    *reinterpret_cast<uint4*>(x.y + Places::place(x, first, i)) = raw;
  }
}

template <typename T, int blocks, bool transposed>
__device__ void multiply(const Matrices<T>& x, bool has_constant_b, const T* bias,
                         const T* residual, float alpha, const Activation& activation) {
  DYNAMIC_SHARED(shared);
  float* sums = reinterpret_cast<float*>(shared);
  const bool has_bias = bias != nullptr, has_residual = residual != nullptr;
  constexpr int unit = depth<T> * blocks;
  const int length = (x.k + unit - 1) / unit * depth<T>;
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
  leave<blocks>();
#endif
}

}  // namespace

#define KERNEL(blocks, layout, transposed, name, T)                                             \
  extern "C" __global__ void CLUSTER(1, 1, blocks) __launch_bounds__(threads)                   \
      cluster_matmul_##layout##_##blocks##_##name(const T* a, const T* b, T* y, int32_t m,      \
                                                  int32_t n, int32_t k, int32_t part,           \
                                                  int32_t constant_b, EPILOGUE_PARAMETERS(T)) { \
    wait_for_previous_kernels(constant_b);                                                      \
    const int row = blockIdx.y * tile, column = blockIdx.x * tile;                              \
    const Matrices<T> x{a, b, y, m, n, k, part, row, column};                                   \
    const Activation activated{activation, activation_alpha, activation_beta};                  \
    multiply<T, blocks, transposed>(x, constant_b != 0, bias, residual, alpha, activated);      \
  }
#define LAYOUT(layout, transposed, name, T)                                             \
  IN_PART(layout##_##name,                                                              \
          KERNEL(1, layout, transposed, name, T) KERNEL(2, layout, transposed, name, T) \
              KERNEL(4, layout, transposed, name, T) KERNEL(8, layout, transposed, name, T))
#define LAYOUTS(name, T) LAYOUT(rows, false, name, T) LAYOUT(columns, true, name, T)
LAYOUTS(float32, float)
LAYOUTS(float16, float16)
LAYOUTS(bfloat16, bfloat16)
