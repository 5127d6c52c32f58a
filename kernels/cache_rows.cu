// SPDX-License-Identifier: Apache-2.0
// The new rows of a step of decoding: queries and keys are turned by the angles of their positions,
// keys and values go to where they belong in their caches, which are written in place.
#include "rotary.cuh"

struct CacheRows {
  int64_t batch, count;    // new rows of each sample
  int64_t length;          // of the caches
  int64_t positions;       // rows of the tables of angles
  int32_t q_heads, heads;  // heads of queries, and of keys and values
  int32_t size, half;      // of a head; pairs of it that are turned
  int32_t interleaved;
  int32_t id_items;  // samples that have position ids of their own, 1 when all share them
};

// A thread has N pairs or elements of a row of x, [batch, count, heads, size]: it turns pairs where
// there are angles. Its result goes to `y`, which is like x, or a cache [batch, heads, length,
// size] when there are `starts`.
// `Index` holds the number of all parts: dividing 64 bits takes as long as everything else.
template <typename T, int N, typename Index>
__device__ void place(const T* x, const T* cosine, const T* sine, const int64_t* ids,
                      const int64_t* starts, T* y, const CacheRows& r, int heads, Index i) {
  using Part = Vector<T, N>;
  const int half = cosine != nullptr ? r.half : 0;
  const int turns = half / N, units = turns + (r.size - 2 * half) / N;
  const int unit = static_cast<int>(i % units), head = static_cast<int>(i / units % heads);
  const Index of = i / units / heads, count = static_cast<Index>(r.count);
  const int64_t row = of, sample = of / count, number = of % count;
  const T* from = x + (row * heads + head) * r.size;
  T* to = y + (row * heads + head) * r.size;
  if (starts != nullptr) {
    const int64_t position = starts[sample] + number;
    if (position < 0 || position >= r.length) return;
    to = y + ((sample * heads + head) * r.length + position) * r.size;
  }
  if (unit >= turns) {
    const int at = 2 * half + (unit - turns) * N;
    *reinterpret_cast<Part*>(to + at) = *reinterpret_cast<const Part*>(from + at);
    return;
  }
  const int64_t id = ids[(r.id_items == 1 ? 0 : sample) * r.count + number];
  const int64_t angles = id >= 0 && id < r.positions ? id : -1;
  turn_part<T, N>(from, cosine, sine, angles, to, half, r.interleaved, unit);
}

template <typename T, int N, typename Index>
__device__ void cache_rows(const T* q, const T* k, const T* v, const T* cosine, const T* sine,
                           const int64_t* ids, const int64_t* starts, T* y, T* keys, T* values,
                           const CacheRows& r) {
  const int half = cosine != nullptr ? r.half : 0;
  const int64_t rows = r.batch * r.count;
  const int64_t turned = half / N + (r.size - 2 * half) / N;
  const int64_t of_queries = q == nullptr ? 0 : rows * r.q_heads * turned;
  const int64_t of_keys = rows * r.heads * turned, of_values = rows * r.heads * (r.size / N);
  const T* none = nullptr;
  for (int64_t i = thread_number(); i < of_queries + of_keys + of_values; i += thread_count()) {
    // One call for all three, so that a warp with rows of several goes through it once.
    const bool is_query = i < of_queries, is_key = !is_query && i < of_queries + of_keys;
    const int64_t before = is_query ? 0 : is_key ? of_queries : of_queries + of_keys;
    place<T, N, Index>(is_query ? q
                       : is_key ? k
                                : v,
                       is_query || is_key ? cosine : none, sine, ids, is_query ? nullptr : starts,
                       is_query ? y
                       : is_key ? keys
                                : values,
                       r, is_query ? r.q_heads : r.heads, static_cast<Index>(i - before));
  }
}

template <typename T, int N>
__device__ void cache_rows_of(const T* q, const T* k, const T* v, const T* cosine, const T* sine,
                              const int64_t* ids, const int64_t* starts, T* y, T* keys, T* values,
                              const CacheRows& r) {
  if (r.batch * r.count * (r.q_heads + 2 * r.heads) * r.size < int64_t{1} << 31) {
    cache_rows<T, N, uint32_t>(q, k, v, cosine, sine, ids, starts, y, keys, values, r);
  } else {
    cache_rows<T, N, int64_t>(q, k, v, cosine, sine, ids, starts, y, keys, values, r);
  }
}

#define ENTRY(name, T)                                                                        \
  extern "C" __global__ void cache_rows_##name(                                               \
      const T* q, const T* k, const T* v, const T* cosine, const T* sine, const int64_t* ids, \
      const int64_t* starts, T* y, T* keys, T* values, CacheRows r) {                         \
    wait_for_previous_kernels();                                                              \
    cache_rows_of<T, 1>(q, k, v, cosine, sine, ids, starts, y, keys, values, r);              \
  }                                                                                           \
  extern "C" __global__ void cache_rows_vectors_##name(                                       \
      const T* q, const T* k, const T* v, const T* cosine, const T* sine, const int64_t* ids, \
      const int64_t* starts, T* y, T* keys, T* values, CacheRows r) {                         \
    wait_for_previous_kernels();                                                              \
    cache_rows_of<T, 16 / sizeof(T)>(q, k, v, cosine, sine, ids, starts, y, keys, values, r); \
  }
FOR_FLOATS(ENTRY)
