// SPDX-License-Identifier: Apache-2.0
// parts: float16_64 float16_128 bfloat16_64 bfloat16_128
//
// Attention of a few queries over many keys, as in decoding, of 16-bit elements by tensor cores:
// they spare instructions, of which a block that lives for a microsecond cannot do many.
//
// A tile of scores has 16 rows of queries and 8 keys. Which elements of a head a lane multiplies
// does not matter, as long as queries and keys are put in the same order: so it reads 16 bytes of a
// key at once, from where they are. Values are turned by way of shared memory.
#include "decode.cuh"
#include "gemv.cuh"
#include "tensor_core.cuh"

constexpr int warps = 8, threads = 32 * warps;
constexpr int row_count = 16;  // of a block
constexpr int key_tiles = chunk / 8;

// Rarely wanted, and long where it stands in line.
__device__
#ifndef BASCULE_EMULATED
    __noinline__
#endif
    float capped(float score, float cap) {
  return cap * tanhf(score / cap);
}

template <typename T, int SIZE>
struct Decode {
  static constexpr int pieces = SIZE / 32;  // of a head, of which a lane has 8 elements
  static constexpr int stride = SIZE + 8;   // of values in shared memory, so that banks differ

  union Shared {
    T values[warps][chunk][stride];
    OfWarps<warps, row_count, SIZE> of_warps;
  };

  const Attention& a;
  Shared& shared;
  const Part part;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
  uint4 query[pieces][2];           // of rows g and g + 8
  float result[SIZE / 8][4] = {};   // of 8 columns: (g, 2t), (g, 2t + 1), (g + 8, ...)
  RunningSoftmax<true> softmax[2];  // of rows g and g + 8, with this lane's share of the sums

  __device__ void start(const T* q, const T* sinks) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int r = g + 8 * half;
      const bool exists = r < part.rows;
      const T* from = q;
      if (exists) {
        from += part.item * a.q_batch + part.head(a, r) * a.q_head + part.query(a, r) * a.q_row;
      }
#pragma unroll
      for (int p = 0; p < pieces; ++p) {
        const int c = p * 32 + t * 8;
        query[p][half] = exists && c < a.size ? *reinterpret_cast<const uint4*>(from + c)
                                              : make_uint4(0, 0, 0, 0);
      }
      softmax[half] = {negative_infinity(), 0};
      if (exists && sinks != nullptr && part.split == 0 && warp == 0) {  // counted once
        softmax[half].top = widen(sinks[part.head(a, r)]);
        if (t == 0 && softmax[half].top != negative_infinity()) softmax[half].sum = 1;
      }
    }
  }

  __device__ void fetch_values(const T* v, int begin) {
    constexpr int vectors = SIZE / 8, at_once = 32 / vectors;  // of a row, and rows of a warp
#pragma unroll 1
    for (int row = lane / vectors; row < chunk; row += at_once) {
      const int c = lane % vectors * 8;
      const bool exists = begin + row < part.end && c < a.v_size;
      copy_16_bytes(&shared.values[warp][row][c], exists ? v + (begin + row) * a.v_row + c : v,
                    exists);
    }
  }

  __device__ void multiply_keys(const T* k, int begin, float (&scores)[key_tiles][4]) const {
    uint4 keys[key_tiles][pieces];
#pragma unroll
    for (int n = 0; n < key_tiles; ++n) {
      const int key = begin + n * 8 + g;
      const T* from = k + key * a.k_row + t * 8;
#pragma unroll
      for (int p = 0; p < pieces; ++p) {
        const bool exists = key < part.end && p * 32 + t * 8 < a.size;
        keys[n][p] =
            exists ? *reinterpret_cast<const uint4*>(from + p * 32) : make_uint4(0, 0, 0, 0);
      }
    }
#pragma unroll
    for (int n = 0; n < key_tiles; ++n) {
#pragma unroll
      for (int p = 0; p < pieces; ++p) {
        const uint4 &x = query[p][0], &y = query[p][1], &b = keys[n][p];
        const uint32_t first[4] = {x.x, y.x, x.y, y.y}, second[4] = {x.z, y.z, x.w, y.w};
        multiply_tiles<T>(scores[n], first, b.x, b.y);
        multiply_tiles<T>(scores[n], second, b.z, b.w);
      }
    }
  }

  // Scores become weights.
  __device__ void weigh(const void* mask, int begin, float (&scores)[key_tiles][4]) {
    const float scale = static_cast<float>(a.scale), cap = static_cast<float>(a.cap);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int r = g + 8 * half;
      const bool exists = r < part.rows;
      const int query_number = part.query(a, r);
      const Range seen = visible_keys(a, part.length, query_number);
      const int64_t at =
          exists && mask != nullptr ? mask_start(a, part.item, part.head(a, r), query_number) : 0;
      float largest = negative_infinity();
#pragma unroll
      for (int i = 0; i < 2 * key_tiles; ++i) {
        const int key = begin + i / 2 * 8 + 2 * t + i % 2;
        float& score = scores[i / 2][2 * half + i % 2];
        score *= scale;
        if (cap != 0) score = capped(score, cap);
        if (!exists || key < seen.begin || key >= seen.end) {
          score = negative_infinity();
        } else if (mask != nullptr) {
          score += mask_value<T>(a, mask, at + key);
        }
        largest = fmaxf(largest, score);
      }
      largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 1));
      largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 2));
      const float factor = softmax[half].raise(largest, log2_of_e);
#pragma unroll
      for (int c = 0; c < SIZE / 8; ++c) {
        result[c][2 * half] *= factor;
        result[c][2 * half + 1] *= factor;
      }
#pragma unroll
      for (int i = 0; i < 2 * key_tiles; ++i) {
        float& weight = scores[i / 2][2 * half + i % 2];
        weight = softmax[half].weight(weight, log2_of_e);
        softmax[half].sum += weight;
      }
    }
  }

  // Weights are multiplied as sums of two elements, so that results are those of floats.
  __device__ void multiply_values(const float (&weights)[key_tiles][4]) {
#pragma unroll
    for (int n = 0; n < key_tiles; n += 2) {  // 16 keys
      uint32_t rows[4], rest[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float* pair = &weights[n + i / 2][i % 2 * 2];
        float rounded[2];
        rows[i] = pack_pair<T>(pair[0], pair[1]);
        unpack_word<T>(rows[i], rounded);
        rest[i] = pack_pair<T>(pair[0] - rounded[0], pair[1] - rounded[1]);
      }
#pragma unroll
      for (int c = 0; c < SIZE / 8; c += 2) {
        // Tiles (keys, columns): (0, 0), (8, 0), (0, 8), (8, 8).
        const int key = n * 8 + lane % 16, column = c * 8 + lane / 16 * 8;
        uint32_t tiles[4];
        load_tiles<true>(tiles, &shared.values[warp][key][column]);
        multiply_tiles<T>(result[c], rows, tiles[0], tiles[1]);
        multiply_tiles<T>(result[c + 1], rows, tiles[2], tiles[3]);
        multiply_tiles<T>(result[c], rest, tiles[0], tiles[1]);
        multiply_tiles<T>(result[c + 1], rest, tiles[2], tiles[3]);
      }
    }
  }

  // What the warp has, to shared memory, where other warps may have values.
  __device__ void share() {
    __syncthreads();
    OfWarps<warps, row_count, SIZE>& to = shared.of_warps;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float sum = softmax[half].sum;
      sum += __shfl_xor_sync(0xffffffffu, sum, 1);
      sum += __shfl_xor_sync(0xffffffffu, sum, 2);
      const int r = g + 8 * half;
      if (r >= part.rows) continue;
      if (t == 0) {
        to.top[warp][r] = softmax[half].top;
        to.sum[warp][r] = sum;
      }
#pragma unroll
      for (int c = 0; c < SIZE / 8; ++c) {
        to.result[warp][r][c * 8 + 2 * t] = result[c][2 * half];
        to.result[warp][r][c * 8 + 2 * t + 1] = result[c][2 * half + 1];
      }
    }
  }

  __device__ void run(const T* q, const T* k, const T* v, const void* mask, const T* sinks) {
    k += part.item * a.k_batch + part.kv_head * a.k_head;
    v += part.item * a.v_batch + part.kv_head * a.v_head;
    start(q, sinks);
#pragma unroll 1
    for (int begin = part.begin + warp * chunk; begin < part.end; begin += warps * chunk) {
      float scores[key_tiles][4] = {};
      fetch_values(v, begin);
      multiply_keys(k, begin, scores);
      weigh(mask, begin, scores);
      wait_for_copies();
      __syncwarp();
      multiply_values(scores);
      __syncwarp();  // the values have been read
    }
    share();
  }
};

template <typename T, int SIZE, bool in_clusters>
__device__ void decode(const T* q, const T* k, const T* v, const void* mask, const int64_t* lengths,
                       const T* sinks, const Attention& a, const Results<T>& to) {
  DYNAMIC_SHARED(memory);
  auto& shared = *reinterpret_cast<typename Decode<T, SIZE>::Shared*>(memory);
  const Part part = part_of<row_count>(a, lengths, to.splits);
  Decode<T, SIZE>{a, shared, part}.run(q, k, v, mask, sinks);
  finish<in_clusters>(a, part, shared.of_warps, to);
}

#define KERNEL(form, attributes, in_clusters, name, T, SIZE)                                     \
  extern "C" __global__ void attributes __launch_bounds__(threads)                               \
      decode_##form##_##name##_##SIZE(const T* q, const T* k, const T* v, const void* mask,      \
                                      const int64_t* lengths, const T* sinks, T* y,              \
                                      const Attention a, float* parts, float* states, int* done, \
                                      int32_t splits) {                                          \
    wait_for_previous_kernels();                                                                 \
    const Results<T> to{y, parts, states, done, splits};                                         \
    decode<T, SIZE, in_clusters>(q, k, v, mask, lengths, sinks, a, to);                          \
  }
#define KERNELS(name, T, SIZE)                                 \
  IN_PART(name##_##SIZE, KERNEL(tiles, , false, name, T, SIZE) \
                             KERNEL(clusters, CLUSTER(1, cluster_blocks, 1), true, name, T, SIZE))
#define SIZES(name, T) KERNELS(name, T, 64) KERNELS(name, T, 128)
SIZES(float16, float16)
SIZES(bfloat16, bfloat16)
