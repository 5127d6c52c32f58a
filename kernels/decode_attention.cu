// SPDX-License-Identifier: Apache-2.0
// parts: float32_64 float32_128 float32_256 float16_64 float16_128 float16_256
// parts: bfloat16_64 bfloat16_128 bfloat16_256
//
// Attention of a few queries over many keys, as in decoding: bound by reading keys and values once.
//
// The keys are split over blocks so that all processors read; the block that is done last joins the
// parts, in their order. A block takes the query rows that share a key head, up to ROWS at once.
// Its warps go through its keys 32 at a time, each with a running softmax of its own: first a few
// lanes take a key, 16 bytes a lane, and the scores go to shared memory; then a lane takes a key,
// for the softmax; then the lanes weigh the values as they did the keys.
#include "attention.cuh"

constexpr int warps = 4, threads = 32 * warps, chunk = 32;

// Which rows and keys a block has: rows are numbered by (head of the group, query).
struct Part {
  int item, kv_head, split;
  int first_row, rows;
  int begin, end;
};

template <typename T, int SIZE, int ROWS>
struct Decode {
  static constexpr int elements = 16 / sizeof(T);                            // of 16 bytes
  static constexpr int lanes = SIZE / elements < 32 ? SIZE / elements : 32;  // of a key
  static constexpr int vectors = SIZE / elements / lanes;                    // of a lane
  static constexpr int own = vectors * elements;
  static constexpr int most = ROWS;
  static constexpr int groups = 32 / lanes;                     // keys that are read at once
  static constexpr int ahead = ROWS < 8 && lanes >= 8 ? 8 : 4;  // reads under way

  struct Shared {
    float weights[warps][ROWS][chunk];
    float top[warps][ROWS];
    float sum[warps][ROWS];
    float result[warps][ROWS][SIZE];
  };

  const Attention& a;
  Shared& shared;
  const Part part;
  int length, lane, warp;
  float query[ROWS][own];
  float result[ROWS][own];
  RunningSoftmax<false> softmax[ROWS];

  __device__ int row_head(int r) const {
    return part.kv_head * a.group() + (part.first_row + r) / a.queries;
  }
  __device__ int row_query(int r) const { return (part.first_row + r) % a.queries; }

  __device__ static void read(float (&to)[elements], const T* from) {
    const uint4 bits = *reinterpret_cast<const uint4*>(from);
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
          read(values, q + part.item * a.q_batch + row_head(r) * a.q_head + row_query(r) * a.q_row +
                           column(n));
        }
#pragma unroll
        for (int i = 0; i < elements; ++i) {
          query[r][n * elements + i] = values[i];
          result[r][n * elements + i] = 0;
        }
      }
      softmax[r] = {negative_infinity(), 0};
      if (exists && sinks != nullptr && part.split == 0 && warp == 0) {  // counted once
        softmax[r].top = widen(sinks[row_head(r)]);
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

  using Loaded = uint4[ahead][vectors];

  // What this lane has of the keys or values of so many reads from number `i` of a chunk on.
  __device__ void load(Loaded& to, const T* from, int64_t stride, int size, int begin, int end,
                       int i) const {
#pragma unroll
    for (int j = 0; j < ahead; ++j) {
      const int key = begin + (i + j) * groups + lane / lanes;
#pragma unroll
      for (int n = 0; n < vectors; ++n) {
        to[j][n] = key < end && column(n) < size
                       ? *reinterpret_cast<const uint4*>(from + key * stride + column(n))
                       : make_uint4(0, 0, 0, 0);
      }
    }
  }

  __device__ void multiply_keys(const T* k, int begin, int end) {
    constexpr int sharers = lanes / ROWS;  // lanes that hold the same sum
    const int group = lane / lanes;
#pragma unroll 1
    for (int i = 0; i < lanes; i += ahead) {
      Loaded loaded;
      load(loaded, k, a.k_row, a.size, begin, end, i);
#pragma unroll
      for (int j = 0; j < ahead; ++j) {
        float sums[ROWS] = {};
#pragma unroll
        for (int n = 0; n < vectors; ++n) {
          T values[elements];
          memcpy(values, &loaded[j][n], 16);
#pragma unroll
          for (int e = 0; e < elements; ++e) {
            const float key_element = widen(values[e]);
#pragma unroll
            for (int r = 0; r < ROWS; ++r) {
              sums[r] = fmaf(query[r][n * elements + e], key_element, sums[r]);
            }
          }
        }
        const float sum = sum_lanes(sums);
        if (lane % sharers == 0) {
          shared.weights[warp][lane % lanes / sharers][(i + j) * groups + group] = sum;
        }
      }
    }
    __syncwarp();
  }

  __device__ void weigh(const void* mask, int begin) {
    const float scale = static_cast<float>(a.scale), cap = static_cast<float>(a.cap);
    const int key = begin + lane;
#pragma unroll
    for (int r = 0; r < ROWS; ++r) {
      if (r >= part.rows) break;
      float score = shared.weights[warp][r][lane] * scale;
      if (a.cap != 0) score = cap * tanhf(score / cap);
      const Range seen = visible_keys(a, length, row_query(r));
      if (key < seen.begin || key >= seen.end) {
        score = negative_infinity();
      } else if (mask != nullptr) {
        const int64_t at = mask_start(a, part.item, row_head(r), row_query(r)) + key;
        score += mask_value<T>(a, mask, at);
      }
      const float largest = warp_reduce(score, [](float x, float y) { return fmaxf(x, y); });
      const float factor = softmax[r].raise(largest, 1);
#pragma unroll
      for (int i = 0; i < own; ++i) result[r][i] *= factor;
      const float weight = softmax[r].weight(score, 1);
      softmax[r].sum += weight;
      shared.weights[warp][r][lane] = weight;
    }
    __syncwarp();
  }

  // `loaded` holds the first of them.
  __device__ void multiply_values(Loaded& loaded, const T* v, int begin, int end) {
    const int group = lane / lanes;
#pragma unroll 1
    for (int i = 0; i < lanes; i += ahead) {
      if (i > 0) load(loaded, v, a.v_row, a.v_size, begin, end, i);
#pragma unroll
      for (int j = 0; j < ahead; ++j) {
        float weights[ROWS];
#pragma unroll
        for (int r = 0; r < ROWS; ++r) {
          weights[r] = r < part.rows ? shared.weights[warp][r][(i + j) * groups + group] : 0;
        }
#pragma unroll
        for (int n = 0; n < vectors; ++n) {
          T values[elements];
          memcpy(values, &loaded[j][n], 16);
#pragma unroll
          for (int e = 0; e < elements; ++e) {
            const float value = widen(values[e]);
#pragma unroll
            for (int r = 0; r < ROWS; ++r) {
              float& sum = result[r][n * elements + e];
              sum = fmaf(weights[r], value, sum);
            }
          }
        }
      }
    }
    __syncwarp();  // the weights have been read
  }

  // What the lanes and groups of the warp have, to shared memory.
  __device__ void share() {
#pragma unroll
    for (int r = 0; r < ROWS; ++r) {
      if (r >= part.rows) break;
      const float sum = warp_reduce(softmax[r].sum, Sum());
      if (lane == 0) {
        shared.top[warp][r] = softmax[r].top;
        shared.sum[warp][r] = sum;
      }
#pragma unroll
      for (int i = 0; i < own; ++i) {
        float value = result[r][i];
#pragma unroll
        for (int step = 16; step >= lanes; step /= 2) {
          value += __shfl_xor_sync(0xffffffffu, value, step);
        }
        if (lane < lanes) {
          shared.result[warp][r][column(i / elements) + i % elements] = value;
        }
      }
    }
    __syncthreads();
  }

  // The warps' results joined: to y, or with more than one split to `parts`, [row][split][v_size],
  // and the scores that they are beside and the sums of weights to `states`, [row][split][2].
  __device__ void store(T* y, float* parts, float* states, int splits) {
    for (int i = threadIdx.x; i < part.rows * a.v_size; i += threads) {
      const int r = i / a.v_size, c = i % a.v_size;
      RunningSoftmax<false> joined = {shared.top[0][r], shared.sum[0][r]};
      float value = shared.result[0][r][c];
#pragma unroll
      for (int w = 1; w < warps; ++w) {
        value *= joined.raise(shared.top[w][r], 1);
        const float factor = joined.weight(shared.top[w][r], 1);
        joined.sum += shared.sum[w][r] * factor;
        value += shared.result[w][r][c] * factor;
      }
      const int head = row_head(r), query = row_query(r);
      if (splits == 1) {
        const float factor = joined.sum == 0 ? 0.0f : 1 / joined.sum;
        y[part.item * a.y_batch + head * a.y_head + query * a.y_row + c] =
            narrow<T>(value * factor);
        continue;
      }
      const int64_t row = (static_cast<int64_t>(part.item) * a.q_heads + head) * a.queries + query;
      const int64_t at = row * splits + part.split;
      parts[at * a.v_size + c] = value;
      if (c == 0) {
        states[at * 2] = joined.top;
        states[at * 2 + 1] = joined.sum;
      }
    }
  }

  __device__ void run(const T* q, const T* k, const T* v, const void* mask, const T* sinks, T* y,
                      float* parts, float* states, int splits) {
    k += part.item * a.k_batch + part.kv_head * a.k_head;
    v += part.item * a.v_batch + part.kv_head * a.v_head;
    start(q, sinks);
    for (int begin = part.begin + warp * chunk; begin < part.end; begin += warps * chunk) {
      Loaded values;  // on their way while keys are multiplied
      load(values, v, a.v_row, a.v_size, begin, part.end, 0);
      multiply_keys(k, begin, part.end);
      weigh(mask, begin);
      multiply_values(values, v, begin, part.end);
    }
    share();
    store(y, parts, states, splits);
  }
};

// What another block has written.
template <typename T>
__device__ inline T made(const T* from) {
#ifdef BASCULE_EMULATED
  return *from;
#else
  return __ldcg(from);
#endif
}

constexpr int most_splits = 64;

// The rows of a block from the parts of all splits: first a warp takes a row, and weighs the
// splits.
template <typename Block, typename T>
__device__ void join_splits(const Block& block, const float* parts, const float* states, T* y,
                            int splits) {
  __shared__ float weights[Block::most][most_splits];
  const Attention& a = block.a;
  const auto row_of = [&](int r) {
    const int64_t head = static_cast<int64_t>(block.part.item) * a.q_heads + block.row_head(r);
    return head * a.queries + block.row_query(r);
  };
  for (int r = block.warp; r < block.part.rows; r += warps) {
    const float* of_row = states + row_of(r) * splits * 2;
    RunningSoftmax<false> own[most_splits / 32], joined = {negative_infinity(), 0};
#pragma unroll
    for (int i = 0; i < most_splits / 32; ++i) {
      const int split = block.lane + 32 * i;
      own[i] = {negative_infinity(), 0};
      if (split < splits) own[i] = {made(of_row + 2 * split), made(of_row + 2 * split + 1)};
    }
#pragma unroll
    for (int i = 0; i < most_splits / 32; ++i) joined.top = fmaxf(joined.top, own[i].top);
    joined.top = warp_reduce(joined.top, [](float x, float y) { return fmaxf(x, y); });
#pragma unroll
    for (int i = 0; i < most_splits / 32; ++i) {
      joined.sum += own[i].sum * joined.weight(own[i].top, 1);
    }
    joined.sum = warp_reduce(joined.sum, Sum());
    const float factor = joined.sum == 0 ? 0.0f : 1 / joined.sum;
#pragma unroll
    for (int i = 0; i < most_splits / 32; ++i) {
      weights[r][block.lane + 32 * i] = joined.weight(own[i].top, 1) * factor;
    }
  }
  __syncthreads();
  for (int i = threadIdx.x; i < block.part.rows * a.v_size; i += threads) {
    const int r = i / a.v_size, c = i % a.v_size;
    const float* from = parts + row_of(r) * splits * a.v_size + c;
    float value = 0;
#pragma unroll 8
    for (int s = 0; s < splits; ++s) {
      value += made(from + static_cast<int64_t>(s) * a.v_size) * weights[r][s];
    }
    y[block.part.item * a.y_batch + block.row_head(r) * a.y_head + block.row_query(r) * a.y_row +
      c] = narrow<T>(value);
  }
}

// The block of number `blockIdx.x` = ((item, head), rows); `blockIdx.y` is the split.
template <int ROWS>
__device__ Part part_of(const Attention& a, int length, int splits) {
  const int rows = a.group() * a.queries, row_blocks = (rows + ROWS - 1) / ROWS;
  Part part;
  part.split = blockIdx.y;
  part.first_row = blockIdx.x % row_blocks * ROWS;
  part.rows = rows - part.first_row < ROWS ? rows - part.first_row : ROWS;
  const int number = blockIdx.x / row_blocks;
  part.item = number / a.kv_heads;
  part.kv_head = number % a.kv_heads;
  const int begin = visible_keys(a, length, 0).begin;
  const int end = visible_keys(a, length, a.queries - 1).end;
  const int chunks = (end - begin + chunk - 1) / chunk;
  const int keys = (chunks + splits - 1) / splits * chunk;
  part.begin = begin + part.split * keys < end ? begin + part.split * keys : end;
  part.end = part.begin + keys < end ? part.begin + keys : end;
  return part;
}

template <typename T, int SIZE, int ROWS>
__device__ void decode(const T* q, const T* k, const T* v, const void* mask, const int64_t* lengths,
                       const T* sinks, T* y, const Attention& a, float* parts, float* states,
                       int* done, int splits) {
  using Block = Decode<T, SIZE, ROWS>;
  __shared__ typename Block::Shared shared;
  const int rows = a.group() * a.queries, row_blocks = (rows + ROWS - 1) / ROWS;
  const int item = static_cast<int>(blockIdx.x) / row_blocks / a.kv_heads;
  const int length = valid_keys(a, lengths, item);
  Block block{a,
              shared,
              part_of<ROWS>(a, length, splits),
              length,
              static_cast<int>(threadIdx.x % 32),
              static_cast<int>(threadIdx.x / 32)};
  block.run(q, k, v, mask, sinks, y, parts, states, splits);
  if (splits == 1) return;
  // How many blocks of these rows are done is 0 again afterwards.
  __shared__ bool is_last;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    is_last = atomicAdd(done + blockIdx.x, 1) == splits - 1;
    if (is_last) done[blockIdx.x] = 0;
  }
  __syncthreads();
  if (!is_last) return;
  __threadfence();
  join_splits(block, parts, states, y, splits);
}

#define ENTRY(name, T, SIZE, ROWS)                                                           \
  extern "C" __global__ void __launch_bounds__(threads) decode_##name##_##SIZE##_##ROWS(     \
      const T* q, const T* k, const T* v, const void* mask, const int64_t* lengths,          \
      const T* sinks, T* y, const Attention a, float* parts, float* states, int* done,       \
      int32_t splits) {                                                                      \
    wait_for_previous_kernels();                                                             \
    decode<T, SIZE, ROWS>(q, k, v, mask, lengths, sinks, y, a, parts, states, done, splits); \
  }
#define ROW_COUNTS(name, T, SIZE) \
  IN_PART(name##_##SIZE, ENTRY(name, T, SIZE, 1) ENTRY(name, T, SIZE, 4) ENTRY(name, T, SIZE, 8))
#define SIZES(name, T) ROW_COUNTS(name, T, 64) ROW_COUNTS(name, T, 128) ROW_COUNTS(name, T, 256)
SIZES(float32, float)
SIZES(float16, float16)
SIZES(bfloat16, bfloat16)
