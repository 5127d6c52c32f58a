// SPDX-License-Identifier: Apache-2.0
// Products of a few rows x with weights [n, k], packed along k, for 16-bit elements: as fast as the
// weights can be read. Before it a normalization of the rows, after it what Epilogue does, or a
// gate.
//
// Tensor cores do the arithmetic. A warp takes 16 columns; a lane reads 16 bytes each of two of
// them, and four lanes 64 bytes of a column. Which k these are does not matter to a product, as
// long as x is put in the same order. What a lane reads it also multiplies: so its share of shared
// memory is a queue of its own, which needs no barrier, and which is filled with weights before the
// kernels in front are done. The next kernel does the same while this one computes, so that memory
// is never idle; for that two blocks have to fit on a multiprocessor.
#pragma once

#include "asynchronous_copy.cuh"
#include "gemv.cuh"
#include "tensor_core.cuh"

constexpr int tile_columns = 16;  // of a warp
constexpr int stream_warps = 16;  // of a block
constexpr int most_rows = 8;

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
  int slices;    // warps of a block that share the k of their columns
  int depth;     // entries of a lane's queue: Weights::depth or, where memory is short, 2
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
__device__ inline void read_eight(const T* row, int k, int end, bool vectors, T (&to)[8]) {
  if (vectors && k < end) {
    *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(row + k);
    return;
  }
#pragma unroll
  for (int i = 0; i < 8; ++i) to[i] = k + i < end ? row[k + i] : narrow<T>(0.0f);
}

// `each(u, piece)` for this thread's pieces; u counts the first `kept` of them.
template <int kept, typename Each>
__device__ inline void each_piece(int pieces, const Each& each) {
#pragma unroll
  for (int u = 0; u < kept; ++u) {
    const int piece = threadIdx.x + u * blockDim.x;
    if (piece < pieces) each(u, piece);
  }
  for (int piece = threadIdx.x + kept * blockDim.x; piece < pieces; piece += blockDim.x) {
    each(kept, piece);
  }
}

// Rows of x to shared memory after their normalization, each eight elements as `order` has them.
template <typename T, typename Order>
__device__ void stage(const Product<T>& p, int pieces, uint4* staged, const Order& order) {
  constexpr int most_kept = 2;  // pieces of a row that a thread keeps in registers
  const auto is_aligned = [](const T* x) { return reinterpret_cast<uintptr_t>(x) % 16 == 0; };
  const bool vectors = p.k % 8 == 0 && is_aligned(p.x) && is_aligned(p.norm) && is_aligned(p.shift);
  for (int r = 0; r < p.m; ++r) {
    const T* row = p.x + static_cast<int64_t>(r) * p.k;
    alignas(16) T kept[most_kept][8];
    const auto values_of = [&](int u, int piece, T(&to)[8]) {
      if (u >= most_kept) return read_eight(row, piece * 8, p.k, vectors, to);
#pragma unroll
      for (int i = 0; i < 8; ++i) to[i] = u == 0 ? kept[0][i] : kept[1][i];
    };
#pragma unroll
    for (int u = 0; u < most_kept; ++u) {
      const int piece = threadIdx.x + u * blockDim.x;
      read_eight(row, piece < pieces ? piece * 8 : p.k, p.k, vectors, kept[u]);
    }
    float mean = 0, factor = 1;
    if (p.norm != nullptr) {
      if (p.centers) {
        each_piece<most_kept>(pieces, [&](int u, int piece) {
          alignas(16) T values[8];
          values_of(u, piece, values);
#pragma unroll
          for (int i = 0; i < 8; ++i) mean += widen(values[i]);  // zeros behind the end
        });
        mean = block_reduce(mean, 0.0f, Sum()) / p.k;
      }
      float squares = 0;
      each_piece<most_kept>(pieces, [&](int u, int piece) {
        alignas(16) T values[8];
        values_of(u, piece, values);
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          const float value = piece * 8 + i < p.k ? widen(values[i]) - mean : 0;
          squares += value * value;
        }
      });
      factor = 1 / sqrtf(block_reduce(squares, 0.0f, Sum()) / p.k + p.epsilon);
    }
    each_piece<most_kept>(pieces, [&](int u, int piece) {
      alignas(16) T values[8], ordered[8];
      values_of(u, piece, values);
      if (p.norm != nullptr) {
        alignas(16) T scales[8], shifts[8];
        read_eight(p.norm, piece * 8, p.k, vectors, scales);
        if (p.shift != nullptr) read_eight(p.shift, piece * 8, p.k, vectors, shifts);
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          float value = (widen(values[i]) - mean) * factor * widen(scales[i]);
          if (p.shift != nullptr) value += widen(shifts[i]);
          values[i] = narrow<T>(value);
        }
      }
#pragma unroll
      for (int i = 0; i < 8; ++i) ordered[i] = values[order(i)];
      staged[r * pieces + piece] = *reinterpret_cast<const uint4*>(ordered);
    });
  }
}

// How tiles are numbered: a tile and its gate follow each other.
template <typename T>
struct Tiles {
  int at_once, count, half;

  __device__ explicit Tiles(const Product<T>& p)
      : at_once(stream_warps / p.slices), half(p.gated ? p.n / 2 : 0) {
    count = p.gated ? (half + tile_columns - 1) / tile_columns * 2
                    : (p.n + tile_columns - 1) / tile_columns;
  }
  __device__ int column(int tile) const {
    return half ? tile / 2 * tile_columns + tile % 2 * half : tile * tile_columns;
  }
};

// A number that the compiler keeps in a register rather than to compute it over and over.
__device__ inline int keep(int x) {
#ifndef BASCULE_EMULATED
  asm volatile("" : "+r"(x));
#endif
  return x;
}

// The product by the warps of a block. `Weights` says how weights lie and are expanded:
//
//   depth              entries of a lane's queue, at most
//   entry_bytes        of such an entry, for a warp
//   together           k that a warp reads at once, 64 bytes of a column
//   segments           such k have so many scales
//   order(i)           where element i of each eight of x comes from
//   select(column, second)     columns that the lane reads from now on
//   fetch(group, entry)        starts to read
//   multiply(column, group, entry, x, c)   adds the products of a column (and of that which is 8
//                                          further on) with x to the sums c
template <typename T, typename Weights>
__device__ void multiply_streamed(const Product<T>& p, Weights& weights,
                                  const Epilogue<T>& epilogue) {
  constexpr int depth = Weights::depth, together = Weights::together;
  constexpr int segments = Weights::segments, pieces_together = together / 8;
  DYNAMIC_SHARED(memory);
  __shared__ float of_warps[stream_warps][most_rows][tile_columns];
  const Tiles<T> tiles(p);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
  const int groups = (p.k + together - 1) / together, step = gridDim.x * tiles.at_once;
  const int share = (groups + p.slices - 1) / p.slices;
  const int begin = min(warp % p.slices * share, groups), end = min(begin + share, groups);
  const int first_tile = blockIdx.x * tiles.at_once + warp / p.slices;
  uint4* staged = reinterpret_cast<uint4*>(memory);
  const int of_x = p.m * groups * pieces_together;  // and 4 of zeros behind
  unsigned char* queue = memory + (of_x + 4) * 16 + warp * (p.depth * Weights::entry_bytes);

  // What is read: one after the other the groups of each tile.
  int read_tile = first_tile, read_group = begin, read_entry = 0;
  const auto select = [&](int tile) {
    const int column = tiles.column(tile) + g;
    weights.select(min(column, p.n - 1), min(column + 8, p.n - 1));
  };
  const auto fetch = [&] {
    if (read_group < end && read_tile < tiles.count) {
      weights.fetch(read_group, queue + read_entry * Weights::entry_bytes);
      if (++read_group == end) {
        read_group = begin;
        read_tile += step;
        if (read_tile < tiles.count) select(read_tile);
      }
    }
    end_batch_of_copies();
    read_entry = read_entry + 1 == p.depth ? 0 : read_entry + 1;
  };
  if (first_tile < tiles.count) select(first_tile);
  if (!p.constant) wait_for_previous_kernels();
#pragma unroll 1
  for (int i = 0; i < p.depth; ++i) fetch();
  if (p.constant) wait_for_previous_kernels();

  if (threadIdx.x < 4) staged[of_x + threadIdx.x] = make_uint4(0, 0, 0, 0);
  stage(p, groups * pieces_together, staged, Weights::order);
  __syncthreads();
  // What this lane has to give of x. Sums over different blocks of weights go to different columns,
  // so that they can be scaled afterwards.
  const int row = g / segments, segment = g % segments;
  const bool gives = segment == t / (4 / segments) && row < p.m;
  constexpr int own_pieces = pieces_together / 4;
  const int given = keep(gives ? row * groups * pieces_together + t * own_pieces : of_x);
  const int given_step = keep(gives ? pieces_together : 0);

  int entry = 0;
  for (int first = blockIdx.x * tiles.at_once; first < tiles.count; first += step) {
    float sums[4] = {};
    const int tile = first + warp / p.slices;
    if (tile < tiles.count) {
      const int column = tiles.column(tile) + g;
      for (int group = begin; group < end; ++group) {
        if (p.depth == depth) {
          wait_for_batches<depth - 1>();
        } else {
          wait_for_batches<1>();
        }
        weights.multiply(column, group, queue + entry * Weights::entry_bytes,
                         staged + given + group * given_step, sums);
        fetch();
        entry = entry + 1 == p.depth ? 0 : entry + 1;
      }
    }
    // Segments to their rows.
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int column = g + 8 * i;
      if constexpr (segments == 1) {
        of_warps[warp][2 * t][column] = sums[2 * i];
        of_warps[warp][2 * t + 1][column] = sums[2 * i + 1];
      } else {
        float sum = sums[2 * i] + sums[2 * i + 1];
        if constexpr (segments == 4) sum += __shfl_xor_sync(0xffffffffu, sum, 1);
        of_warps[warp][segments == 4 ? t / 2 : t][column] = sum;
      }
    }
    const auto sum_of = [&](int local, int r, int c) {
      float sum = of_warps[local * p.slices][r][c];
      for (int slice = 1; slice < p.slices; ++slice) {
        sum += of_warps[local * p.slices + slice][r][c];
      }
      return sum;
    };
    const auto finish = [&](int local, int i) {
      const int c = i % tile_columns, r = i / tile_columns;
      const int column = tiles.column(first + local) + c;
      if (column >= (p.gated ? p.n / 2 : p.n)) return;
      float sum = sum_of(local, r, c);
      const int64_t at = static_cast<int64_t>(r) * (p.gated ? p.n / 2 : p.n) + column;
      if (!p.gated) {
        p.y[at] = epilogue(sum, at, column);
        return;
      }
      float gate = sum_of(local + 1, r, c);
      if (epilogue.bias != nullptr) {
        sum += widen(epilogue.bias[column]);
        gate += widen(epilogue.bias[column + p.n / 2]);
      }
      sum = widen(narrow<T>(sum));
      sum = sum / (1 + expf(-sum)) * widen(narrow<T>(gate));
      if (epilogue.residual != nullptr) sum += widen(epilogue.residual[at]);
      p.y[at] = narrow<T>(sum);
    };
    if (p.slices == 1 && !p.gated) {  // warps need not wait for each other
      __syncwarp();
      if (first + warp < tiles.count) {
        for (int i = lane; i < p.m * tile_columns; i += 32) finish(warp, i);
      }
      __syncwarp();
      continue;
    }
    __syncthreads();
    const int pair = p.gated ? 2 : 1, made = min(tiles.at_once, tiles.count - first) / pair;
    const int of_tile = p.m * tile_columns;
    for (int i = threadIdx.x; i < made * of_tile; i += blockDim.x) {
      finish(i / of_tile * pair, i % of_tile);
    }
    __syncthreads();
  }
}
