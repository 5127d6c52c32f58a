// SPDX-License-Identifier: Apache-2.0
// parts: float32_32 float32_64 float32_96 float32_128 float32_256
// parts: float16_32 float16_64 float16_128
// Attention of many queries in float32, without the scores in memory.
//
// A block takes a tile of 64 query rows of one head and goes through the keys and values it sees, a
// tile of up to 64 at a time; what comes next is copied meanwhile. A thread has 8 rows and a 16th
// of the keys of the scores, and of the result 8 rows and a 16th of the columns. The 16 threads of
// a row are neighbours, half a warp. Sums have float32's precision throughout.
#include "attention.cuh"

// Not of float16 where there are tensor cores.
[[maybe_unused]] constexpr int tile_rows = 64, tile_threads = 128, own_rows = 8;

// Where float16 needs this kernel, a block has 64 KB of shared memory.
template <typename T, int SIZE>
constexpr int keys_of_tile = sizeof(T) == 4 || SIZE == 32 ? 64
                             : SIZE == 64                 ? 32
                                                          : 16;

// SIZE holds a row of a head, and one of the result.
template <typename T, int SIZE>
struct Tiles {
  static constexpr int tile_keys = keys_of_tile<T, SIZE>, own_keys = tile_keys / 16;
  static constexpr int stride = SIZE + 4;  // neighbouring rows lie in different banks
  static constexpr int weight_stride = tile_keys + 4;
  // A thread's columns are `parts` vectors of `width`, 16 * width apart.
  static constexpr int width = SIZE % 64 == 0 ? 4 : 2, parts = SIZE / 16 / width;

  const Attention& a;
  float* q_tile;
  float* k_tile;
  float* v_tile;
  float* weights;
  int column, row;  // of the thread among the 16, and of its rows: row + 8 * r

  float scores[own_rows][own_keys];
  float result[own_rows][parts * width];
  RunningSoftmax<false> softmax[own_rows];

  __device__ Tiles(const Attention& a, unsigned char* shared)
      : a(a),
        q_tile(reinterpret_cast<float*>(shared)),
        k_tile(q_tile + tile_rows * stride),
        v_tile(k_tile + tile_keys * stride),
        weights(v_tile + tile_keys * SIZE),
        column(threadIdx.x % 16),
        row(threadIdx.x / 16) {}

  template <int rows, int to_stride>
  __device__ void load(float* to, const Rows<T>& from, int begin, int end) const {
    if constexpr (sizeof(T) == 4) {
      copy_rows<rows, SIZE, to_stride, tile_threads>(to, from, begin, end);
    } else {
      for (int i = threadIdx.x; i < rows * SIZE; i += tile_threads) {
        const int r = i / SIZE, c = i % SIZE;
        const bool exists = begin + r < end && c < from.size;
        to[r * to_stride + c] = exists ? widen(from.data[(begin + r) * from.stride + c]) : 0.0f;
      }
    }
  }

  __device__ void start(const T* sinks, int head) {
    const float sink = sinks == nullptr ? negative_infinity() : widen(sinks[head]);
    const float sum = column == 0 && sink != negative_infinity() ? 1.0f : 0.0f;
#pragma unroll
    for (int r = 0; r < own_rows; ++r) {
      softmax[r] = RunningSoftmax<false>{sink, sum};
#pragma unroll
      for (int i = 0; i < parts * width; ++i) result[r][i] = 0;
    }
  }

  __device__ void multiply_keys() {
#pragma unroll
    for (int r = 0; r < own_rows; ++r) {
#pragma unroll
      for (int j = 0; j < own_keys; ++j) scores[r][j] = 0;
    }
#pragma unroll 2
    for (int i = 0; i < SIZE; i += 4) {
      float4 keys[own_keys];
#pragma unroll
      for (int j = 0; j < own_keys; ++j) {
        keys[j] = *reinterpret_cast<const float4*>(k_tile + (column + 16 * j) * stride + i);
      }
#pragma unroll
      for (int r = 0; r < own_rows; ++r) {
        const float4 q = *reinterpret_cast<const float4*>(q_tile + (row + 8 * r) * stride + i);
#pragma unroll
        for (int j = 0; j < own_keys; ++j) {
          float& sum = scores[r][j];
          sum = fmaf(q.x, keys[j].x, sum);
          sum = fmaf(q.y, keys[j].y, sum);
          sum = fmaf(q.z, keys[j].z, sum);
          sum = fmaf(q.w, keys[j].w, sum);
        }
      }
    }
  }

  // Scale, cap, mask, and what a query does not see.
  __device__ void finish_scores(const QueryTile<T>& tile, const void* mask, int begin) {
    const float scale = static_cast<float>(a.scale), cap = static_cast<float>(a.cap);
#pragma unroll
    for (int r = 0; r < own_rows; ++r) {
      const int query = tile.first + row + 8 * r;
      const Range seen = visible_keys(a, tile.length, query);
      const int64_t start = tile.mask + (query < a.queries ? query : 0) * a.mask_row;
#pragma unroll
      for (int j = 0; j < own_keys; ++j) {
        const int key = begin + column + 16 * j;
        float score = scores[r][j] * scale;
        if (a.cap != 0) score = cap * tanhf(score / cap);
        if (key < seen.begin || key >= seen.end) {
          score = negative_infinity();
        } else if (mask != nullptr) {
          score += mask_value<T>(a, mask, start + key);
        }
        scores[r][j] = score;
      }
    }
  }

  __device__ void weigh() {
    __syncwarp();  // the weights before these have been read
#pragma unroll
    for (int r = 0; r < own_rows; ++r) {
      float largest = scores[r][0];
#pragma unroll
      for (int j = 1; j < own_keys; ++j) largest = fmaxf(largest, scores[r][j]);
#pragma unroll
      for (int step = 8; step > 0; step /= 2) {
        largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, step));
      }
      const float factor = softmax[r].raise(largest, 1);
#pragma unroll
      for (int i = 0; i < parts * width; ++i) result[r][i] *= factor;
#pragma unroll
      for (int j = 0; j < own_keys; ++j) {
        const float weight = softmax[r].weight(scores[r][j], 1);
        softmax[r].sum += weight;
        weights[(row + 8 * r) * weight_stride + column + 16 * j] = weight;
      }
    }
    __syncwarp();
  }

  __device__ void multiply_values() {
#pragma unroll 1
    for (int key = 0; key < tile_keys; key += 4) {
      float w[own_rows][4];
#pragma unroll
      for (int r = 0; r < own_rows; ++r) {
        *reinterpret_cast<float4*>(w[r]) =
            *reinterpret_cast<const float4*>(weights + (row + 8 * r) * weight_stride + key);
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int part = 0; part < parts; ++part) {
          float value[width];
          load_columns(value, v_tile + (key + i) * SIZE + (part * 16 + column) * width);
#pragma unroll
          for (int r = 0; r < own_rows; ++r) {
#pragma unroll
            for (int c = 0; c < width; ++c) {
              float& sum = result[r][part * width + c];
              sum = fmaf(w[r][i], value[c], sum);
            }
          }
        }
      }
    }
  }

  __device__ static void load_columns(float (&to)[width], const float* from) {
    if constexpr (width == 4) {
      *reinterpret_cast<float4*>(to) = *reinterpret_cast<const float4*>(from);
    } else {
      *reinterpret_cast<float2*>(to) = *reinterpret_cast<const float2*>(from);
    }
  }

  __device__ void store(T* y, int count) {
#pragma unroll
    for (int r = 0; r < own_rows; ++r) {
      float sum = softmax[r].sum;
#pragma unroll
      for (int step = 8; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
      const float factor = sum == 0 ? 0.0f : 1 / sum;
      const int at = row + 8 * r;
      if (at >= count) continue;
#pragma unroll
      for (int part = 0; part < parts; ++part) {
        const int c = (part * 16 + column) * width;
        if (c >= a.v_size) continue;
        T out[width];
#pragma unroll
        for (int i = 0; i < width; ++i) out[i] = narrow<T>(result[r][part * width + i] * factor);
        T* to = y + at * a.y_row + c;
        if constexpr (sizeof(T) * width == 16) {
          *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(out);
        } else if constexpr (sizeof(T) * width == 8) {
          *reinterpret_cast<uint2*>(to) = *reinterpret_cast<const uint2*>(out);
        } else {
          *reinterpret_cast<uint32_t*>(to) = *reinterpret_cast<const uint32_t*>(out);
        }
      }
    }
  }

  __device__ void run(const T* q, const T* k, const T* v, const void* mask, const int64_t* lengths,
                      const T* sinks, T* y) {
    QueryTile<T> tile(a, tile_rows, q, k, v, y);
    load<tile_rows, stride>(q_tile, tile.q, 0, tile.count);
    tile.look(a, lengths);
    const auto [first, end] = tile.seen;
    start(sinks, tile.head);
    if (first < end) load<tile_keys, stride>(k_tile, tile.k, first, end);
    for (int begin = first; begin < end; begin += tile_keys) {
      wait_for_copies();
      __syncthreads();
      load<tile_keys, SIZE>(v_tile, tile.v, begin, end);
      multiply_keys();
      wait_for_copies();
      __syncthreads();
      const int next = begin + tile_keys;
      if (next < end) load<tile_keys, stride>(k_tile, tile.k, next, end);
      finish_scores(tile, mask, begin);
      weigh();
      multiply_values();
    }
    wait_for_copies();
    store(tile.y, tile.count);
  }
};

#define RUN(T, SIZE)      \
  DYNAMIC_SHARED(shared); \
  Tiles<T, SIZE>(a, shared).run(q, k, v, mask, lengths, sinks, y);
#define ENTRY(name, T, SIZE)                                                                   \
  extern "C" __global__ void __launch_bounds__(tile_threads)                                   \
      tiles_##name##_##SIZE(const T* q, const T* k, const T* v, const void* mask,              \
                            const int64_t* lengths, const T* sinks, T* y, const Attention a) { \
    wait_for_previous_kernels();                                                               \
    RUN(T, SIZE)                                                                               \
  }
IN_PART(float32_32, ENTRY(float32, float, 32))
IN_PART(float32_64, ENTRY(float32, float, 64))
IN_PART(float32_96, ENTRY(float32, float, 96))
IN_PART(float32_128, ENTRY(float32, float, 128))
IN_PART(float32_256, ENTRY(float32, float, 256))

// Later devices have the tensor cores that flash_attention.cu needs.
#if !defined(BASCULE_EMULATED) && __CUDA_ARCH__ >= 800
#undef RUN
#define RUN(T, SIZE)
#endif
IN_PART(float16_32, ENTRY(float16, float16, 32))
IN_PART(float16_64, ENTRY(float16, float16, 64))
IN_PART(float16_128, ENTRY(float16, float16, 128))
