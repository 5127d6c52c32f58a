// SPDX-License-Identifier: Apache-2.0
// Elements picked by indices and put to indices.
//
// Indices count from the end when they are negative. One that is out of range is taken as the
// nearest in range: nothing is read or written outside of a tensor.
#include "common.cuh"

constexpr int kMostAxes = 16;

__device__ inline int64_t in_range(int64_t index, int64_t size) {
  if (index < 0) index += size;
  return index < 0 ? 0 : index < size ? index : size - 1;
}

// Data is outer x size x inner elements, the result outer x picked x inner.
template <typename T, typename Index>
__device__ void gather(const T* x, const Index* indices, T* y, int64_t outer, int64_t size,
                       int64_t inner, int64_t picked) {
  const int64_t i = thread_number(), count = outer * picked * inner;
  if (i >= count) return;
  int64_t row, column, o, place;
  if (count <= INT32_MAX) {
    const uint32_t n = static_cast<uint32_t>(i), length = static_cast<uint32_t>(inner);
    const uint32_t r = n / length, p = static_cast<uint32_t>(picked);
    row = r;
    column = n - r * length;
    o = r / p;
    place = r % p;
  } else {
    row = i / inner;
    column = i % inner;
    o = row / picked;
    place = row % picked;
  }
  const int64_t index = in_range(static_cast<int64_t>(indices[place]), size);
  y[i] = x[(o * size + index) * inner + column];
}

// How indices name elements of data: by replacing one position (axis), or by tuples of `tuple`
// positions behind `skipped` axes in common.
struct Targets {
  int64_t count, rank, axis, tuple, skipped, per_batch, batch_step;
  int64_t sizes[kMostAxes], steps[kMostAxes], own[kMostAxes];
};

// offsets[i]: where index i of a tensor of shape `own` points in data.
template <typename Index>
__device__ void element_offsets(const Index* indices, int64_t* offsets, const Targets& t) {
  const int64_t i = thread_number();
  if (i >= t.count) return;
  int64_t rest = i;
  int64_t offset = in_range(static_cast<int64_t>(indices[i]), t.sizes[t.axis]) * t.steps[t.axis];
  for (int axis = static_cast<int>(t.rank) - 1; axis >= 0; --axis) {
    if (axis != t.axis) offset += rest % t.own[axis] * t.steps[axis];
    rest /= t.own[axis];
  }
  offsets[i] = offset;
}
extern "C" __global__ void element_offsets_int64(const int64_t* indices, int64_t* offsets,
                                                 Targets targets) {
  wait_for_previous_kernels();
  element_offsets(indices, offsets, targets);
}
extern "C" __global__ void element_offsets_int32(const int32_t* indices, int64_t* offsets,
                                                 Targets targets) {
  wait_for_previous_kernels();
  element_offsets(indices, offsets, targets);
}

extern "C" __global__ void tuple_offsets(const int64_t* indices, int64_t* offsets, Targets t) {
  wait_for_previous_kernels();
  const int64_t i = thread_number();
  if (i >= t.count) return;
  int64_t offset = i / t.per_batch * t.batch_step;
  for (int k = 0; k < static_cast<int>(t.tuple); ++k) {
    const int64_t axis = t.skipped + k;
    offset += in_range(indices[i * t.tuple + k], t.sizes[axis]) * t.steps[axis];
  }
  offsets[i] = offset;
}

// Slices of `inner` elements from offsets (which are given in units of `unit` elements) on.
template <typename T>
__device__ void gather_slices(const T* x, const int64_t* offsets, T* y, int64_t count,
                              int64_t inner, int64_t unit) {
  const int64_t i = thread_number();
  if (i >= count * inner) return;
  y[i] = x[offsets[i / inner] / unit + i % inner];
}

// Which update of a slice is the last one: winners[slice] starts as 0 and ends as its number + 1.
extern "C" __global__ void find_winners(const int64_t* offsets, int32_t* winners, int64_t count,
                                        int64_t inner) {
  wait_for_previous_kernels();
  const int64_t i = thread_number();
  if (i < count) atomicMax(&winners[offsets[i] / inner], static_cast<int32_t>(i + 1));
}

template <typename T>
__device__ void scatter_slices(const T* updates, const int64_t* offsets, const int32_t* winners,
                               T* y, int64_t count, int64_t inner) {
  const int64_t n = thread_number();
  if (n >= count * inner) return;
  const int64_t i = n / inner;
  if (winners[offsets[i] / inner] == i + 1) y[offsets[i] + n % inner] = updates[n];
}

// Updates in order of where they go, equal ones in their own order. `index` is their number.
struct Entry {
  uint64_t key;
  int64_t index;
};

extern "C" __global__ void scatter_entries(const int64_t* offsets, Entry* entries, int64_t count,
                                           int64_t padded) {
  wait_for_previous_kernels();
  const int64_t i = thread_number();
  if (i >= padded) return;
  const bool real = i < count;
  entries[i].key = real ? static_cast<uint64_t>(offsets[i]) : UINT64_MAX;
  entries[i].index = real ? i : INT64_MAX;
}

template <typename T>
struct Plus {
  __device__ static T join(T a, T b) { return a + b; }
};
template <typename T>
struct Times {
  __device__ static T join(T a, T b) { return a * b; }
};
// Integers wrap around.
#define WRAPPING(T)                                                               \
  template <>                                                                     \
  struct Plus<T> {                                                                \
    __device__ static T join(T a, T b) {                                          \
      return static_cast<T>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b)); \
    }                                                                             \
  };                                                                              \
  template <>                                                                     \
  struct Times<T> {                                                               \
    __device__ static T join(T a, T b) {                                          \
      return static_cast<T>(static_cast<uint64_t>(a) * static_cast<uint64_t>(b)); \
    }                                                                             \
  };
WRAPPING(int8_t)
WRAPPING(int16_t)
WRAPPING(int32_t)
WRAPPING(int64_t)
template <>
struct Plus<bool> {
  __device__ static bool join(bool a, bool b) { return a || b; }
};
template <>
struct Times<bool> {
  __device__ static bool join(bool a, bool b) { return a && b; }
};
template <typename T>
struct Upper {
  __device__ static T join(T a, T b) { return a > b || a != a ? a : b; }
};
template <typename T>
struct Lower {
  __device__ static T join(T a, T b) { return a < b || a != a ? a : b; }
};

// One thread for each element that is changed walks along the updates of it: sums have the order of
// the updates, and are rounded once.
template <typename Join, typename T>
__device__ void scatter_joined(const T* updates, const Entry* entries, T* y, int64_t count,
                               int64_t inner) {
  const int64_t n = thread_number();
  if (n >= count * inner) return;
  int64_t i = n / inner;
  const int64_t column = n % inner;
  const uint64_t key = entries[i].key;
  if (i > 0 && entries[i - 1].key == key) return;
  wide_t<T> value = widen(y[key + column]);
  for (; i < count && entries[i].key == key; ++i) {
    value = Join::join(value, widen(updates[entries[i].index * inner + column]));
  }
  y[key + column] = narrow<T>(value);
}

// on where the index of an element is its position along the axis of size `depth`.
template <typename Index>
__device__ int64_t hot_place(Index index, int64_t depth) {
  int64_t place = static_cast<int64_t>(index);
  if (index > 0 && place < 0) return -1;  // a large unsigned number
  return place < 0 ? place + depth : place;
}
__device__ inline int64_t hot_place_of_float(double index, int64_t depth) {
  if (!(index < 4611686018427387904.0 && index > -4611686018427387904.0)) return -1;
  const int64_t place = static_cast<int64_t>(index);
  return place < 0 ? place + depth : place;
}
__device__ inline int64_t hot_place(float index, int64_t depth) {
  return hot_place_of_float(index, depth);
}
__device__ inline int64_t hot_place(double index, int64_t depth) {
  return hot_place_of_float(index, depth);
}

template <typename Index>
__device__ void hot_places(const Index* indices, int64_t* places, int64_t count, int64_t depth) {
  const int64_t i = thread_number();
  if (i < count) places[i] = hot_place(widen(indices[i]), depth);
}

// `values` are what is off and on.
template <typename T>
__device__ void one_hot(const int64_t* places, const T* values, T* y, int64_t outer, int64_t depth,
                        int64_t inner) {
  const int64_t i = thread_number();
  if (i >= outer * depth * inner) return;
  const int64_t row = i / inner;
  const bool on = places[row / depth * inner + i % inner] == row % depth;
  y[i] = values[on ? 1 : 0];
}

#define GATHER(width, T, name, Index)                                                            \
  extern "C" __global__ void gather_##width##_##name(const T* x, const Index* indices, T* y,     \
                                                     int64_t outer, int64_t size, int64_t inner, \
                                                     int64_t picked) {                           \
    wait_for_previous_kernels();                                                                 \
    gather(x, indices, y, outer, size, inner, picked);                                           \
  }
#define KERNELS(width, T)                                                                        \
  GATHER(width, T, int32, int32_t)                                                               \
  GATHER(width, T, int64, int64_t)                                                               \
  extern "C" __global__ void gather_slices_##width(const T* x, const int64_t* offsets, T* y,     \
                                                   int64_t count, int64_t inner, int64_t unit) { \
    wait_for_previous_kernels();                                                                 \
    gather_slices(x, offsets, y, count, inner, unit);                                            \
  }                                                                                              \
  extern "C" __global__ void scatter_slices_##width(const T* updates, const int64_t* offsets,    \
                                                    const int32_t* winners, T* y, int64_t count, \
                                                    int64_t inner) {                             \
    wait_for_previous_kernels();                                                                 \
    scatter_slices(updates, offsets, winners, y, count, inner);                                  \
  }                                                                                              \
  extern "C" __global__ void one_hot_##width(const int64_t* places, const T* values, T* y,       \
                                             int64_t outer, int64_t depth, int64_t inner) {      \
    wait_for_previous_kernels();                                                                 \
    one_hot(places, values, y, outer, depth, inner);                                             \
  }
FOR_WIDTHS(KERNELS)

#define JOINED(join, Join, name, T)                                                                \
  extern "C" __global__ void scatter_##join##_##name(const T* updates, const Entry* entries, T* y, \
                                                     int64_t count, int64_t inner) {               \
    wait_for_previous_kernels();                                                                   \
    scatter_joined<Join<wide_t<T>>>(updates, entries, y, count, inner);                            \
  }
#define ALL_JOINED(name, T)   \
  JOINED(add, Plus, name, T)  \
  JOINED(mul, Times, name, T) \
  JOINED(max, Upper, name, T) \
  JOINED(min, Lower, name, T)
FOR_NUMBERS(ALL_JOINED)
ALL_JOINED(bool, bool)

#define PLACES(name, T)                                                                          \
  extern "C" __global__ void hot_places_##name(const T* indices, int64_t* places, int64_t count, \
                                               int64_t depth) {                                  \
    wait_for_previous_kernels();                                                                 \
    hot_places(indices, places, count, depth);                                                   \
  }
FOR_NUMBERS(PLACES)
