// SPDX-License-Identifier: Apache-2.0
// parts: float16_32 float16_64 float16_96 float16_128 float16_256
// parts: bfloat16_32 bfloat16_64 bfloat16_96 bfloat16_128 bfloat16_256
// parts: float32_32 float32_64 float32_96 float32_128
// Attention of many queries, by tensor cores, without the scores in memory.
//
// A block takes a tile of query rows of one head and goes through the keys and values it sees, a
// tile at a time; the next tile is copied to shared memory meanwhile. Each warp has 16 or 32 rows
// to itself: scores, running softmax and result stay in its registers. Where that makes too few
// blocks, the warps of a block share 16 rows, and each takes a part of every tile of keys. 16-bit
// elements are multiplied as they are, float32 rounded to TF32.
#include "attention_mask.cuh"
#include "tensor_core.cuh"

constexpr int warps = 4, threads = 32 * warps;

// `SIZE` holds a row of a head, and one of the result; `TILES` of 16 rows are a warp's. `SPLITS`
// warps share their rows.
template <typename T, int SIZE, int TILES, int SPLITS>
struct Flash {
  static constexpr int warp_rows = 16 * TILES, rows = warps / SPLITS * warp_rows;
  // As many keys as registers and shared memory hold.
  static constexpr bool is_short = SIZE * sizeof(T) <= 128;
  static constexpr int warp_keys =
      SPLITS > 1 ? (is_short ? 32 : 16) : (is_short && TILES == 1 ? 64 : 32);
  static constexpr int tile_keys = SPLITS * warp_keys, groups = warp_keys / 8;
  static constexpr int elements = 16 / sizeof(T);  // of 16 bytes, half of a step along a row
  static constexpr int steps = SIZE / (2 * elements);
  // Eight rows that are read at once lie in different banks.
  static constexpr int stride = SIZE + elements, part_stride = SIZE + 8;
  static constexpr bool keeps_queries = TILES == 1 && steps <= 8;
  static constexpr int kept = keeps_queries ? steps : 1;

  const Attention& a;
  QueryTile<T> tile;
  T* q_tile;
  T* kv_tiles;  // two of keys, two of values
  int lane, row_warp, key_warp;
  float unit;  // of the scores, in powers of 2

  uint32_t queries[TILES][kept][4];
  float scores[TILES][groups][4];
  float result[TILES][SIZE / 8][4];
  MaskTiles<T, TILES, groups> mask;
  RunningSoftmax<true> softmax[TILES][2];

  __device__ Flash(const Attention& a, const QueryTile<T>& tile, const void* whole_mask,
                   unsigned char* shared)
      : a(a),
        tile(tile),
        q_tile(reinterpret_cast<T*>(shared)),
        kv_tiles(q_tile + rows * stride),
        lane(threadIdx.x % 32),
        row_warp(warp_number() / SPLITS),
        key_warp(warp_number() % SPLITS),
        mask(a, whole_mask, tile.mask, tile.first + row_of(0, 0)) {}

  // In a way that tells the compiler that it is one number for all lanes.
  __device__ static int warp_number() { return __shfl_sync(0xffffffffu, threadIdx.x / 32, 0); }

  __device__ T* k_tile(int stage) const { return kv_tiles + stage * (tile_keys * stride); }
  __device__ T* v_tile(int stage) const { return k_tile(2 + stage); }

  // The row, of the block's, that elements 0 and 1 (`half` 0) or 2 and 3 of a tile belong to.
  __device__ int row_of(int m, int half) const {
    return row_warp * warp_rows + m * 16 + half * 8 + lane / 4;
  }

  __device__ void load_queries(int m, int step, uint32_t (&to)[4]) const {
    const int row = row_warp * warp_rows + m * 16 + lane % 16;
    load_tiles<false>(to, q_tile + row * stride + (2 * step + lane / 16) * elements);
  }

  __device__ void start(const T* sinks) {
    const bool has_sink = sinks != nullptr && key_warp == 0;
    const float sink = has_sink ? widen(sinks[tile.head]) : negative_infinity();
#pragma unroll
    for (int m = 0; m < TILES; ++m) {
#pragma unroll
      for (int n = 0; n < SIZE / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) result[m][n][i] = 0;
      }
      // The four lanes that share a row add up their sums in the end.
      const float sum = lane % 4 == 0 && sink != negative_infinity() ? 1.0f : 0.0f;
      softmax[m][0] = softmax[m][1] = RunningSoftmax<true>{sink, sum};
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

  __device__ void multiply_keys(const T* keys) {
#pragma unroll
    for (int m = 0; m < TILES; ++m) {
#pragma unroll
      for (int n = 0; n < groups; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) scores[m][n][i] = 0;
      }
    }
    const T* own = keys + (key_warp * warp_keys + lane / 16 * 8 + lane % 8) * stride;
#pragma unroll
    for (int step = 0; step < steps; ++step) {
      uint32_t loaded[TILES][4];
      if constexpr (!keeps_queries) {
#pragma unroll
        for (int m = 0; m < TILES; ++m) load_queries(m, step, loaded[m]);
      }
#pragma unroll
      for (int n = 0; n < groups; n += 2) {
        uint32_t b[4];
        load_tiles<false>(b, own + n * 8 * stride + (2 * step + lane / 8 % 2) * elements);
#pragma unroll
        for (int m = 0; m < TILES; ++m) {
          const auto& row = keeps_queries ? queries[m][keeps_queries ? step : 0] : loaded[m];
          multiply_tiles<T>(scores[m][n], row, b[0], b[1]);
          multiply_tiles<T>(scores[m][n + 1], row, b[2], b[3]);
        }
      }
    }
  }

  // --- from scores to weights

  // Scale, cap and mask.
  __device__ void finish_scores() {
    float scale = static_cast<float>(a.scale);
    const float cap = static_cast<float>(a.cap);
    if (cap != 0) {
      const float factor = fast_divide(2 * log2_of_e * scale, cap);
      for_scores([&](float& score, int, int, int, int) {
        score = cap - fast_divide(2 * cap, fast_exp2(score * factor) + 1);  // cap * tanh(score/cap)
      });
      scale = 1;
    }
    if (mask.data == nullptr) {
      for_scores([&](float& score, int, int, int, int) { score *= scale; });
    } else if (a.mask_kind == mask_boolean) {
      add_mask<mask_boolean>(scale);
    } else if (a.mask_kind == mask_narrow) {
      add_mask<mask_narrow>(scale);
    } else {
      add_mask<mask_wide>(scale);
    }
  }

  template <int kind>
  __device__ void add_mask(float scale) {
    for_scores([&](float& score, int m, int half, int n, int j) {
      score = fmaf(score, scale, mask.template value<kind>(m, half, n, j));
    });
  }

  // `each(score, m, half, n, j)`: of row (m, half), for key 8 n + 2 (lane % 4) + j.
  template <typename Each>
  __device__ void for_scores(Each each) {
#pragma unroll
    for (int m = 0; m < TILES; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
#pragma unroll
        for (int n = 0; n < groups; ++n) {
#pragma unroll
          for (int j = 0; j < 2; ++j) each(scores[m][n][2 * half + j], m, half, n, j);
        }
      }
    }
  }

  __device__ void hide_keys(int begin) {
#pragma unroll
    for (int m = 0; m < TILES; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const Range seen = visible_keys(a, tile.length, tile.first + row_of(m, half));
#pragma unroll
        for (int n = 0; n < groups; ++n) {
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
  __device__ void weigh() {
    float factors[TILES][2], offsets[TILES][2];
    bool rescales = false, shifts = false;
#pragma unroll
    for (int m = 0; m < TILES; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float largest = negative_infinity();
#pragma unroll
        for (int n = 0; n < groups; ++n) {
          largest = fmaxf(largest, fmaxf(scores[m][n][2 * half], scores[m][n][2 * half + 1]));
        }
        largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 1));
        largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 2));
        factors[m][half] = softmax[m][half].raise_far(largest, unit);
        offsets[m][half] = -softmax[m][half].reference() * unit;
        rescales |= factors[m][half] != 1;
        shifts |= isinf(offsets[m][half]);
      }
    }
    if (__ballot_sync(0xffffffffu, rescales) != 0) {
#pragma unroll
      for (int m = 0; m < TILES; ++m) {
#pragma unroll
        for (int n = 0; n < SIZE / 8; ++n) {
#pragma unroll
          for (int i = 0; i < 4; ++i) result[m][n][i] *= factors[m][i / 2];
        }
      }
    }
    if (shifts) {  // the product alone is out of range
      for_scores([&](float& score, int m, int half, int, int) {
        if (isinf(offsets[m][half])) score -= softmax[m][half].reference();
      });
#pragma unroll
      for (int m = 0; m < TILES; ++m) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          if (isinf(offsets[m][half])) offsets[m][half] = 0;
        }
      }
    }
    for_scores([&](float& score, int m, int half, int, int) {
      score = fast_exp2(fmaf(score, unit, offsets[m][half]));
      softmax[m][half].sum += score;
    });
  }

  // --- the result

  __device__ void multiply_narrow_values(const T* values) {
    const T* own = values + (key_warp * warp_keys + lane % 16) * stride + lane / 16 * 8;
#pragma unroll
    for (int step = 0; step < warp_keys / 16; ++step) {
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
        load_tiles<true>(b, own + step * 16 * stride + n * 8);
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
  __device__ void multiply_wide_values(const T* values) {
    const T* own = values + (key_warp * warp_keys + lane % 4 * 2) * stride + lane / 4;
#pragma unroll
    for (int step = 0; step < groups; ++step) {
      uint32_t weights[TILES][4];
#pragma unroll
      for (int m = 0; m < TILES; ++m) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          weights[m][i] = round_bits(__float_as_uint(scores[m][step][i / 2 + i % 2 * 2]));
        }
      }
#pragma unroll
      for (int n = 0; n < SIZE / 8; n += 2) {
        const T* value = own + step * 8 * stride + n * 8;
        uint32_t b[4] = {__float_as_uint(value[0]), __float_as_uint(value[stride]),
                         __float_as_uint(value[8]), __float_as_uint(value[stride + 8])};
#pragma unroll
        for (int m = 0; m < TILES; ++m) {
          multiply_tiles<T>(result[m][n], weights[m], b[0], b[1]);
          multiply_tiles<T>(result[m][n + 1], weights[m], b[2], b[3]);
        }
      }
    }
  }

  __device__ void multiply_values(const T* values) {
    if constexpr (sizeof(T) == 4) {
      multiply_wide_values(values);
    } else {
      multiply_narrow_values(values);
    }
  }

  // The warp's rows go to its part of the queries' tile, from where they leave 16 bytes at a time.
  __device__ void store() {
#pragma unroll
    for (int m = 0; m < TILES; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float sum = sum_of(m, half), factor = sum == 0 ? 0.0f : 1 / sum;
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
    constexpr int vectors = SIZE / elements;
#pragma unroll
    for (int i = lane; i < warp_rows * vectors; i += 32) {
      const int row = row_warp * warp_rows + i / vectors, column = i % vectors * elements;
      if (row < tile.count && column < a.v_size) {
        *reinterpret_cast<uint4*>(tile.y + row * a.y_row + column) =
            *reinterpret_cast<const uint4*>(q_tile + row * stride + column);
      }
    }
  }

  // The parts of the warps that share rows are joined in shared memory, in the order of the keys.
  __device__ void join_and_store() {
    float* parts = reinterpret_cast<float*>(kv_tiles);
    auto* states = reinterpret_cast<RunningSoftmax<true>*>(parts + SPLITS * rows * part_stride);
    __syncthreads();  // the last keys and values have been read
#pragma unroll
    for (int m = 0; m < TILES; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int at = key_warp * rows + row_of(m, half);
        const float sum = sum_of(m, half);
        if (lane % 4 == 0) states[at] = RunningSoftmax<true>{softmax[m][half].top, sum};
        float* row = parts + at * part_stride + lane % 4 * 2;
#pragma unroll
        for (int n = 0; n < SIZE / 8; ++n) {
          const float* pair = &result[m][n][2 * half];
          *reinterpret_cast<float2*>(row + n * 8) = make_float2(pair[0], pair[1]);
        }
      }
    }
    __syncthreads();
    constexpr int vectors = SIZE / elements;
    for (int i = threadIdx.x; i < rows * vectors; i += threads) {
      const int row = i / vectors, column = i % vectors * elements;
      if (row < tile.count && column < a.v_size) {
        join_parts(states + row, parts + row * part_stride + column,
                   tile.y + row * a.y_row + column);
      }
    }
  }

  // 16 bytes of a row.
  __device__ void join_parts(const RunningSoftmax<true>* states, const float* parts, T* y) const {
    RunningSoftmax<true> joined = states[0];
#pragma unroll
    for (int split = 1; split < SPLITS; ++split) {
      joined.top = fmaxf(joined.top, states[split * rows].top);
    }
    joined.sum = 0;
    float values[elements] = {};
#pragma unroll
    for (int split = 0; split < SPLITS; ++split) {
      const RunningSoftmax<true> state = states[split * rows];
      const float factor = joined.weight(state.top, unit);
      joined.sum += state.sum * factor;
#pragma unroll
      for (int i = 0; i < elements; ++i) {
        values[i] += parts[split * rows * part_stride + i] * factor;
      }
    }
    const float factor = joined.sum == 0 ? 0.0f : 1 / joined.sum;
    alignas(16) T out[elements];
#pragma unroll
    for (int i = 0; i < elements; ++i) out[i] = narrow<T>(values[i] * factor);
    *reinterpret_cast<uint4*>(y) = *reinterpret_cast<const uint4*>(out);
  }

  __device__ float sum_of(int m, int half) const {
    float sum = softmax[m][half].sum;
    sum += __shfl_xor_sync(0xffffffffu, sum, 1);
    return sum + __shfl_xor_sync(0xffffffffu, sum, 2);
  }

  // --- all of it

  __device__ void run(const int64_t* lengths, const T* sinks) {
    copy_rows<rows, SIZE, stride, threads>(q_tile, tile.q, 0, tile.count);
    tile.look(a, lengths);
    const auto [first, end] = tile.seen;
    load_tile(k_tile(0), tile.k, first);
    load_tile(v_tile(0), tile.v, first);
    // Of this warp: what its first row sees last, and its last row first.
    const int warp_first = tile.first + row_warp * warp_rows,
              warp_last = warp_first + warp_rows - 1;
    const Range low = visible_keys(a, tile.length, warp_first);
    const Range high = visible_keys(a, tile.length, warp_last);
    // Scores without anything but a scale are scaled in the exponent.
    const float scale = static_cast<float>(a.scale);
    const bool plain =
        mask.data == nullptr && sinks == nullptr && static_cast<float>(a.cap) == 0 && scale > 0;
    unit = plain ? scale * log2_of_e : log2_of_e;

    start(sinks);
    for (int begin = first, stage = 0; begin < end; begin += tile_keys, stage ^= 1) {
      const int own = begin + key_warp * warp_keys;
      const bool sees = warp_first < a.queries && own < high.end && low.begin < own + warp_keys;
      if (sees && mask.data != nullptr) mask.load(own + lane % 4 * 2);
      wait_for_batches<1>();
      if (begin == first) round_rows<rows>(q_tile);
      round_rows<tile_keys>(k_tile(stage));
      __syncthreads();
      load_tile(k_tile(stage ^ 1), tile.k, begin + tile_keys);
      if (begin == first) keep_queries();
      if (sees) multiply_keys(k_tile(stage));
      wait_for_batches<1>();
      round_rows<tile_keys>(v_tile(stage));
      __syncthreads();
      load_tile(v_tile(stage ^ 1), tile.v, begin + tile_keys);
      if (sees) {
        if (!plain) finish_scores();
        if (own < high.begin || own + warp_keys > low.end) hide_keys(own);
        weigh();
        multiply_values(v_tile(stage));
      }
    }
    if constexpr (SPLITS > 1) {
      join_and_store();
    } else {
      if (first >= end) {  // the queries have not been waited for
        wait_for_copies();
        __syncthreads();
      }
      store();
    }
  }

  // Floats that this thread has copied, and that have arrived, to what products take.
  template <int count>
  __device__ static void round_rows(T* tile) {
    if constexpr (sizeof(T) == 4) {
      for_own_vectors<count, SIZE / elements, threads>([&](int row, int vector) {
        auto* at = reinterpret_cast<uint4*>(tile + row * stride + vector * elements);
        const uint4 x = *at;
        *at = make_uint4(round_bits(x.x), round_bits(x.y), round_bits(x.z), round_bits(x.w));
      });
    }
  }

  __device__ void load_tile(T* to, const Rows<T>& from, int begin) const {
    const int end = tile.seen.end;
    if (begin < end) copy_rows<tile_keys, SIZE, stride, threads>(to, from, begin, end);
    end_batch_of_copies();
  }
};

#if defined(BASCULE_EMULATED) || __CUDA_ARCH__ >= 800 || !defined(__CUDA_ARCH__)
#define RUN(T, SIZE, TILES, SPLITS)             \
  using Kernel = Flash<T, SIZE, TILES, SPLITS>; \
  DYNAMIC_SHARED(shared);                       \
  Kernel(a, {a, Kernel::rows, q, k, v, y}, mask, shared).run(lengths, sinks);
#else
#define RUN(T, SIZE, TILES, SPLITS)  // there are no such tensor cores
#endif

// `rows` is how many a block takes; `blocks` are to fit a processor at once.
#define ENTRY(name, T, SIZE, rows, TILES, SPLITS, blocks)                                       \
  extern "C" __global__ void __launch_bounds__(threads, blocks) flash_##name##_##SIZE##_##rows( \
      const T* q, const T* k, const T* v, const void* mask, const int64_t* lengths,             \
      const T* sinks, T* y, const Attention a) {                                                \
    wait_for_previous_kernels();                                                                \
    RUN(T, SIZE, TILES, SPLITS)                                                                 \
  }
#define NARROW(name, T)                                                                  \
  IN_PART(name##_32, ENTRY(name, T, 32, 64, 1, 1, 4))                                    \
  IN_PART(name##_64, ENTRY(name, T, 64, 16, 1, 4, 4) ENTRY(name, T, 64, 64, 1, 1, 3)     \
                         ENTRY(name, T, 64, 128, 2, 1, 3))                               \
  IN_PART(name##_96, ENTRY(name, T, 96, 64, 1, 1, 3))                                    \
  IN_PART(name##_128, ENTRY(name, T, 128, 16, 1, 4, 3) ENTRY(name, T, 128, 64, 1, 1, 3)) \
  IN_PART(name##_256, ENTRY(name, T, 256, 64, 1, 1, 2))
NARROW(float16, float16)
NARROW(bfloat16, bfloat16)
IN_PART(float32_32, ENTRY(float32, float, 32, 64, 1, 1, 3))
IN_PART(float32_64, ENTRY(float32, float, 64, 16, 1, 4, 3) ENTRY(float32, float, 64, 64, 1, 1, 3)
                        ENTRY(float32, float, 64, 128, 2, 1, 2))
IN_PART(float32_96, ENTRY(float32, float, 96, 64, 1, 1, 3))
IN_PART(float32_128, ENTRY(float32, float, 128, 64, 1, 1, 2))
