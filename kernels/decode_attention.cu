// SPDX-License-Identifier: Apache-2.0
// parts: float32_64 float32_128 float32_256 float16_64 float16_128 float16_256
// parts: bfloat16_64 bfloat16_128 bfloat16_256
//
// Attention of a few queries over many keys, as in decoding: bound by reading keys and values once.
// This one multiplies by ordinary instructions, in full precision.
//
// First a few lanes take a key, 16 bytes a lane, and the scores go to shared memory; then a lane
// takes a key, for the softmax; then the lanes weigh the values as they did the keys. What a lane
// multiplies it has copied to shared memory itself, so that this needs no barrier.
#include "decode.cuh"

constexpr int warps = 4, threads = 32 * warps;

template <typename T, int SIZE, int ROWS>
struct Decode {
  static constexpr int elements = 16 / sizeof(T);                            // of 16 bytes
  static constexpr int lanes = SIZE / elements < 32 ? SIZE / elements : 32;  // of a key
  static constexpr int vectors = SIZE / elements / lanes;                    // of a lane
  static constexpr int own = vectors * elements;
  static constexpr int groups = 32 / lanes;  // keys that are read at once
  static constexpr int ahead = 8 / vectors;  // reads under way, each of keys and values
  static constexpr int batch_words = ahead * vectors * 32;  // of 16 bytes, of a warp

  using Parts = OfWarps<warps, ROWS, SIZE>;  // where keys and values were, in dynamic memory
  using Weights = float[warps][ROWS][chunk];

  const Attention& a;
  Weights& weights_of_warps;
  const Part part;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  float query[ROWS][own];
  float result[ROWS][own];
  RunningSoftmax<false> softmax[ROWS];

  __device__ static void read(float (&to)[elements], const void* from) {
    const uint4 bits = *static_cast<const uint4*>(from);
    T values[elements];
    memcpy(values, &bits, 16);
#pragma unroll
    for (int i = 0; i < elements; ++i) to[i] = widen(values[i]);
  }

  // The first element of a lane's vector number `n`.
  __device__ int column(int n) const { return (n * lanes + lane % lanes) * elements; }

  __device__ void start(const T* q, const T* sinks) {
#pragma unroll
    for (int r = 0; r < ROWS; ++r) {
      const bool exists = r < part.rows;
#pragma unroll
      for (int n = 0; n < vectors; ++n) {
        float values[elements] = {};
        if (exists && column(n) < a.size) {
          read(values, q + part.item * a.q_batch + part.head(a, r) * a.q_head +
                           part.query(a, r) * a.q_row + column(n));
        }
#pragma unroll
        for (int i = 0; i < elements; ++i) {
          query[r][n * elements + i] = values[i];
          result[r][n * elements + i] = 0;
        }
      }
      softmax[r] = {negative_infinity(), 0};
      if (exists && sinks != nullptr && part.split == 0 && warp == 0) {  // counted once
        softmax[r].top = widen(sinks[part.head(a, r)]);
        if (lane == 0 && softmax[r].top != negative_infinity()) softmax[r].sum = 1;
      }
    }
  }

  // The sums over the lanes of a key. With N values halves of the lanes split the rows between
  // them as long as there are any, so that N + log2(lanes / N) shuffles do.
  __device__ float sum_lanes(float (&x)[ROWS]) const {
    int count = ROWS;
#pragma unroll
    for (int step = lanes / 2; step > 0; step /= 2) {
      if (count > 1) {
        count /= 2;
        const bool upper = lane & step;
#pragma unroll
        for (int r = 0; r < ROWS / 2; ++r) {
          if (r >= count) break;
          const float given = upper ? x[r] : x[r + count];
          const float kept = upper ? x[r + count] : x[r];
          x[r] = kept + __shfl_xor_sync(0xffffffffu, given, step);
        }
      } else {
        x[0] += __shfl_xor_sync(0xffffffffu, x[0], step);
      }
    }
    return x[0];
  }

  // Where this lane keeps what it has read, vector `n` of read `j`.
  __device__ uint4* kept(bool of_values, int j, int n) const {
    DYNAMIC_SHARED(memory);
    const int batch = warp * 2 + (of_values ? 1 : 0);
    return reinterpret_cast<uint4*>(memory) + batch * batch_words + (j * vectors + n) * 32 + lane;
  }

  // Starts `ahead` reads of keys or values, from number `i` of a chunk on.
  __device__ void fetch(bool of_values, const T* from, int64_t stride, int size, int begin, int end,
                        int i) const {
#pragma unroll 1
    for (int j = 0; j < ahead; ++j) {
      const int key = begin + (i + j) * groups + lane / lanes;
#pragma unroll
      for (int n = 0; n < vectors; ++n) {
        const bool exists = key < end && column(n) < size;
        copy_16_bytes(kept(of_values, j, n), exists ? from + key * stride + column(n) : from,
                      exists);
      }
    }
    end_batch_of_copies();
  }

  __device__ void multiply_keys(int i) {
    constexpr int sharers = lanes / ROWS;  // lanes that hold the same sum
#pragma unroll 1
    for (int j = 0; j < ahead; ++j) {
      float sums[ROWS] = {};
#pragma unroll
      for (int n = 0; n < vectors; ++n) {
        float values[elements];
        read(values, kept(false, j, n));
#pragma unroll
        for (int e = 0; e < elements; ++e) {
#pragma unroll
          for (int r = 0; r < ROWS; ++r) {
            sums[r] = fmaf(query[r][n * elements + e], values[e], sums[r]);
          }
        }
      }
      const float sum = sum_lanes(sums);
      if (lane % sharers == 0) {
        const int row = lane % lanes / sharers;
        weights_of_warps[warp][row][(i + j) * groups + lane / lanes] = sum;
      }
    }
  }

  __device__ void weigh(const void* mask, int begin) {
    const float scale = static_cast<float>(a.scale), cap = static_cast<float>(a.cap);
    const int key = begin + lane;
#pragma unroll
    for (int r = 0; r < ROWS; ++r) {
      if (r >= part.rows) {
        weights_of_warps[warp][r][lane] = 0;
        continue;
      }
      float score = weights_of_warps[warp][r][lane] * scale;
      if (a.cap != 0) score = cap * tanhf(score / cap);
      const Range seen = visible_keys(a, part.length, part.query(a, r));
      if (key < seen.begin || key >= seen.end) {
        score = negative_infinity();
      } else if (mask != nullptr) {
        const int64_t at = mask_start(a, part.item, part.head(a, r), part.query(a, r)) + key;
        score += mask_value<T>(a, mask, at);
      }
      const float largest = warp_reduce(score, [](float x, float y) { return fmaxf(x, y); });
      const float factor = softmax[r].raise(largest, 1);
#pragma unroll
      for (int i = 0; i < own; ++i) result[r][i] *= factor;
      const float weight = softmax[r].weight(score, 1);
      softmax[r].sum += weight;
      weights_of_warps[warp][r][lane] = weight;
    }
    __syncwarp();
  }

  __device__ void multiply_values(int i) {
#pragma unroll 1
    for (int j = 0; j < ahead; ++j) {
      float weights[ROWS];
#pragma unroll
      for (int r = 0; r < ROWS; ++r) {
        weights[r] = weights_of_warps[warp][r][(i + j) * groups + lane / lanes];
      }
#pragma unroll
      for (int n = 0; n < vectors; ++n) {
        float values[elements];
        read(values, kept(true, j, n));
#pragma unroll
        for (int e = 0; e < elements; ++e) {
#pragma unroll
          for (int r = 0; r < ROWS; ++r) {
            float& sum = result[r][n * elements + e];
            sum = fmaf(weights[r], values[e], sum);
          }
        }
      }
    }
  }

  // What the lanes and groups of the warp have, to shared memory, where other warps may have
  // values.
  __device__ void share(Parts& to) {
    __syncthreads();
#pragma unroll
    for (int r = 0; r < ROWS; ++r) {
      if (r >= part.rows) break;
      const float sum = warp_reduce(softmax[r].sum, Sum());
      if (lane == 0) {
        to.top[warp][r] = softmax[r].top;
        to.sum[warp][r] = sum;
      }
#pragma unroll
      for (int i = 0; i < own; ++i) {
        float value = result[r][i];
#pragma unroll
        for (int step = 16; step >= lanes; step /= 2) {
          value += __shfl_xor_sync(0xffffffffu, value, step);
        }
        if (lane < lanes) {
          to.result[warp][r][column(i / elements) + i % elements] = value;
        }
      }
    }
  }

  __device__ void run(const T* q, const T* k, const T* v, const void* mask, const T* sinks,
                      Parts& to) {
    k += part.item * a.k_batch + part.kv_head * a.k_head;
    v += part.item * a.v_batch + part.kv_head * a.v_head;
    start(q, sinks);
#pragma unroll 1
    for (int begin = part.begin + warp * chunk; begin < part.end; begin += warps * chunk) {
      fetch(false, k, a.k_row, a.size, begin, part.end, 0);
      fetch(true, v, a.v_row, a.v_size, begin, part.end, 0);
#pragma unroll 1
      for (int i = 0; i < lanes; i += ahead) {
        if (i > 0) fetch(false, k, a.k_row, a.size, begin, part.end, i);
        i > 0 ? wait_for_batches<0>() : wait_for_batches<1>();  // values are there later
        multiply_keys(i);
      }
      __syncwarp();
      weigh(mask, begin);
#pragma unroll 1
      for (int i = 0; i < lanes; i += ahead) {
        if (i > 0) fetch(true, v, a.v_row, a.v_size, begin, part.end, i);
        wait_for_batches<0>();
        multiply_values(i);
      }
      __syncwarp();  // the weights have been read
    }
    share(to);
  }
};

template <typename T, int SIZE, int ROWS>
__device__ void decode(const T* q, const T* k, const T* v, const void* mask, const int64_t* lengths,
                       const T* sinks, const Attention& a, const Results<T>& to) {
  using Rows = Decode<T, SIZE, ROWS>;
  DYNAMIC_SHARED(memory);
  __shared__ typename Rows::Weights weights;
  auto& parts = *reinterpret_cast<typename Rows::Parts*>(memory);
  const Part part = part_of<ROWS>(a, lengths, to.splits);
  Rows{a, weights, part}.run(q, k, v, mask, sinks, parts);
  finish<false>(a, part, parts, to);
}

#define ENTRY(name, T, SIZE, ROWS)                                                       \
  extern "C" __global__ void __launch_bounds__(threads) decode_##name##_##SIZE##_##ROWS( \
      const T* q, const T* k, const T* v, const void* mask, const int64_t* lengths,      \
      const T* sinks, T* y, const Attention a, float* parts, float* states, int* done,   \
      int32_t splits) {                                                                  \
    wait_for_previous_kernels();                                                         \
    const Results<T> to{y, parts, states, done, splits};                                 \
    decode<T, SIZE, ROWS>(q, k, v, mask, lengths, sinks, a, to);                         \
  }
#define ROW_COUNTS(name, T, SIZE) \
  IN_PART(name##_##SIZE, ENTRY(name, T, SIZE, 1) ENTRY(name, T, SIZE, 4) ENTRY(name, T, SIZE, 8))
#define SIZES(name, T) ROW_COUNTS(name, T, 64) ROW_COUNTS(name, T, 128) ROW_COUNTS(name, T, 256)
SIZES(float32, float)
SIZES(float16, float16)
SIZES(bfloat16, bfloat16)
