// SPDX-License-Identifier: Apache-2.0
// Attention of many queries, by tensor cores, without the scores in memory.
//
// A block takes a tile of query rows of one head and goes through the keys and values it sees, a
// tile of 64 at a time. While the scores of a tile are computed its values are copied to shared
// memory, and while the values are weighed the keys of the next tile are. Each warp has 16 or 32
// rows to itself: scores, running softmax and result stay in its registers. 16-bit elements are
// multiplied as they are, float32 rounded to TF32.
#pragma once

#include "asynchronous_copy.cuh"
#include "attention.cuh"
#include "tensor_core.cuh"

constexpr int warps = 4, threads = 32 * warps, tile_keys = 64;

// `SIZE` holds a row of a head, and one of the result; `TILES` of 16 rows are a warp's.
template <typename T, int SIZE, int TILES>
struct Flash {
  static constexpr int warp_rows = 16 * TILES, rows = warps * warp_rows;
  static constexpr int elements = 16 / sizeof(T);  // of 16 bytes, half of a step along a row
  static constexpr int steps = SIZE / (2 * elements);
  // Eight rows that are read at once lie in different banks.
  static constexpr int stride = SIZE + elements;
  static constexpr bool keeps_queries = TILES * steps <= 8;
  static constexpr int kept = keeps_queries ? steps : 1;

  const Attention& a;
  T* q_tile;
  T* k_tile;
  T* v_tile;
  int lane, warp;

  uint32_t queries[TILES][kept][4];
  float scores[TILES][tile_keys / 8][4];
  float result[TILES][SIZE / 8][4];
  RunningSoftmax<true> softmax[TILES][2];

  __device__ Flash(const Attention& a, unsigned char* shared)
      : a(a),
        q_tile(reinterpret_cast<T*>(shared)),
        k_tile(q_tile + rows * stride),
        v_tile(k_tile + tile_keys * stride),
        lane(threadIdx.x % 32),
        warp(threadIdx.x / 32) {}

  // The row, of the block's, that elements 0 and 1 (`half` 0) or 2 and 3 of a tile belong to.
  __device__ int row_of(int tile, int half) const {
    return warp * warp_rows + tile * 16 + half * 8 + lane / 4;
  }

  __device__ void load_queries(int tile, int step, uint32_t (&to)[4]) const {
    const int row = warp * warp_rows + tile * 16 + lane % 16;
    load_tiles<false>(to, q_tile + row * stride + (2 * step + lane / 16) * elements);
    round_tiles<T>(to);
  }

  __device__ void start(const T* sinks, int head) {
    const float sink = sinks == nullptr ? negative_infinity() : widen(sinks[head]);
#pragma unroll
    for (int m = 0; m < TILES; ++m) {
#pragma unroll
      for (int n = 0; n < SIZE / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) result[m][n][i] = 0;
      }
      // The four lanes that share a row add up their sums in the end.
      const float sum = lane % 4 == 0 && sink != negative_infinity() ? 1.0f : 0.0f;
      softmax[m][0] = softmax[m][1] = {sink, sum};
    }
  }

  __device__ void keep_queries() {
    if constexpr (keeps_queries) {
#pragma unroll
      for (int m = 0; m < TILES; ++m) {
#pragma unroll
        for (int step = 0; step < kept; ++step) load_queries(m, step, queries[m][step]);
      }
    }
  }

  __device__ void multiply_keys() {
#pragma unroll
    for (int m = 0; m < TILES; ++m) {
#pragma unroll
      for (int n = 0; n < tile_keys / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) scores[m][n][i] = 0;
      }
    }
#pragma unroll
    for (int step = 0; step < steps; ++step) {
      uint32_t loaded[TILES][4];
      if constexpr (!keeps_queries) {
#pragma unroll
        for (int m = 0; m < TILES; ++m) load_queries(m, step, loaded[m]);
      }
#pragma unroll
      for (int n = 0; n < tile_keys / 8; n += 2) {
        uint32_t b[4];
        const int key = n * 8 + lane / 16 * 8 + lane % 8;
        load_tiles<false>(b, k_tile + key * stride + (2 * step + lane / 8 % 2) * elements);
        round_tiles<T>(b);
#pragma unroll
        for (int m = 0; m < TILES; ++m) {
          const auto& row = keeps_queries ? queries[m][keeps_queries ? step : 0] : loaded[m];
          multiply_tiles<T>(scores[m][n], row, b[0], b[1]);
          multiply_tiles<T>(scores[m][n + 1], row, b[2], b[3]);
        }
      }
    }
  }

  // Scale, cap and mask, for tiles from key `begin` on.
  __device__ void finish_scores(const void* mask, int item, int head, int first, int begin,
                                int end) {
    const float scale = static_cast<float>(a.scale), cap = static_cast<float>(a.cap);
#pragma unroll
    for (int m = 0; m < TILES; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int query = first + row_of(m, half);
        const int64_t start = mask_start(a, item, head, query < a.queries ? query : 0) + begin;
#pragma unroll
        for (int n = 0; n < tile_keys / 8; ++n) {
#pragma unroll
          for (int j = 0; j < 2; ++j) {
            float& score = scores[m][n][2 * half + j];
            const int key = n * 8 + lane % 4 * 2 + j;
            score *= scale;
            if (cap != 0) score = cap * tanhf(score / cap);
            if (mask != nullptr && begin + key < end) score += mask_value<T>(a, mask, start + key);
          }
        }
      }
    }
  }

  __device__ void hide_keys(int length, int first, int begin) {
#pragma unroll
    for (int m = 0; m < TILES; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const Range seen = visible_keys(a, length, first + row_of(m, half));
#pragma unroll
        for (int n = 0; n < tile_keys / 8; ++n) {
#pragma unroll
          for (int j = 0; j < 2; ++j) {
            const int key = begin + n * 8 + lane % 4 * 2 + j;
            if (key < seen.begin || key >= seen.end) {
              scores[m][n][2 * half + j] = negative_infinity();
            }
          }
        }
      }
    }
  }

  // Scores become weights, and the result what it is beside them.
  __device__ void weigh(float unit) {
#pragma unroll
    for (int m = 0; m < TILES; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float largest = negative_infinity();
#pragma unroll
        for (int n = 0; n < tile_keys / 8; ++n) {
          largest = fmaxf(largest, fmaxf(scores[m][n][2 * half], scores[m][n][2 * half + 1]));
        }
        largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 1));
        largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 2));
        RunningSoftmax<true>& row = softmax[m][half];
        const float factor = row.raise(largest, unit);
#pragma unroll
        for (int n = 0; n < SIZE / 8; ++n) {
          result[m][n][2 * half] *= factor;
          result[m][n][2 * half + 1] *= factor;
        }
#pragma unroll
        for (int n = 0; n < tile_keys / 8; ++n) {
#pragma unroll
          for (int j = 0; j < 2; ++j) {
            float& score = scores[m][n][2 * half + j];
            score = row.weight(score, unit);
            row.sum += score;
          }
        }
      }
    }
  }

  __device__ void multiply_narrow_values() {
#pragma unroll
    for (int step = 0; step < tile_keys / 16; ++step) {
      uint32_t weights[TILES][4];
#pragma unroll
      for (int m = 0; m < TILES; ++m) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const float* pair = &scores[m][2 * step + i / 2][i % 2 * 2];
          weights[m][i] = pack_pair<T>(pair[0], pair[1]);
        }
      }
#pragma unroll
      for (int n = 0; n < SIZE / 8; n += 2) {
        uint32_t b[4];
        load_tiles<true>(b, v_tile + (step * 16 + lane % 16) * stride + n * 8 + lane / 16 * 8);
#pragma unroll
        for (int m = 0; m < TILES; ++m) {
          multiply_tiles<T>(result[m][n], weights[m], b[0], b[1]);
          multiply_tiles<T>(result[m][n + 1], weights[m], b[2], b[3]);
        }
      }
    }
  }

  // 8 keys a step, which the weights have as pairs, (2t, 2t + 1), and a product takes as (t, t +
  // 4): both operands have them in this other order.
  __device__ void multiply_wide_values() {
    const int g = lane / 4, t = lane % 4;
#pragma unroll
    for (int step = 0; step < tile_keys / 8; ++step) {
      uint32_t weights[TILES][4];
#pragma unroll
      for (int m = 0; m < TILES; ++m) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          weights[m][i] = __float_as_uint(scores[m][step][i / 2 + i % 2 * 2]);
        }
        round_tiles<T>(weights[m]);
      }
#pragma unroll
      for (int n = 0; n < SIZE / 8; n += 2) {
        const T* value = v_tile + (step * 8 + 2 * t) * stride + n * 8 + g;
        uint32_t b[4] = {__float_as_uint(value[0]), __float_as_uint(value[stride]),
                         __float_as_uint(value[8]), __float_as_uint(value[stride + 8])};
        round_tiles<T>(b);
#pragma unroll
        for (int m = 0; m < TILES; ++m) {
          multiply_tiles<T>(result[m][n], weights[m], b[0], b[1]);
          multiply_tiles<T>(result[m][n + 1], weights[m], b[2], b[3]);
        }
      }
    }
  }

  __device__ void multiply_values() {
    if constexpr (sizeof(T) == 4) {
      multiply_wide_values();
    } else {
      multiply_narrow_values();
    }
  }

  // The warp's rows go to its part of the queries' tile, from where they leave 16 bytes at a time.
  __device__ void store(T* y, int count) {
#pragma unroll
    for (int m = 0; m < TILES; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float sum = softmax[m][half].sum;
        sum += __shfl_xor_sync(0xffffffffu, sum, 1);
        sum += __shfl_xor_sync(0xffffffffu, sum, 2);
        const float factor = sum == 0 ? 0.0f : 1 / sum;
        T* row = q_tile + row_of(m, half) * stride + lane % 4 * 2;
#pragma unroll
        for (int n = 0; n < SIZE / 8; ++n) {
          const float* pair = &result[m][n][2 * half];
          if constexpr (sizeof(T) == 4) {
            *reinterpret_cast<float2*>(row + n * 8) =
                make_float2(pair[0] * factor, pair[1] * factor);
          } else {
            *reinterpret_cast<uint32_t*>(row + n * 8) =
                pack_pair<T>(pair[0] * factor, pair[1] * factor);
          }
        }
      }
    }
    __syncwarp();
    const int vectors = a.v_size / elements;
    for (int i = lane; i < warp_rows * vectors; i += 32) {
      const int row = warp * warp_rows + i / vectors, column = i % vectors * elements;
      if (row < count) {
        *reinterpret_cast<uint4*>(y + row * a.y_row + column) =
            *reinterpret_cast<const uint4*>(q_tile + row * stride + column);
      }
    }
  }

  __device__ void run(const T* q, const T* k, const T* v, const void* mask, const int64_t* lengths,
                      const T* sinks, T* y) {
    const int tiles = (a.queries + rows - 1) / rows;
    const int number = blockIdx.x / tiles, item = number / a.q_heads, head = number % a.q_heads;
    // The last rows see the most keys when they are causal: they start first.
    const int first = (tiles - 1 - static_cast<int>(blockIdx.x) % tiles) * rows;
    const int count = a.queries - first < rows ? a.queries - first : rows;
    q += item * a.q_batch + head * a.q_head + first * a.q_row;
    k += item * a.k_batch + head / a.group() * a.k_head;
    v += item * a.v_batch + head / a.group() * a.v_head;
    y += item * a.y_batch + head * a.y_head + first * a.y_row;

    const int length = valid_keys(a, lengths, item);
    const int end = visible_keys(a, length, first + count - 1).end;
    int begin = visible_keys(a, length, first).begin;
    // Of this warp: what its first row sees last, and its last row first.
    const int warp_first = first + warp * warp_rows, warp_last = warp_first + warp_rows - 1;
    const Range low = visible_keys(a, length, warp_first);
    const Range high = visible_keys(a, length, warp_last);
    // Scores without anything but a scale are scaled in the exponent.
    const bool plain = mask == nullptr && sinks == nullptr && a.cap == 0 && a.scale > 0;
    const float unit = plain ? static_cast<float>(a.scale) * log2_of_e : log2_of_e;

    start(sinks, head);
    copy_rows<T, rows, SIZE, stride, threads>(q_tile, q, a.q_row, count, a.size);
    if (begin < end) load_tile(k_tile, k, a.k_row, a.size, begin, end);
    for (bool is_first = true; begin < end; begin += tile_keys, is_first = false) {
      wait_for_copies();
      __syncthreads();
      load_tile(v_tile, v, a.v_row, a.v_size, begin, end);
      if (is_first) keep_queries();
      const bool sees = warp_first < a.queries && begin < high.end && low.begin < begin + tile_keys;
      if (sees) multiply_keys();
      wait_for_copies();
      __syncthreads();
      if (begin + tile_keys < end) load_tile(k_tile, k, a.k_row, a.size, begin + tile_keys, end);
      if (sees) {
        if (!plain) finish_scores(mask, item, head, first, begin, end);
        if (begin < high.begin || begin + tile_keys > low.end) hide_keys(length, first, begin);
        weigh(unit);
        multiply_values();
      }
    }
    wait_for_copies();
    __syncthreads();  // the queries have been copied before their place is used
    store(y, count);
  }

  __device__ void load_tile(T* to, const T* from, int64_t row, int size, int begin, int end) const {
    copy_rows<T, tile_keys, SIZE, stride, threads>(to, from + begin * row, row, end - begin, size);
  }
};

#if defined(BASCULE_EMULATED) || __CUDA_ARCH__ >= 800 || !defined(__CUDA_ARCH__)
#define RUN_FLASH(T, SIZE, TILES) \
  DYNAMIC_SHARED(shared);         \
  Flash<T, SIZE, TILES>(a, shared).run(q, k, v, mask, lengths, sinks, y);
#else
#define RUN_FLASH(T, SIZE, TILES)  // there are no such tensor cores
#endif

#define FLASH(name, T, SIZE, TILES)                                                      \
  extern "C" __global__ void __launch_bounds__(threads) flash_##name##_##SIZE##_##TILES( \
      const T* q, const T* k, const T* v, const void* mask, const int64_t* lengths,      \
      const T* sinks, T* y, const Attention a) {                                         \
    RUN_FLASH(T, SIZE, TILES)                                                            \
  }
