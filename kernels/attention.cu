// SPDX-License-Identifier: Apache-2.0
// Attention of many queries in float32 without the scores in memory; attention in every form, with
// the scores of a row in memory; what goes before: joined keys and values, masks of other types.
#include "attention.cuh"

// --- tiles of 64 queries and 64 keys
//
// A thread has 8 rows and 4 keys of the scores, and of the result 8 rows and a 16th of the columns.
// The 16 threads of a row are neighbours, half a warp. Sums have float32's precision throughout.

constexpr int tile_rows = 64, tile_keys = 64, tile_threads = 128, own_rows = 8;

// SIZE holds a row of a head, and one of the result.
template <typename T, int SIZE>
struct Tiles {
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

  float scores[own_rows][4];
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

  template <int to_stride>
  __device__ void load(float* to, const T* from, int64_t from_stride, int count, int size) const {
    if constexpr (sizeof(T) == 4) {
      copy_rows<T, tile_keys, SIZE, to_stride, tile_threads>(to, from, from_stride, count, size);
    } else {
      for (int i = threadIdx.x; i < tile_keys * SIZE; i += tile_threads) {
        const int r = i / SIZE, c = i % SIZE;
        to[r * to_stride + c] = r < count && c < size ? widen(from[r * from_stride + c]) : 0.0f;
      }
    }
  }

  __device__ void start(const T* sinks, int head) {
    const float sink = sinks == nullptr ? negative_infinity() : widen(sinks[head]);
    const float sum = column == 0 && sink != negative_infinity() ? 1.0f : 0.0f;
#pragma unroll
    for (int r = 0; r < own_rows; ++r) {
      softmax[r] = {sink, sum};
#pragma unroll
      for (int i = 0; i < parts * width; ++i) result[r][i] = 0;
    }
  }

  __device__ void multiply_keys() {
#pragma unroll
    for (int r = 0; r < own_rows; ++r) {
#pragma unroll
      for (int j = 0; j < 4; ++j) scores[r][j] = 0;
    }
#pragma unroll 2
    for (int i = 0; i < SIZE; i += 4) {
      float4 keys[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        keys[j] = *reinterpret_cast<const float4*>(k_tile + (column + 16 * j) * stride + i);
      }
#pragma unroll
      for (int r = 0; r < own_rows; ++r) {
        const float4 q = *reinterpret_cast<const float4*>(q_tile + (row + 8 * r) * stride + i);
#pragma unroll
        for (int j = 0; j < 4; ++j) {
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
  __device__ void finish_scores(const void* mask, int item, int head, int length, int first,
                                int begin) {
    const float scale = static_cast<float>(a.scale), cap = static_cast<float>(a.cap);
#pragma unroll
    for (int r = 0; r < own_rows; ++r) {
      const int query = first + row + 8 * r;
      const Range seen = visible_keys(a, length, query);
      const int64_t start = mask_start(a, item, head, query < a.queries ? query : 0);
#pragma unroll
      for (int j = 0; j < 4; ++j) {
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
      float largest = fmaxf(fmaxf(scores[r][0], scores[r][1]), fmaxf(scores[r][2], scores[r][3]));
#pragma unroll
      for (int step = 8; step > 0; step /= 2) {
        largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, step));
      }
      const float factor = softmax[r].raise(largest, 1);
#pragma unroll
      for (int i = 0; i < parts * width; ++i) result[r][i] *= factor;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
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
    const int tiles = (a.queries + tile_rows - 1) / tile_rows;
    const int number = blockIdx.x / tiles, item = number / a.q_heads, head = number % a.q_heads;
    // The last rows see the most keys when they are causal: they start first.
    const int first = (tiles - 1 - static_cast<int>(blockIdx.x) % tiles) * tile_rows;
    const int count = a.queries - first < tile_rows ? a.queries - first : tile_rows;
    q += item * a.q_batch + head * a.q_head + first * a.q_row;
    k += item * a.k_batch + head / a.group() * a.k_head;
    v += item * a.v_batch + head / a.group() * a.v_head;
    y += item * a.y_batch + head * a.y_head + first * a.y_row;
    const int length = valid_keys(a, lengths, item);
    const int end = visible_keys(a, length, first + count - 1).end;
    int begin = visible_keys(a, length, first).begin;

    start(sinks, head);
    load<stride>(q_tile, q, a.q_row, count, a.size);
    if (begin < end) load<stride>(k_tile, k + begin * a.k_row, a.k_row, end - begin, a.size);
    for (; begin < end; begin += tile_keys) {
      wait_for_copies();
      __syncthreads();
      load<SIZE>(v_tile, v + begin * a.v_row, a.v_row, end - begin, a.v_size);
      multiply_keys();
      wait_for_copies();
      __syncthreads();
      const int next = begin + tile_keys;
      if (next < end) load<stride>(k_tile, k + next * a.k_row, a.k_row, end - next, a.size);
      finish_scores(mask, item, head, length, first, begin);
      weigh();
      multiply_values();
    }
    wait_for_copies();
    store(y, count);
  }
};

#define TILES(name, T, SIZE)                                                                   \
  extern "C" __global__ void __launch_bounds__(tile_threads)                                   \
      tiles_##name##_##SIZE(const T* q, const T* k, const T* v, const void* mask,              \
                            const int64_t* lengths, const T* sinks, T* y, const Attention a) { \
    DYNAMIC_SHARED(shared);                                                                    \
    Tiles<T, SIZE>(a, shared).run(q, k, v, mask, lengths, sinks, y);                           \
  }
#define TILE_SIZES(name, T) TILES(name, T, 32) TILES(name, T, 64) TILES(name, T, 128)
TILE_SIZES(float32, float)
TILES(float32, float, 96)
TILES(float32, float, 256)
TILE_SIZES(float16, float16)  // where tensor cores lack the shape that flash_attention.cu wants

// --- any form: a block takes rows, whose scores it keeps in `strips`, a strip each block

enum class Shown { nothing, raw, capped, masked, weights };

template <typename T>
__device__ void show(T* to, const wide_t<T>* strip, int keys, wide_t<T> factor) {
  for (int j = threadIdx.x; j < keys; j += blockDim.x) to[j] = narrow<T>(strip[j] * factor);
}

// The dot products with all keys, by a warp each.
template <typename T>
__device__ void multiply_keys(const Attention& a, const T* q, const T* k, wide_t<T>* strip) {
  const int lane = threadIdx.x % 32;
  for (int j = threadIdx.x / 32; j < a.keys; j += blockDim.x / 32) {
    wide_t<T> sum = 0;
    for (int i = lane; i < a.size; i += 32) sum += widen(q[i]) * widen(k[j * a.k_row + i]);
    sum = warp_reduce(sum, Sum());
    if (lane == 0) strip[j] = sum * static_cast<wide_t<T>>(a.scale);
  }
  __syncthreads();
}

template <typename T>
__device__ void attend_row(const Attention& a, int item, int head, int query, const T* q,
                           const T* k, const T* v, const void* mask, const int64_t* lengths,
                           const T* sinks, T* y, wide_t<T>* strip, Shown shown, T* to) {
  using W = wide_t<T>;
  const W lowest = static_cast<W>(negative_infinity()), cap = static_cast<W>(a.cap);
  multiply_keys(a, q, k, strip);
  if (shown == Shown::raw) show<T>(to, strip, a.keys, 1);
  const Range seen = visible_keys(a, valid_keys(a, lengths, item), query);
  const int64_t start = mask_start(a, item, head, query);
  W top = sinks == nullptr ? lowest : widen(sinks[head]);
  const W sink = top;
  // Each thread goes on with the scores that it wrote: no barrier is between the stages.
  for (int j = threadIdx.x; j < a.keys; j += blockDim.x) {
    W score = strip[j];
    if (a.cap != 0) score = cap * tanh(score / cap);
    if (shown == Shown::capped) to[j] = narrow<T>(score);
    if (j < seen.begin || j >= seen.end) {
      score = lowest;
    } else if (mask != nullptr) {
      score += mask_value<T>(a, mask, start + j);
    }
    if (shown == Shown::masked) to[j] = narrow<T>(score);
    strip[j] = score;
    top = Largest()(top, score);
  }
  top = block_reduce(top, lowest, Largest());
  const W reference = top == lowest ? W(0) : top;
  W sum = 0;
  for (int j = threadIdx.x; j < a.keys; j += blockDim.x) {
    const W weight = exp(strip[j] - reference);
    strip[j] = weight;
    sum += weight;
  }
  sum = block_reduce(sum, W(0), Sum());
  if (seen.begin < seen.end) sum += exp(sink - reference);
  const W factor = sum == 0 || seen.begin == seen.end ? W(0) : 1 / sum;
  if (shown == Shown::weights) show<T>(to, strip, a.keys, factor);
  for (int c = threadIdx.x; c < a.v_size; c += blockDim.x) {
    W total = 0;
    for (int j = seen.begin; j < seen.end; ++j) total += strip[j] * widen(v[j * a.v_row + c]);
    y[c] = narrow<T>(total * factor);
  }
  __syncthreads();  // the strip is used again
}

template <typename T>
__device__ void attend_rows(const T* q, const T* k, const T* v, const void* mask,
                            const int64_t* lengths, const T* sinks, T* y, const Attention& a,
                            wide_t<T>* strips, T* scores, int mode) {
  const int64_t rows = static_cast<int64_t>(a.batch) * a.q_heads * a.queries;
  wide_t<T>* strip = strips + static_cast<int64_t>(blockIdx.x) * a.keys;
  const Shown shown = scores == nullptr ? Shown::nothing : static_cast<Shown>(mode + 1);
  for (int64_t i = blockIdx.x; i < rows; i += gridDim.x) {
    const int query = static_cast<int>(i % a.queries);
    const int number = static_cast<int>(i / a.queries);
    const int item = number / a.q_heads, head = number % a.q_heads, kv_head = head / a.group();
    attend_row<T>(a, item, head, query, q + item * a.q_batch + head * a.q_head + query * a.q_row,
                  k + item * a.k_batch + kv_head * a.k_head,
                  v + item * a.v_batch + kv_head * a.v_head, mask, lengths, sinks,
                  y + item * a.y_batch + head * a.y_head + query * a.y_row, strip, shown,
                  scores == nullptr ? nullptr : scores + i * a.keys);
  }
}

#define ROWS(name, T)                                                                        \
  extern "C" __global__ void rows_##name(                                                    \
      const T* q, const T* k, const T* v, const void* mask, const int64_t* lengths,          \
      const T* sinks, T* y, const Attention a, wide_t<T>* strips, T* scores, int32_t mode) { \
    attend_rows<T>(q, k, v, mask, lengths, sinks, y, a, strips, scores, mode);               \
  }
FOR_FLOATS(ROWS)

// --- a mask of another type, as float or double

template <typename T, typename W>
__device__ void widen_elements(const T* x, W* y, int64_t count) {
  for (int64_t i = thread_number(); i < count; i += thread_count()) {
    y[i] = static_cast<W>(widen(x[i]));
  }
}
#define WIDEN(name, T)                                                                     \
  extern "C" __global__ void mask_##name##_float32(const T* x, float* y, int64_t count) {  \
    widen_elements(x, y, count);                                                           \
  }                                                                                        \
  extern "C" __global__ void mask_##name##_float64(const T* x, double* y, int64_t count) { \
    widen_elements(x, y, count);                                                           \
  }
FOR_NUMBERS(WIDEN)

// --- keys or values: [batch, heads, past + rows, size] of a past and new rows

// Sizes and strides in units of the elements moved.
struct Join {
  int64_t batch_stride, head_stride, row_stride;  // of the new rows
  int64_t items;                                  // batch * heads
  int32_t heads, past, rows, size;
};

template <typename U>
__device__ void join(const U* past, const U* from, U* to, const Join& j) {
  const int64_t length = static_cast<int64_t>(j.past + j.rows) * j.size;
  const int64_t before = static_cast<int64_t>(j.past) * j.size, count = j.items * length;
  for (int64_t i = thread_number(); i < count; i += thread_count()) {
    const int64_t item = i / length, at = i % length;
    if (at < before) {
      to[i] = past[item * before + at];
    } else {
      const int64_t row = (at - before) / j.size, column = (at - before) % j.size;
      to[i] = from[item / j.heads * j.batch_stride + item % j.heads * j.head_stride +
                   row * j.row_stride + column];
    }
  }
}

// Keys by the blocks with y = 0, values by those with 1.
#define JOIN(bytes, U)                                                                           \
  extern "C" __global__ void join_##bytes(const U* past_key, const U* key, U* present_key,       \
                                          const U* past_value, const U* value, U* present_value, \
                                          const Join of_keys, const Join of_values) {            \
    if (blockIdx.y == 0) {                                                                       \
      join(past_key, key, present_key, of_keys);                                                 \
    } else {                                                                                     \
      join(past_value, value, present_value, of_values);                                         \
    }                                                                                            \
  }
FOR_WIDTHS(JOIN)
