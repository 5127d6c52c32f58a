// SPDX-License-Identifier: Apache-2.0
// RotaryEmbedding: pairs of elements of every head are turned by an angle that depends on the
// position. A pair is (i, i + half) or, interleaved, (2i, 2i + 1). What is left of a head is
// copied.
#include "common.cuh"

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

template <typename T, int N>
struct alignas(sizeof(T) * N) Vector {
  T at[N];
};

template <typename T>
__device__ inline T not_a_number() {
  return narrow<T>(static_cast<wide_t<T>>(__int_as_float(0x7fc00000)));
}

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

template <typename T>
__device__ inline void turn(T& first, T& second, T cosine, T sine) {
  using W = wide_t<T>;
  const W x = widen(first), y = widen(second), c = widen(cosine), s = widen(sine);
  first = narrow<T>(c * x - s * y);
  second = narrow<T>(s * x + c * y);
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
    const int64_t angles = cache_row(r, ids, row);
    Part c, s;
    if (angles >= 0) {
      c = *reinterpret_cast<const Part*>(cosine + angles * r.half + unit * N);
      s = *reinterpret_cast<const Part*>(sine + angles * r.half + unit * N);
    } else {
      for (int j = 0; j < N; ++j) c.at[j] = s.at[j] = not_a_number<T>();
    }
    const int64_t low = start + (r.interleaved ? 2 : 1) * static_cast<int64_t>(unit) * N;
    const int64_t high = low + (r.interleaved ? N : r.half);
    Part pair[2] = {*reinterpret_cast<const Part*>(x + low),
                    *reinterpret_cast<const Part*>(x + high)};
    if (r.interleaved) {
      // Pairs are neighbours in both vectors together.
#pragma unroll
      for (int j = 0; j < N; ++j) {
        turn(pair[2 * j / N].at[2 * j % N], pair[(2 * j + 1) / N].at[(2 * j + 1) % N], c.at[j],
             s.at[j]);
      }
    } else {
#pragma unroll
      for (int j = 0; j < N; ++j) turn(pair[0].at[j], pair[1].at[j], c.at[j], s.at[j]);
    }
    *reinterpret_cast<Part*>(y + low) = pair[0];
    *reinterpret_cast<Part*>(y + high) = pair[1];
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
