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
constexpr int shallow = 3;                                     // stages at least

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
  int slices;    // log2 of the warps that share columns: at least 2
  int depth;     // stages: Weights::depth or, where memory is short, shallow
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

// Eight elements of a row from k on, zeros behind its end.
template <typename T>
__device__ inline uint4 read_eight(const T* row, int k, int end, bool vectors) {
  if (vectors && k < end) return *reinterpret_cast<const uint4*>(row + k);
  alignas(16) T values[8];
#pragma unroll
  for (int i = 0; i < 8; ++i) values[i] = k + i < end ? row[k + i] : narrow<T>(0.0f);
  return *reinterpret_cast<const uint4*>(values);
}

// The sum over a block by way of `of_warps`, which may be used again after another barrier.
__device__ inline float sum_over_threads(float value, float (&of_warps)[stream_warps]) {
  value = warp_reduce(value, Sum());
  if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = value;
  __syncthreads();
  float sum = 0;
#pragma unroll
  for (int i = 0; i < stream_warps; ++i) sum += of_warps[i];
  return sum;
}

// Takes rows of x to shared memory after their normalization.
template <typename T, typename Weights>
struct Stage {
  const Product<T>& p;
  const bool vectors;  // rows, and what belongs to them, can be read 16 bytes at once
  const int end;       // of a row there, with zeros behind what it has
  uint4 scale, shift;  // for this thread's first eight elements

  __device__ Stage(const Product<T>& product, int end)
      : p(product), vectors(are_aligned(product)), end(end) {}

  __device__ static bool are_aligned(const Product<T>& p) {
    const auto bits = reinterpret_cast<uintptr_t>(p.x) | reinterpret_cast<uintptr_t>(p.norm) |
                      reinterpret_cast<uintptr_t>(p.shift);
    return p.k % 8 == 0 && bits % 16 == 0;
  }

  __device__ void read_normalization(int k) {
    if (p.norm != nullptr) scale = read_eight(p.norm, k, p.k, vectors);
    shift = make_uint4(0, 0, 0, 0);
    if (p.shift != nullptr) shift = read_eight(p.shift, k, p.k, vectors);
  }

  // All threads call it, after read_normalization for their first elements.
  __device__ void run(int r, T* staged, const Weights& weights) {
    __shared__ float of_warps[4][stream_warps];
    const T* row = p.x + static_cast<int64_t>(r) * p.k;
    const int first = threadIdx.x * 8, step = stream_threads * 8;
    float values[8], mean = 0, factor = 1;
    if (p.norm != nullptr) {
      if (p.centers) {
        float sum = 0;
#pragma unroll 1
        for (int k = first; k < p.k; k += step) {
          unpack<T>(read_eight(row, k, p.k, vectors), values);
#pragma unroll
          for (int i = 0; i < 8; ++i) sum += values[i];  // zeros behind the end
        }
        mean = sum_over_threads(sum, of_warps[r % 2 * 2]) / p.k;
      }
      float squares = 0;
#pragma unroll 1
      for (int k = first; k < p.k; k += step) {
        unpack<T>(read_eight(row, k, p.k, vectors), values);
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          const float value = k + i < p.k ? values[i] - mean : 0;
          squares += value * value;
        }
      }
      squares = sum_over_threads(squares, of_warps[r % 2 * 2 + 1]);
      factor = 1 / sqrtf(squares / p.k + p.epsilon);
    }
    // Whole warps go on together.
#pragma unroll 1
    for (int k = first; k - static_cast<int>(threadIdx.x) % 32 * 8 < end; k += step) {
      uint4 raw = read_eight(row, k, p.k, vectors);
      if (p.norm != nullptr) {
        if (k != first || (r > 0 && p.k > step)) read_normalization(k);
        float scales[8], shifts[8];
        unpack<T>(raw, values);
        unpack<T>(scale, scales);
        unpack<T>(shift, shifts);
        alignas(16) T normal[8];
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          normal[i] = narrow<T>((values[i] - mean) * factor * scales[i] + shifts[i]);
        }
        raw = *reinterpret_cast<const uint4*>(normal);
        if (k >= p.k) raw = make_uint4(0, 0, 0, 0);
      }
      weights.note(r, k, end, raw);
      alignas(16) T from[8], to[8];
      *reinterpret_cast<uint4*>(from) = raw;
#pragma unroll
      for (int i = 0; i < 8; ++i) to[Weights::place(i)] = from[i];
      if (k < end) *reinterpret_cast<uint4*>(staged + k) = *reinterpret_cast<const uint4*>(to);
    }
  }
};

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

// The element of the result that a thread makes of the sums, and what is added to it, which is read
// ahead.
template <typename T>
struct Output {
  bool exists;
  int local, row, column;  // its tile's number in the block, and where it is
  int64_t at;
  float bias, of_gate, residual;

  __device__ Output(const Product<T>& p, const Tiles<T>& tiles, const Epilogue<T>& epilogue,
                    int first) {
    const int columns = p.gated ? p.n / 2 : p.n, pair = p.gated ? 2 : 1;
    const int number = threadIdx.x / tile_columns;
    row = p.m == 1 ? 0 : number % p.m;
    local = (p.m == 1 ? number : number / p.m) * pair;
    column = tiles.column(first + local) + threadIdx.x % tile_columns;
    at = static_cast<int64_t>(row) * columns + column;
    exists = local < min(tiles.at_once, tiles.count - first) && column < columns;
    bias = of_gate = residual = 0;
    if (!exists) return;
    if (epilogue.bias != nullptr) {
      bias = widen(epilogue.bias[column]);
      if (p.gated) of_gate = widen(epilogue.bias[column + columns]);
    }
    if (epilogue.residual != nullptr) residual = widen(epilogue.residual[at]);
  }

  __device__ void store(const Product<T>& p, const Epilogue<T>& epilogue, const Sums& sums) const {
    if (!exists) return;
    const int slices = 1 << p.slices, row_of = row, c = threadIdx.x % tile_columns;
    float value = sums.total(local << p.slices, slices, row_of, c) * epilogue.alpha + bias;
    if (p.gated) {
      const float gate = sums.total((local + 1) << p.slices, slices, row_of, c) + of_gate;
      value = widen(narrow<T>(value));
      value = value / (1 + expf(-value)) * widen(narrow<T>(gate));
    }
    value = activate<float>(epilogue.activation, value + residual, epilogue.activation_alpha,
                            epilogue.activation_beta);
    p.y[at] = narrow<T>(value);
  }
};

// The product by the warps of a block. `Weights` says how weights lie and are expanded:
//
// - `depth` stages at most, each with `more_bytes` beside weights;
// - `together`: k that a warp reads at once, 64 bytes of a column, which have so many scales:
//   `segments`;
// - `place(i)`: where element i of each eight of x goes to;
// - `row_bytes` and `row(column)` of weights;
// - `select(column, second)`: whose scales this thread reads from now on, by `fetch(group, to)`;
// - `note(row, k, end, values)` is told of eight elements of x, by all lanes, and may keep
//   `noted_of_group` numbers of each row and such k in `noted`, whole 16 bytes; `begin(groups)`
//   says that these are all;
// - `multiply(column, group, low, high, more, x, sums)` adds the products of a column (low) and of
//   that which is 8 further on (high) with x to the sums.
//
// At least 4 warps share columns, so that a thread has one element of the result at most.
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
  weights.noted = reinterpret_cast<float*>(memory + (of_x + 32) * sizeof(T));
  unsigned char* stages =
      memory + (of_x + 32) * sizeof(T) + p.m * groups * Weights::noted_of_group * sizeof(float);

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
      unsigned char* now = stages + read_stage * entry_bytes;
      const bool exists = (read_step * slices * 4 + chunk) * 16 < weights.row_bytes;
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        copy_16_bytes(now + (to + i * stream_threads) * 16, from[i], exists);
        from[i] += slices * 64;
      }
      weights.fetch(read_step * slices + slice, now + stage_bytes);
      if (++read_step == steps) {
        read_step = 0;
        read_first += gridDim.x * tiles.at_once;
        if (read_first < tiles.count) select();
      }
    }
    end_batch_of_copies();
    read_stage = read_stage + 1 == p.depth ? 0 : read_stage + 1;
  };
  select();
  Stage<T, Weights> stage(p, groups * together);
  if (!p.constant) wait_for_previous_kernels();
#pragma unroll 1
  for (int i = 0; i < p.depth - 1; ++i) fetch();
  stage.read_normalization(threadIdx.x * 8);
  if (p.constant) wait_for_previous_kernels();

  if (threadIdx.x < 32) staged[of_x + threadIdx.x] = narrow<T>(0.0f);
#pragma unroll 1
  for (int r = 0; r < p.m; ++r) stage.run(r, staged + r * groups * together, weights);
  weights.begin(groups);
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

  int stage_number = 0;
#pragma unroll 1
  for (int first = blockIdx.x * tiles.at_once; first < tiles.count;
       first += gridDim.x * tiles.at_once) {
    float sums[4] = {};
    const int column = tiles.column(first + (warp >> p.slices)) + g;
    const Output<T> output(p, tiles, epilogue, first);
#pragma unroll 1
    for (int step = 0; step < steps; ++step) {
      if (p.depth == depth) {
        wait_for_batches<depth - 2>();
      } else {
        wait_for_batches<shallow - 2>();
      }
      __syncthreads();  // everybody's copies are there, and the stage before has been read
      const unsigned char* now = stages + stage_number * entry_bytes;
      const int group = step * slices + slice;
      fetch();
      if (group < groups) {
        const uint4* data = reinterpret_cast<const uint4*>(now) + own;
        weights.multiply(column, group, data[0], data[8 << chunks_shift], now + stage_bytes,
                         reinterpret_cast<const uint4*>(staged) + given + step * given_step, sums);
      }
      stage_number = stage_number + 1 == p.depth ? 0 : stage_number + 1;
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
    output.store(p, epilogue, shared);
    // The next sums are written after another barrier.
  }
}
