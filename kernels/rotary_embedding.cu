// SPDX-License-Identifier: Apache-2.0
// RotaryEmbedding: pairs of elements of every head are turned by an angle that depends on the
// position. What is left of a head is copied.
#include "rotary.cuh"

struct Rotary {
  int64_t rows;  // of `size` elements, ordered (batch, head, position), or `flat`:
  int32_t flat;  // (batch, position, head)
  int32_t heads, length, size;
  int32_t half;  // pairs of a row
  int32_t interleaved;
  int32_t id_items;     // batch items that have position ids of their own, 1 when all share them
  int32_t cache_items;  // the same of the caches, when there are no ids
  int64_t positions;    // rows of the caches, when there are ids
};

// The row of the caches, or -1 for an id that has none. There are less than 2^32 rows.
__device__ inline int64_t cache_row(const Rotary& r, const int64_t* ids, uint32_t row) {
  const uint32_t heads = r.heads, length = r.length;
  const uint32_t position = (r.flat ? row / heads : row) % length, item = row / heads / length;
  if (ids == nullptr) {
    return static_cast<int64_t>(r.cache_items == 1 ? 0 : item) * length + position;
  }
  const int64_t id = ids[static_cast<int64_t>(r.id_items == 1 ? 0 : item) * length + position];
  return id >= 0 && id < r.positions ? id : -1;
}

// A thread turns N pairs, or copies N elements.
template <typename T, int N>
__device__ void rotate(const T* x, const T* cosine, const T* sine, const int64_t* ids, T* y,
                       const Rotary& r) {
  using Part = Vector<T, N>;
  const int turns = r.half / N, units = turns + (r.size - 2 * r.half) / N;
  const int64_t count = r.rows * units;
  for (int64_t i = thread_number(); i < count; i += thread_count()) {
    // A division of 64 bits takes many times as long.
    const uint32_t row = count <= 0xffffffffll
                             ? static_cast<uint32_t>(i) / static_cast<uint32_t>(units)
                             : static_cast<uint32_t>(i / units);
    const int unit = static_cast<int>(i - static_cast<int64_t>(row) * units);
    const int64_t start = static_cast<int64_t>(row) * r.size;
    if (unit >= turns) {
      const int64_t at = start + 2 * r.half + static_cast<int64_t>(unit - turns) * N;
      *reinterpret_cast<Part*>(y + at) = *reinterpret_cast<const Part*>(x + at);
      continue;
    }
    turn_part<T, N>(x + start, cosine, sine, cache_row(r, ids, row), y + start, r.half,
                    r.interleaved, unit);
  }
}

#define ENTRY(name, T)                                                                         \
  extern "C" __global__ void rotate_##name(const T* x, const T* cosine, const T* sine,         \
                                           const int64_t* ids, T* y, const Rotary r) {         \
    wait_for_previous_kernels();                                                               \
    rotate<T, 1>(x, cosine, sine, ids, y, r);                                                  \
  }                                                                                            \
  extern "C" __global__ void rotate_vectors_##name(const T* x, const T* cosine, const T* sine, \
                                                   const int64_t* ids, T* y, const Rotary r) { \
    wait_for_previous_kernels();                                                               \
    rotate<T, 16 / sizeof(T)>(x, cosine, sine, ids, y, r);                                     \
  }
FOR_FLOATS(ENTRY)
