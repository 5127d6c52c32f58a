// SPDX-License-Identifier: Apache-2.0
// parts: float16 bfloat16
//
// Products of a few rows with 16-bit weights, [n, k]: as fast as the weights can be read.
//
// A warp reads 64 bytes of each of its columns at once; `slices` warps take neighbouring parts of
// the same columns. Which k a lane has does not matter to a product, as long as x is put in the
// same order. Weights pass through stages in shared memory, which are filled before the kernels in
// front are done, and long runs of memory are read at once. The next kernel does the same while
// this one computes, so that memory is never idle; for that two blocks have to fit on a
// multiprocessor.
#include "stream.cuh"

namespace {

constexpr int tile_columns = 16;  // of a warp
constexpr int stage_bytes = stream_warps * tile_columns * 64;
constexpr int depth = 5;      // stages, or `shallow`
constexpr int together = 32;  // k that a warp reads at once

struct InOrder {
  __device__ static int place(int i) { return i; }
  __device__ void note(int, int, int, const uint4&) const {}
};

// What the warps of a block have for their tiles.
struct Sums {
  float of_warps[stream_warps][most_rows][tile_columns];

  __device__ float total(int warp, int slices, int row, int column) const {
    float sum = 0;
#pragma unroll 4
    for (int slice = 0; slice < slices; ++slice) sum += of_warps[warp + slice][row][column];
    return sum;
  }
};

// The product by the warps of a block. At least 4 of them (2 to the power of `slice_bits`) share
// columns, so that a thread has one element of the result at most.
template <typename T>
__device__ void multiply_streamed(const Product<T>& p, const T* w, int slice_bits, int stages,
                                  const Epilogue<T>& epilogue) {
  DYNAMIC_SHARED(memory);
  __shared__ Sums shared;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
  const int slices = 1 << slice_bits, slice = warp & (slices - 1);
  const int at_once = stream_warps >> slice_bits;  // tiles of a block
  const int tiles = (p.n + tile_columns - 1) / tile_columns;
  const int groups = (p.k + together - 1) / together, steps = (groups + slices - 1) >> slice_bits;
  const int of_x = p.m * groups * together;  // elements, and 32 zeros behind
  const int row_bytes = p.k * 2;
  T* staged = reinterpret_cast<T*>(memory);
  unsigned char* in_stages = memory + (of_x + 32) * sizeof(T);

  // A stage has 64 * slices bytes of each column: this thread copies 16 of `row` and 16 of the row
  // that is half a stage further on. They are swapped so that a warp reads from all banks.
  const int chunks_shift = slice_bits + 2, chunk = threadIdx.x & ((1 << chunks_shift) - 1);
  const int row = threadIdx.x >> chunks_shift, rows = stream_threads >> chunks_shift;
  const int to = threadIdx.x ^ (chunks_shift > 2 ? (row & 1) << 2 : 0);
  const unsigned char* from[2];
  int read_first = blockIdx.x * at_once, read_step = 0, read_stage = 0;
  const auto select = [&] {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int column = min(read_first * tile_columns + row + i * rows, p.n - 1);
      from[i] = reinterpret_cast<const unsigned char*>(w) +
                static_cast<int64_t>(column) * row_bytes + chunk * 16;
    }
  };
  const auto fetch = [&] {
    if (read_first < tiles) {
      unsigned char* now = in_stages + read_stage * stage_bytes;
      const bool exists = (read_step * slices * 4 + chunk) * 16 < row_bytes;
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        copy_16_bytes(now + (to + i * stream_threads) * 16, from[i], exists);
        from[i] += slices * 64;
      }
      if (++read_step == steps) {
        read_step = 0;
        read_first += gridDim.x * at_once;
        select();
      }
    }
    end_batch_of_copies();
    read_stage = read_stage + 1 == stages ? 0 : read_stage + 1;
  };
  select();
  const InOrder order;
  Stage<T, InOrder> stage(p, groups * together);
  if (!p.constant) wait_for_previous_kernels();
#pragma unroll 1
  for (int i = 0; i < stages - 1; ++i) fetch();
  stage.read_normalization(threadIdx.x * 8);
  if (p.constant) wait_for_previous_kernels();

  if (threadIdx.x < 32) staged[of_x + threadIdx.x] = narrow<T>(0.0f);
#pragma unroll 1
  for (int r = 0; r < p.m; ++r) stage.run(r, staged + r * groups * together, order);
  // What this lane has to give of x, in 16 bytes.
  const int given = g < p.m ? (g * groups + slice) * 4 + t : of_x / 8;
  const int given_step = g < p.m ? 4 * slices : 0;
  // Where it finds what it multiplies; the second column is 8 rows further on.
  const int own = (((warp >> slice_bits) * tile_columns + g) << chunks_shift) +
                  ((slice * 4 + t) ^ (chunks_shift > 2 ? (g & 1) << 2 : 0));

  int stage_number = 0;
#pragma unroll 1
  for (int first = blockIdx.x * at_once; first < tiles; first += gridDim.x * at_once) {
    float sums[4] = {};
    const int number = threadIdx.x / tile_columns, own_row = p.m == 1 ? 0 : number % p.m;
    const int local = p.m == 1 ? number : number / p.m;
    const int column = (first + local) * tile_columns + threadIdx.x % tile_columns;
    const Output<T> output(p, epilogue, own_row, column, local < min(at_once, tiles - first));
#pragma unroll 1
    for (int step = 0; step < steps; ++step) {
      if (stages == depth) {
        wait_for_batches<depth - 2>();
      } else {
        wait_for_batches<shallow - 2>();
      }
      __syncthreads();  // everybody's copies are there, and the stage before has been read
      const auto* now = reinterpret_cast<const uint4*>(in_stages + stage_number * stage_bytes);
      fetch();
      if (step * slices + slice < groups) {
        const uint4 low = now[own], high = now[own + (8 << chunks_shift)];
        const uint4 x = reinterpret_cast<const uint4*>(staged)[given + step * given_step];
        const uint32_t front[4] = {low.x, high.x, low.y, high.y};
        const uint32_t back[4] = {low.z, high.z, low.w, high.w};
        multiply_tiles<T>(sums, front, x.x, x.y);
        multiply_tiles<T>(sums, back, x.z, x.w);
      }
      stage_number = stage_number + 1 == stages ? 0 : stage_number + 1;
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      shared.of_warps[warp][2 * t][g + 8 * i] = sums[2 * i];
      shared.of_warps[warp][2 * t + 1][g + 8 * i] = sums[2 * i + 1];
    }
    __syncthreads();
    if (output.exists) {
      const float sum = shared.total(local << slice_bits, slices, own_row, column % tile_columns);
      output.store(p, epilogue, sum, 0);
    }
    // The next sums are written after another barrier.
  }
}

}  // namespace

#define ENTRY(name, T)                                                                         \
  extern "C" __global__ void __launch_bounds__(stream_threads, 2) stream_matmul_##name(        \
      const T* x, const T* w, T* y, const T* norm, const T* shift, float epsilon, int centers, \
      int m, int n, int k, int slices, int stages, int constant, EPILOGUE_PARAMETERS(T)) {     \
    wait_for_previous_kernels(true);                                                           \
    const Product<T> product{x, norm, shift, y, epsilon, centers, m, n, k, 0, constant};       \
    multiply_streamed(product, w, slices, stages, EPILOGUE(T));                                \
  }
FOR_TYPE(ENTRY, float16, float16)
FOR_TYPE(ENTRY, bfloat16, bfloat16)
