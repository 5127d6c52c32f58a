// SPDX-License-Identifier: Apache-2.0
// Products with weights of 2, 4 or 8 bits, [n, k] packed along k, with a scale and a zero point for
// each block of k. A few rows of x stream the packed weights; for more, weights are made floats.
#pragma once

#include "gemv.cuh"

namespace {

[[maybe_unused]] constexpr int most_threads = 256;  // only of products of a few rows

enum Kind : int { kind_float32, kind_float16, kind_bfloat16, kind_packed };

// Element `index` of scales, float zero points or a bias.
__device__ inline float number(const void* from, int kind, int64_t index) {
  switch (kind) {
    case kind_float16:
      return widen(static_cast<const float16*>(from)[index]);
    case kind_bfloat16:
      return widen(static_cast<const bfloat16*>(from)[index]);
    default:
      return static_cast<const float*>(from)[index];
  }
}

// The weights of one matrix.
struct Weights {
  const uint8_t* data;    // [n][row_bytes]
  const void* scales;     // [n][blocks]
  const void* zeros;      // null; packed like the weights, rows of whole bytes; floats [n][blocks]
  const int32_t* groups;  // null; the block of each k
  const float* values;    // null; what the patterns stand for
  int64_t n, k, blocks, row_bytes;
  int block_shift;  // log2 of the size of a block
  int scale_kind, zero_kind;

  template <int bits>
  __device__ float zero(int64_t row, int64_t block) const {
    if (zeros == nullptr) return 1 << (bits - 1);
    if (zero_kind != kind_packed) return number(zeros, zero_kind, row * blocks + block);
    const int64_t bytes = (blocks * bits + 7) / 8;
    const int packed = static_cast<const uint8_t*>(zeros)[row * bytes + block * bits / 8];
    return packed >> (block * bits % 8) & ((1 << bits) - 1);
  }
  __device__ float scale(int64_t row, int64_t block) const {
    return number(scales, scale_kind, row * blocks + block);
  }
};

// The numbers of a word, less a zero point. A pattern of bits becomes the low end of a float's
// mantissa, so that one exact subtraction makes it a number.
template <int bits>
__device__ inline void expand(uint32_t word, float zero, bool zero_is_whole, const float* table,
                              float* to) {
  constexpr int in_half = 16 / bits;
  constexpr uint32_t mask = (1u << bits) - 1;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const uint32_t part = half == 0 ? word : word >> 16;
#pragma unroll
    for (int i = 0; i < in_half; ++i) {
      const int at = i * bits;
      float* result = to + half * in_half + i;
      if (table != nullptr) {
        *result = table[part >> at & mask];
        continue;
      }
      const uint32_t exponent = static_cast<uint32_t>(127 + 23 - at) << 23;
      const float offset = static_cast<float>(1 << (23 - at));
      const float moved = __uint_as_float((part & mask << at) | exponent);
      *result = zero_is_whole ? moved - (offset + zero) : (moved - offset) - zero;
    }
  }
}

// `count` elements of x from shared memory; pieces of 16 bytes lie 32 pieces apart.
template <typename T, int count>
__device__ inline void load_values(const uint4* pieces, int word, float* to) {
  constexpr int bytes = count * sizeof(T), per_word = 4 / sizeof(T);
  if (bytes >= 16) {
#pragma unroll
    for (int i = 0; i < bytes / 16; ++i) {
      unpack<T>(pieces[(word * (bytes / 16) + i) * 32], to + i * 4 * per_word);
    }
  } else {
    const uint2 pair = reinterpret_cast<const uint2*>(pieces + word / 2 * 32)[word % 2];
    unpack_word<T>(pair.x, to);
    unpack_word<T>(pair.y, to + per_word);
  }
}

// A warp makes `columns` columns for all rows from its share of k: of the 8 warps of a block
// `slices` share the k of the same columns. `stage` elements of each row of x, a multiple of what a
// warp reads at once, are in shared memory at a time.
template <typename T, int bits, int rows, int columns>
__device__ void multiply_packed(const T* x, const Weights& w, const void* bias, int bias_kind, T* y,
                                int64_t m, int slices, int64_t stage) {
  constexpr int width = 128 / bits;  // weights in 16 bytes
  constexpr int in_word = 32 / bits, at_once = 32 * width;
  constexpr int pieces = width * sizeof(T) / 16, count = rows * columns;
  DYNAMIC_SHARED(memory);
  __shared__ float table[16];
  __shared__ float of_warps[most_threads / 32][count];
  uint4* staged = reinterpret_cast<uint4*>(memory);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int groups = most_threads / 32 / slices, slice = warp % slices;
  const int64_t first = (blockIdx.x * static_cast<int64_t>(groups) + warp / slices) * columns;
  const int64_t first_row = static_cast<int64_t>(blockIdx.y) * rows;
  const int64_t chunks = w.row_bytes / 16;
  if (w.values != nullptr && threadIdx.x < (1 << bits) && threadIdx.x < 16) {
    table[threadIdx.x] = w.values[threadIdx.x];
  }
  const float* values = w.values != nullptr ? table : nullptr;
  const bool whole = w.zeros == nullptr || w.zero_kind == kind_packed;
  // Words of a chunk that have one scale.
  const int words = w.block_shift >= 31 ? 4 : min(4, (1 << w.block_shift) / in_word);

  const auto fetch = [&](int64_t chunk, uint4(&to)[columns]) {
#pragma unroll
    for (int c = 0; c < columns; ++c) {
      to[c] = make_uint4(0, 0, 0, 0);
      if (chunk < chunks) {
        to[c] = load_once(w.data + min(first + c, w.n - 1) * w.row_bytes + chunk * 16);
      }
    }
  };
  uint4 next[columns];
  fetch(static_cast<int64_t>(slice) * 32 + lane, next);  // ahead of waiting for x
  float sums[count] = {};
  for (int64_t start = 0; start < w.k; start += stage) {
    __syncthreads();
    const int64_t row_pieces = stage * sizeof(T) / 16;
    for (int64_t i = threadIdx.x; i < row_pieces * rows; i += most_threads) {
      const int64_t row = i / row_pieces, at = i % row_pieces;
      const int64_t chunk = at / pieces, k = start + at * static_cast<int64_t>(16 / sizeof(T));
      union {
        uint4 piece;
        T elements[16 / sizeof(T)];
      };
      piece = make_uint4(0, 0, 0, 0);
      if (first_row + row < m) {
        const T* from = x + (first_row + row) * w.k;
#pragma unroll
        for (int j = 0; j < static_cast<int>(16 / sizeof(T)); ++j) {
          if (k + j < w.k) elements[j] = from[k + j];
        }
      }
      staged[row * row_pieces + (chunk / 32 * pieces + at % pieces) * 32 + chunk % 32] = piece;
    }
    __syncthreads();
    for (int64_t at = slice * static_cast<int64_t>(at_once); at < stage && start + at < w.k;
         at += slices * static_cast<int64_t>(at_once)) {
      uint4 packed[columns];
#pragma unroll
      for (int c = 0; c < columns; ++c) packed[c] = next[c];
      // The next share of this warp, which may be the first of the next stage.
      int64_t following = at + slices * static_cast<int64_t>(at_once);
      if (following >= stage) following = stage + slice * static_cast<int64_t>(at_once);
      fetch((start + following) / width + lane, next);
      const int64_t chunk = (start + at) / width + lane;
      if (chunk >= chunks) continue;
      const uint4* mine = staged + at / width * pieces + lane;
      float parts[count] = {}, scales[columns], zeros[columns];
#pragma unroll
      for (int word = 0; word < 4; ++word) {
        if (word % words == 0) {
          const int64_t block = (chunk * width + word * in_word) >> w.block_shift;
#pragma unroll
          for (int c = 0; c < columns; ++c) {
            const int64_t column = min(first + c, w.n - 1);
            scales[c] = w.scale(column, block);
            zeros[c] = w.template zero<bits>(column, block);
          }
        }
        float numbers[columns][in_word];
#pragma unroll
        for (int c = 0; c < columns; ++c) {
          const uint32_t bits_of = word == 0   ? packed[c].x
                                   : word == 1 ? packed[c].y
                                   : word == 2 ? packed[c].z
                                               : packed[c].w;
          expand<bits>(bits_of, zeros[c], whole, values, numbers[c]);
        }
#pragma unroll
        for (int r = 0; r < rows; ++r) {
          float given[in_word];
          load_values<T, in_word>(mine + r * row_pieces, word, given);
#pragma unroll
          for (int c = 0; c < columns; ++c) {
#pragma unroll
            for (int i = 0; i < in_word; ++i) parts[r * columns + c] += given[i] * numbers[c][i];
          }
        }
        if ((word + 1) % words == 0) {
#pragma unroll
          for (int i = 0; i < count; ++i) {
            sums[i] += parts[i] * scales[i % columns];
            parts[i] = 0;
          }
        }
      }
    }
  }
  sum_over_block(sums, of_warps);
  for (int i = threadIdx.x; i < groups * count; i += most_threads) {
    const int group = i / count, value = i % count;
    const int64_t row = first_row + value / columns;
    const int64_t column =
        (blockIdx.x * static_cast<int64_t>(groups) + group) * columns + value % columns;
    if (row >= m || column >= w.n) continue;
    float sum = 0;
    for (int s = 0; s < slices; ++s) sum += of_warps[group * slices + s][value];
    if (bias != nullptr) sum += number(bias, bias_kind, column);
    y[row * w.n + column] = narrow<T>(sum);
  }
}

// All weights as numbers, [n, k].
template <typename T, int bits>
__device__ void expand_all(const Weights& w, T* to) {
  for (int64_t i = thread_number(); i < w.n * w.k; i += thread_count()) {
    const int64_t row = i / w.k, k = i % w.k;
    const int64_t block = w.groups != nullptr ? w.groups[k] : k >> w.block_shift;
    const int packed = w.data[row * w.row_bytes + k * bits / 8];
    const int pattern = packed >> (k * bits % 8) & ((1 << bits) - 1);
    // A group that is no block, in a tensor that changes from run to run, must not be read.
    if (block < 0 || block >= w.blocks) {
      to[i] = narrow<T>(NAN);
      continue;
    }
    const float number =
        w.values != nullptr ? w.values[pattern] : pattern - w.template zero<bits>(row, block);
    to[i] = narrow<T>(number * w.scale(row, block));
  }
}

}  // namespace

#define WEIGHT_PARAMETERS                                                                        \
  const uint8_t *__restrict__ data, const void *__restrict__ scales,                             \
      const void *__restrict__ zeros, const int32_t *__restrict__ groups,                        \
      const float *__restrict__ values, int64_t n, int64_t k, int64_t blocks, int64_t row_bytes, \
      int block_shift, int scale_kind, int zero_kind
#define WEIGHTS                                                                            \
  Weights {                                                                                \
    data, scales, zeros, groups, values, n, k, blocks, row_bytes, block_shift, scale_kind, \
        zero_kind                                                                          \
  }
// Parts: rows_columns_type for a product, and the type for the expansion.
#define STREAMED(name, T, bits, rows, columns)                                                 \
  extern "C" __global__ void __launch_bounds__(256)                                            \
      matmul_nbits_##bits##_##rows##_##columns##_##name(                                       \
          const T* __restrict__ x, T* __restrict__ y, const void* __restrict__ bias,           \
          int bias_kind, int64_t m, int slices, int64_t stage, WEIGHT_PARAMETERS) {            \
    multiply_packed<T, bits, rows, columns>(x, WEIGHTS, bias, bias_kind, y, m, slices, stage); \
  }
#define EXPANDED(name, T, bits)                                                                    \
  extern "C" __global__ void expand_nbits_##bits##_##name(T* __restrict__ to, WEIGHT_PARAMETERS) { \
    expand_all<T, bits>(WEIGHTS, to);                                                              \
  }
#define FOR_SHAPE(name, T, bits, rows, columns) \
  IN_PART(rows##_##columns##_##name, STREAMED(name, T, bits, rows, columns))
#define FOR_ROWS(name, T, bits)  \
  FOR_SHAPE(name, T, bits, 1, 1) \
  FOR_SHAPE(name, T, bits, 1, 4) \
  FOR_SHAPE(name, T, bits, 2, 4) \
  FOR_SHAPE(name, T, bits, 4, 4) \
  FOR_SHAPE(name, T, bits, 8, 2) \
  IN_PART(name, EXPANDED(name, T, bits))
