// SPDX-License-Identifier: Apache-2.0
// What the kernels share that attend few queries to many keys, as in decoding.
//
// The keys are split over blocks so that all processors read. Blocks of a cluster join their parts
// by way of shared memory, others by the one that is done last; always in the same order. A block
// takes the query rows that share a key head, up to ROWS at once; its warps go through its keys 32
// at a time, each with a running softmax of its own.
//
// A block runs for a microsecond or two, in which it reads most of its instructions for the first
// time: so loops are unrolled only where registers are numbered by them.
#pragma once

#include "attention.cuh"
#include "cluster.cuh"

constexpr int chunk = 32, most_splits = 64;
constexpr int cluster_blocks = 8;

// Which rows and keys a block has: rows are numbered by (head of the group, query).
struct Part {
  int item, kv_head, split;
  int first_row, rows;
  int begin, end;
  int length;  // valid keys, -1 when nobody says
  int group;   // heads of queries that share a key head

  __device__ int query(const Attention& a, int r) const {
    return a.queries == 1 ? 0 : (first_row + r) % a.queries;
  }
  __device__ int head(const Attention& a, int r) const {
    return kv_head * group + (a.queries == 1 ? first_row + r : (first_row + r) / a.queries);
  }
  // The number of a row among all.
  __device__ int64_t row(const Attention& a, int r) const {
    return (static_cast<int64_t>(item) * a.q_heads + head(a, r)) * a.queries + query(a, r);
  }
};

// The block of number `blockIdx.x` = ((item, head), rows); `blockIdx.y` is the split.
template <int ROWS>
__device__ Part part_of(const Attention& a, const int64_t* lengths, int splits) {
  Part part;
  part.group = a.group();
  const int rows = part.group * a.queries, row_blocks = (rows + ROWS - 1) / ROWS;
  part.split = blockIdx.y;
  part.first_row = blockIdx.x % row_blocks * ROWS;
  part.rows = rows - part.first_row < ROWS ? rows - part.first_row : ROWS;
  const int number = blockIdx.x / row_blocks;
  part.item = number / a.kv_heads;
  part.kv_head = number % a.kv_heads;
  part.length = valid_keys(a, lengths, part.item);
  const int begin = visible_keys(a, part.length, 0).begin;
  const int end = visible_keys(a, part.length, a.queries - 1).end;
  const int chunks = (end - begin + chunk - 1) / chunk;
  const int keys = (chunks + splits - 1) / splits * chunk;
  part.begin = begin + part.split * keys < end ? begin + part.split * keys : end;
  part.end = part.begin + keys < end ? part.begin + keys : end;
  return part;
}

// Where results go: to y, or with more than one split to `parts`, [row][split][v_size], and the
// scores that they are beside and the sums of weights to `states`, [row][split][2].
template <typename T>
struct Results {
  T* y;
  float* parts;
  float* states;
  int* done;  // how many splits of the rows of a block are done; 0 before and afterwards
  int splits;
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

// What the warps of a block have for its rows.
template <int warps, int ROWS, int SIZE>
struct alignas(16) OfWarps {  // read by twos
  float result[warps][ROWS][SIZE];
  float top[warps][ROWS];  // the largest score
  float sum[warps][ROWS];
};

// A row of y.
template <typename T>
__device__ inline T* row_of(T* y, const Attention& a, const Part& part, int r) {
  return y + part.item * a.y_batch + part.head(a, r) * a.y_head + part.query(a, r) * a.y_row;
}

// The rows of a block from the parts of all splits. A warp takes a row, and weighs its splits.
template <int warps, typename T>
__device__ void join_splits(const Attention& a, const Part& part, const Results<T>& to) {
  __shared__ float weights[warps][most_splits];
  constexpr int own_splits = most_splits / 32;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
#pragma unroll 1
  for (int r = warp; r < part.rows; r += warps) {
    const int64_t row = part.row(a, r) * to.splits;
    RunningSoftmax<false> own[own_splits], joined = {negative_infinity(), 0};
#pragma unroll
    for (int i = 0; i < own_splits; ++i) {
      const float* state = to.states + (row + lane + 32 * i) * 2;
      own[i] = {negative_infinity(), 0};
      if (lane + 32 * i < to.splits) own[i] = {made(state), made(state + 1)};
      joined.top = fmaxf(joined.top, own[i].top);
    }
    joined.top = warp_reduce(joined.top, [](float x, float y) { return fmaxf(x, y); });
#pragma unroll
    for (int i = 0; i < own_splits; ++i) {
      const float weight = joined.weight(own[i].top, 1);
      joined.sum += own[i].sum * weight;
      weights[warp][lane + 32 * i] = weight;
    }
    joined.sum = warp_reduce(joined.sum, Sum());
    const float factor = joined.sum == 0 ? 0.0f : 1 / joined.sum;
    __syncwarp();
    T* y = row_of(to.y, a, part, r);
#pragma unroll 1
    for (int c = 2 * lane; c < a.v_size; c += 64) {
      const float* from = to.parts + row * a.v_size + c;
      float first = 0, second = 0;
#pragma unroll 8
      for (int s = 0; s < to.splits; ++s) {
        const float2 pair = made(reinterpret_cast<const float2*>(from + s * a.v_size));
        first += pair.x * weights[warp][s];
        second += pair.y * weights[warp][s];
      }
      y[c] = narrow<T>(first * factor);
      y[c + 1] = narrow<T>(second * factor);
    }
    __syncwarp();
  }
}

// The same from what the blocks of a cluster have as their first warps: each makes a part of it.
template <typename T, int warps, int ROWS, int SIZE>
__device__ void join_cluster(const Attention& a, const Part& part,
                             const OfWarps<warps, ROWS, SIZE>& own, const Results<T>& to) {
  __syncwarp();
  meet<cluster_blocks>();
  const int pairs = a.v_size / 2, count = part.rows * pairs;
  const int share = (count + cluster_blocks - 1) / cluster_blocks;
  const int begin = part.split * share, end = begin + share < count ? begin + share : count;
#pragma unroll 1
  for (int i = begin + threadIdx.x; i < end; i += 32 * warps) {
    const int r = i / pairs, c = i % pairs * 2;
    float top[cluster_blocks], sum[cluster_blocks];
    float2 value[cluster_blocks];
    RunningSoftmax<false> joined = {negative_infinity(), 0};
#pragma unroll
    for (int b = 0; b < cluster_blocks; ++b) {
      top[b] = there<float>(b, &own.top[0][r]);
      sum[b] = there<float>(b, &own.sum[0][r]);
      value[b] = there<float2>(b, &own.result[0][r][c]);
    }
#pragma unroll
    for (int b = 0; b < cluster_blocks; ++b) joined.top = fmaxf(joined.top, top[b]);
    float first = 0, second = 0;
#pragma unroll
    for (int b = 0; b < cluster_blocks; ++b) {
      const float weight = joined.weight(top[b], 1);
      joined.sum += sum[b] * weight;
      first += value[b].x * weight;
      second += value[b].y * weight;
    }
    const float factor = joined.sum == 0 ? 0.0f : 1 / joined.sum;
    T* y = row_of(to.y, a, part, r) + c;
    y[0] = narrow<T>(first * factor);
    y[1] = narrow<T>(second * factor);
  }
  __syncwarp();
  leave<cluster_blocks>();
}

// Joins what the warps have, and then what the splits have. All threads call it; rows have an even
// number of elements.
template <bool in_clusters, typename T, int warps, int ROWS, int SIZE>
__device__ void finish(const Attention& a, const Part& part, OfWarps<warps, ROWS, SIZE>& of_warps,
                       const Results<T>& to) {
#if defined(BASCULE_EMULATED) || __CUDA_ARCH__ < 900
  constexpr bool by_cluster = false;
#else
  constexpr bool by_cluster = in_clusters;
#endif
  const int lane = threadIdx.x % 32;
  __syncthreads();
#pragma unroll 1
  for (int r = threadIdx.x / 32; r < part.rows; r += warps) {
    RunningSoftmax<false> joined = {negative_infinity(), 0};
    float weights[warps];
#pragma unroll
    for (int w = 0; w < warps; ++w) joined.top = fmaxf(joined.top, of_warps.top[w][r]);
#pragma unroll
    for (int w = 0; w < warps; ++w) {
      weights[w] = joined.weight(of_warps.top[w][r], 1);
      joined.sum += of_warps.sum[w][r] * weights[w];
    }
    __syncwarp();
    const int64_t at = part.row(a, r) * to.splits + part.split;
    if (lane == 0 && by_cluster) {
      of_warps.top[0][r] = joined.top;
      of_warps.sum[0][r] = joined.sum;
    } else if (lane == 0 && to.splits > 1) {
      to.states[at * 2] = joined.top;
      to.states[at * 2 + 1] = joined.sum;
    }
    const float factor = joined.sum == 0 ? 0.0f : 1 / joined.sum;
    T* y = row_of(to.y, a, part, r);
#pragma unroll 1
    for (int c = 2 * lane; c < a.v_size; c += 64) {
      float2 value = make_float2(0, 0);
#pragma unroll
      for (int w = 0; w < warps; ++w) {
        const float2 pair = *reinterpret_cast<const float2*>(&of_warps.result[w][r][c]);
        value.x += pair.x * weights[w];
        value.y += pair.y * weights[w];
      }
      if (by_cluster) {
        *reinterpret_cast<float2*>(&of_warps.result[0][r][c]) = value;
      } else if (to.splits > 1) {
        *reinterpret_cast<float2*>(to.parts + at * a.v_size + c) = value;
      } else {
        y[c] = narrow<T>(value.x * factor);
        y[c + 1] = narrow<T>(value.y * factor);
      }
    }
  }
  if constexpr (by_cluster) {
    join_cluster(a, part, of_warps, to);
    return;
  }
  if (to.splits == 1) return;
  __shared__ bool is_last;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    is_last = atomicAdd(to.done + blockIdx.x, 1) == to.splits - 1;
    if (is_last) to.done[blockIdx.x] = 0;
  }
  __syncthreads();
  if (!is_last) return;
  __threadfence();
  join_splits<warps>(a, part, to);
}
