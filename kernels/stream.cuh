// SPDX-License-Identifier: Apache-2.0
// Products of a few rows x with weights [n, k], packed along k, for 16-bit elements: as fast as the
// weights can be read. Before it a normalization of the rows, after it what Epilogue does, or a
// gate.
//
// Tensor cores do the arithmetic. A warp takes a tile of 16 columns, of which it reads 64 bytes
// each at once; `slices` warps take neighbouring parts of the same columns. Which k a lane has does
// not matter to a product, as long as x is put in the same order. Weights pass through stages in
// shared memory, which are filled before the kernels in front are done, and long runs of memory are
// read at once. The next kernel does the same while this one computes, so that memory is never
// idle; for that two blocks have to fit on a multiprocessor.
//
// A kernel runs for a few microseconds, in which most of its instructions are read for the first
// time. So loops are not unrolled where it is not worth it.
#pragma once

#include "asynchronous_copy.cuh"
#include "gemv.cuh"
#include "tensor_core.cuh"

constexpr int tile_columns = 16;  // of a warp
constexpr int stream_warps = 16;  // of a block
constexpr int stream_threads = 32 * stream_warps;
constexpr int most_rows = 8;
constexpr int stage_bytes = stream_warps * tile_columns * 64;  // of weights

// What a product has beside its weights.
template <typename T>
struct Product {
  const T* x;
  const T* norm;   // null, or the scale of the normalization
  const T* shift;  // null, or what is added afterwards
  T* y;
  float epsilon;
  int centers;  // whether the normalization takes off the mean
  int m, n, k;
  int slices;    // log2 of the warps that share columns
  int gated;     // y is swish(first half of the columns) * second half, + residual
  int constant;  // nobody writes the weights, so that they can be read at any time
};

// 4 bytes from global to shared memory, of which those behind the first `exist` are zeros.
__device__ inline void copy_4_bytes(void* to, const void* from, int exist) {
#if !defined(BASCULE_EMULATED) && __CUDA_ARCH__ >= 800
  const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(address), "l"(from), "r"(exist)
               : "memory");
#else
  *static_cast<uint32_t*>(to) = 0;
  memcpy(to, from, exist);
#endif
}

// A row of x to shared memory element by element, after its normalization.
template <typename T, typename Weights>
__device__ void stage_elements(const Product<T>& p, const T* row, int end, T* staged) {
  float mean = 0, factor = 1;
  if (p.norm != nullptr) {
    if (p.centers) {
      for (int k = threadIdx.x; k < p.k; k += stream_threads) mean += widen(row[k]);
      mean = block_reduce(mean, 0.0f, Sum()) / p.k;
    }
    float squares = 0;
    for (int k = threadIdx.x; k < p.k; k += stream_threads) {
      const float value = widen(row[k]) - mean;
      squares += value * value;
    }
    factor = 1 / sqrtf(block_reduce(squares, 0.0f, Sum()) / p.k + p.epsilon);
  }
  for (int k = threadIdx.x; k < end; k += stream_threads) {
    T value = k < p.k ? row[k] : narrow<T>(0.0f);
    if (p.norm != nullptr && k < p.k) {
      float normal = (widen(value) - mean) * factor * widen(p.norm[k]);
      if (p.shift != nullptr) normal += widen(p.shift[k]);
      value = narrow<T>(normal);
    }
    staged[(k & ~7) + Weights::place(k & 7)] = value;
  }
}

// The same with eight elements of a row at once, all of whose parts are aligned.
template <typename T, typename Weights>
__device__ void stage_vectors(const Product<T>& p, const T* row, int end, T* staged) {
  const uint4* from = reinterpret_cast<const uint4*>(row);
  float mean = 0, factor = 1;
  if (p.norm != nullptr) {
    float values[8];
    if (p.centers) {
#pragma unroll 1
      for (int piece = threadIdx.x; piece < p.k / 8; piece += stream_threads) {
        unpack<T>(from[piece], values);
#pragma unroll
        for (int i = 0; i < 8; ++i) mean += values[i];
      }
      mean = block_reduce(mean, 0.0f, Sum()) / p.k;
    }
    float squares = 0;
#pragma unroll 1
    for (int piece = threadIdx.x; piece < p.k / 8; piece += stream_threads) {
      unpack<T>(from[piece], values);
#pragma unroll
      for (int i = 0; i < 8; ++i) squares += (values[i] - mean) * (values[i] - mean);
    }
    factor = 1 / sqrtf(block_reduce(squares, 0.0f, Sum()) / p.k + p.epsilon);
  }
#pragma unroll 1
  for (int piece = threadIdx.x; piece < end / 8; piece += stream_threads) {
    alignas(16) T values[8] = {}, ordered[8];
    if (piece < p.k / 8) *reinterpret_cast<uint4*>(values) = from[piece];
    if (p.norm != nullptr && piece < p.k / 8) {
      float scales[8], shifts[8] = {};
      unpack<T>(reinterpret_cast<const uint4*>(p.norm)[piece], scales);
      if (p.shift != nullptr) unpack<T>(reinterpret_cast<const uint4*>(p.shift)[piece], shifts);
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        values[i] = narrow<T>((widen(values[i]) - mean) * factor * scales[i] + shifts[i]);
      }
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) ordered[Weights::place(i)] = values[i];
    reinterpret_cast<uint4*>(staged)[piece] = *reinterpret_cast<const uint4*>(ordered);
  }
}

// How tiles are numbered: a tile and its gate follow each other.
template <typename T>
struct Tiles {
  int at_once, count, half;

  __device__ explicit Tiles(const Product<T>& p)
      : at_once(stream_warps >> p.slices), half(p.gated ? p.n / 2 : 0) {
    count = p.gated ? (half + tile_columns - 1) / tile_columns * 2
                    : (p.n + tile_columns - 1) / tile_columns;
  }
  __device__ int column(int tile) const {
    return half ? tile / 2 * tile_columns + tile % 2 * half : tile * tile_columns;
  }
};

// The sums of a tile: `sum_of(slices)` of what its warps have left.
struct Sums {
  float of_warps[stream_warps][most_rows][tile_columns];

  __device__ float total(int warp, int slices, int row, int column) const {
    float sum = 0;
#pragma unroll 4
    for (int slice = 0; slice < slices; ++slice) sum += of_warps[warp + slice][row][column];
    return sum;
  }
};

// The product by the warps of a block. `Weights` says how weights lie and are expanded:
//
//   depth              stages
//   more_bytes         of a stage, beside weights
//   together           k that a warp reads at once
//   segments           such k have so many scales
//   place(i)           where element i of each eight of x goes to
//   row_bytes, row(column)     of weights
//   select(column, second)     whose scales this thread reads from now on
//   fetch(group, to)           starts to read them
//   multiply(column, group, low, high, more, x, sums)
//                              adds the products of a column (low) and of that which is 8 further
//                              on (high) with x to the sums
template <typename T, typename Weights>
__device__ void multiply_streamed(const Product<T>& p, Weights& weights,
                                  const Epilogue<T>& epilogue) {
  constexpr int depth = Weights::depth, together = Weights::together;
  constexpr int segments = Weights::segments, pieces_together = together / 8;
  constexpr int entry_bytes = stage_bytes + Weights::more_bytes;
  DYNAMIC_SHARED(memory);
  __shared__ Sums shared;
  const Tiles<T> tiles(p);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
  const int slices = 1 << p.slices, slice = warp & (slices - 1);
  const int groups = (p.k + together - 1) / together, steps = (groups + slices - 1) >> p.slices;
  const int of_x = p.m * groups * together;  // elements, and 32 zeros behind
  T* staged = reinterpret_cast<T*>(memory);
  unsigned char* stages = memory + (of_x + 32) * sizeof(T);

  // A stage has 64 * slices bytes of each column: this thread copies 16 of `row` and 16 of the row
  // that is half a stage further on. They are swapped so that a warp reads from all banks.
  const int chunks_shift = p.slices + 2, chunk = threadIdx.x & ((1 << chunks_shift) - 1);
  const int row = threadIdx.x >> chunks_shift, rows = stream_threads >> chunks_shift;
  const int to = threadIdx.x ^ (chunks_shift > 2 ? (row & 1) << 2 : 0);
  const int more_row = warp / slices * tile_columns + g;  // see Weights::select
  const unsigned char* from[2];
  int read_first = blockIdx.x * tiles.at_once, read_step = 0, read_stage = 0;
  const auto column_of = [&](int stage_row) {
    const int tile = min(read_first + stage_row / tile_columns, tiles.count - 1);
    return min(tiles.column(tile) + stage_row % tile_columns, p.n - 1);
  };
  const auto select = [&] {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      from[i] = weights.row(column_of(row + i * rows)) + chunk * 16;
    }
    weights.select(column_of(more_row), column_of(more_row + 8));
  };
  const auto fetch = [&] {
    if (read_first < tiles.count) {
      unsigned char* stage = stages + read_stage * entry_bytes;
      const int at = read_step * slices * 64;
      const bool exists = at + chunk * 16 < weights.row_bytes;
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        copy_16_bytes(stage + (to + i * stream_threads) * 16, from[i] + at, exists);
      }
      weights.fetch(read_step * slices + slice, stage + stage_bytes);
      if (++read_step == steps) {
        read_step = 0;
        read_first += gridDim.x * tiles.at_once;
        if (read_first < tiles.count) select();
      }
    }
    end_batch_of_copies();
    read_stage = read_stage + 1 == depth ? 0 : read_stage + 1;
  };
  select();
  if (!p.constant) wait_for_previous_kernels();
#pragma unroll 1
  for (int i = 0; i < depth - 1; ++i) fetch();
  if (p.constant) wait_for_previous_kernels();

  if (threadIdx.x < 32) staged[of_x + threadIdx.x] = narrow<T>(0.0f);
  const auto is_aligned = [](const T* x) { return reinterpret_cast<uintptr_t>(x) % 16 == 0; };
  const bool vectors = p.k % 8 == 0 && is_aligned(p.x) && is_aligned(p.norm) && is_aligned(p.shift);
#pragma unroll 1
  for (int r = 0; r < p.m; ++r) {
    const T* x = p.x + static_cast<int64_t>(r) * p.k;
    T* to_row = staged + r * groups * together;
    if (vectors) {
      stage_vectors<T, Weights>(p, x, groups * together, to_row);
    } else {
      stage_elements<T, Weights>(p, x, groups * together, to_row);
    }
  }
  // What this lane has to give of x. Sums over different blocks of weights go to different columns,
  // so that they can be scaled afterwards.
  const int own_row = g / segments;
  const bool gives = g % segments == t / (4 / segments) && own_row < p.m;
  const int given =
      gives ? (own_row * groups + slice) * pieces_together + t * pieces_together / 4 : of_x / 8;
  const int given_step = gives ? pieces_together * slices : 0;
  // Where this lane finds what it multiplies, in 16 bytes; the second column is 8 rows further on.
  const int own = (((warp >> p.slices) * tile_columns + g) << chunks_shift) +
                  ((slice * 4 + t) ^ (chunks_shift > 2 ? (g & 1) << 2 : 0));

  int stage = 0;
#pragma unroll 1
  for (int first = blockIdx.x * tiles.at_once; first < tiles.count;
       first += gridDim.x * tiles.at_once) {
    float sums[4] = {};
    const int column = tiles.column(first + (warp >> p.slices)) + g;
#pragma unroll 1
    for (int step = 0; step < steps; ++step) {
      wait_for_batches<depth - 2>();
      __syncthreads();  // everybody's copies are there, and the stage before has been read
      const unsigned char* now = stages + stage * entry_bytes;
      const int group = step * slices + slice;
      fetch();
      if (group < groups) {
        const uint4* data = reinterpret_cast<const uint4*>(now) + own;
        weights.multiply(column, group, data[0], data[8 << chunks_shift], now + stage_bytes,
                         reinterpret_cast<const uint4*>(staged) + given + step * given_step, sums);
      }
      stage = stage + 1 == depth ? 0 : stage + 1;
    }
    // Segments to their rows.
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float (&of_warp)[most_rows][tile_columns] = shared.of_warps[warp];
      if constexpr (segments == 1) {
        of_warp[2 * t][g + 8 * i] = sums[2 * i];
        of_warp[2 * t + 1][g + 8 * i] = sums[2 * i + 1];
      } else {
        float sum = sums[2 * i] + sums[2 * i + 1];
        if constexpr (segments == 4) sum += __shfl_xor_sync(0xffffffffu, sum, 1);
        of_warp[segments == 4 ? t / 2 : t][g + 8 * i] = sum;
      }
    }
    __syncthreads();
    const int pair = p.gated ? 2 : 1, made = min(tiles.at_once, tiles.count - first) / pair;
    const int columns = p.gated ? p.n / 2 : p.n, of_tile = p.m * tile_columns;
#pragma unroll 1
    for (int i = threadIdx.x; i < made * of_tile; i += stream_threads) {
      const int local = i / of_tile * pair, r = i % of_tile / tile_columns, c = i % tile_columns;
      const int to_column = tiles.column(first + local) + c;
      if (to_column >= columns) continue;
      const int64_t at = static_cast<int64_t>(r) * columns + to_column;
      float sum = shared.total(local << p.slices, slices, r, c);
      if (p.gated) {
        float gate = shared.total((local + 1) << p.slices, slices, r, c);
        if (epilogue.bias != nullptr) {
          sum += widen(epilogue.bias[to_column]);
          gate += widen(epilogue.bias[to_column + columns]);
        }
        sum = widen(narrow<T>(sum));
        sum = sum / (1 + expf(-sum)) * widen(narrow<T>(gate));
        if (epilogue.residual != nullptr) sum += widen(epilogue.residual[at]);
        p.y[at] = narrow<T>(sum);
      } else {
        p.y[at] = epilogue(sum, at, to_column);
      }
    }
    // The next sums are written after another barrier.
  }
}
