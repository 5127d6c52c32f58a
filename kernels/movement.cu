// SPDX-License-Identifier: Apache-2.0
// Elements moved: strided copies, transposes in tiles, several tensors side by side, padding.
//
// Only the width of an element matters. Where rows are long, callers hand them over as elements of
// up to 16 bytes.
#include "common.cuh"

constexpr int kMostAxes = 16;

// Element i of `count`, numbered in C order of `sizes`, goes from x[index . from] to y[index . to].
struct Copy {
  int64_t count, rank;
  int64_t sizes[kMostAxes], from[kMostAxes], to[kMostAxes];
};

template <typename I>
__device__ inline void locate(const Copy& copy, int64_t number, int64_t* from, int64_t* to) {
  I rest = static_cast<I>(number);
  for (int axis = static_cast<int>(copy.rank) - 1; axis > 0; --axis) {
    const I size = static_cast<I>(copy.sizes[axis]), next = rest / size;
    const int64_t index = static_cast<int64_t>(rest - next * size);
    *from += index * copy.from[axis];
    *to += index * copy.to[axis];
    rest = next;
  }
  if (copy.rank > 0) {
    *from += static_cast<int64_t>(rest) * copy.from[0];
    *to += static_cast<int64_t>(rest) * copy.to[0];
  }
}

// Divisions of 32 bits are several times as fast.
__device__ inline void locate(const Copy& copy, int64_t number, int64_t* from, int64_t* to) {
  if (copy.count <= INT32_MAX) {
    locate<uint32_t>(copy, number, from, to);
  } else {
    locate<int64_t>(copy, number, from, to);
  }
}

template <typename T>
__device__ void strided_copy(const T* x, T* y, const Copy& copy, int64_t from, int64_t to) {
  const int64_t i = thread_number();
  if (i >= copy.count) return;
  locate(copy, i, &from, &to);
  y[to] = x[from];
}

// Matrices in which x[row * from_row + column] goes to y[column * to_column + row]; `outer` numbers
// the matrices. A block of 32 x 8 threads moves one tile, both sides in whole lines of memory.
struct Tiles {
  int64_t rows, columns, from_row, to_column, down, across;
  Copy outer;
};

// Rows of a tile are `pitch` elements apart, so that a column lies in different banks.
template <typename T, int side, int pitch>
__device__ void transpose_tiles(const T* x, T* y, const Tiles& tiles, int64_t from, int64_t to) {
  __shared__ T tile[side * pitch];
  const int64_t block = blockIdx.x, matrix = block / (tiles.down * tiles.across);
  const int64_t place = block - matrix * tiles.down * tiles.across;
  const int64_t top = place / tiles.across * side, left = place % tiles.across * side;
  locate(tiles.outer, matrix, &from, &to);
  for (int i = threadIdx.y; i < side; i += 8) {
    for (int j = threadIdx.x; j < side; j += 32) {
      if (top + i < tiles.rows && left + j < tiles.columns) {
        tile[i * pitch + j] = x[from + (top + i) * tiles.from_row + left + j];
      }
    }
  }
  __syncthreads();
  for (int i = threadIdx.y; i < side; i += 8) {
    for (int j = threadIdx.x; j < side; j += 32) {
      if (top + j < tiles.rows && left + i < tiles.columns) {
        y[to + (left + i) * tiles.to_column + top + j] = tile[j * pitch + i];
      }
    }
  }
}

// Up to four tensors that lie side by side in rows of a wide one: part p is `ends[p] - ends[p - 1]`
// long in each of the rows, the first one starting at `first`. `width` is the sum of the parts.
struct SideBySide {
  int64_t rows, row, first, width;
  int64_t ends[4];
};

struct Place {
  int part;
  int64_t narrow, wide;
};

__device__ inline Place find_place(const SideBySide& s, int64_t number) {
  int64_t row, column;
  if (s.rows * s.width <= INT32_MAX) {
    const uint32_t i = static_cast<uint32_t>(number), width = static_cast<uint32_t>(s.width);
    row = i / width;
    column = i % width;
  } else {
    row = number / s.width;
    column = number % s.width;
  }
  const int part = (column >= s.ends[0]) + (column >= s.ends[1]) + (column >= s.ends[2]);
  const int64_t start = part == 0 ? 0 : part == 1 ? s.ends[0] : part == 2 ? s.ends[1] : s.ends[2];
  const int64_t end = part == 0   ? s.ends[0]
                      : part == 1 ? s.ends[1]
                      : part == 2 ? s.ends[2]
                                  : s.ends[3];
  return {part, row * (end - start) + column - start, row * s.row + s.first + column};
}

template <typename T>
__device__ void join_parts(const T* a, const T* b, const T* c, const T* d, T* y,
                           const SideBySide& s) {
  const int64_t i = thread_number();
  if (i >= s.rows * s.width) return;
  const Place place = find_place(s, i);
  const T* part = place.part == 0 ? a : place.part == 1 ? b : place.part == 2 ? c : d;
  y[place.wide] = part[place.narrow];
}

template <typename T>
__device__ void take_parts(const T* x, T* a, T* b, T* c, T* d, const SideBySide& s) {
  const int64_t i = thread_number();
  if (i >= s.rows * s.width) return;
  const Place place = find_place(s, i);
  T* part = place.part == 0 ? a : place.part == 1 ? b : place.part == 2 ? c : d;
  if (part != nullptr) part[place.narrow] = x[place.wide];
}

// Padding. Along each axis the `kept` elements from `first` on stand behind `before` new ones.
struct Padding {
  int64_t count, rank, mode;
  int64_t shape[kMostAxes], before[kMostAxes], kept[kMostAxes], first[kMostAxes];
  int64_t strides[kMostAxes];
};
enum PadMode { kConstant, kReflect, kEdge, kWrap };

__device__ inline int64_t modulo(int64_t a, int64_t b) { return (a % b + b) % b; }

// The index of [0, size) that stands at `i`, which may lie outside.
__device__ inline int64_t source_index(int64_t mode, int64_t i, int64_t size) {
  if (mode == kEdge) return i < 0 ? 0 : i < size ? i : size - 1;
  if (mode == kWrap) return modulo(i, size);
  if (size == 1) return 0;
  const int64_t place = modulo(i, 2 * (size - 1));
  return place < size ? place : 2 * (size - 1) - place;
}

template <typename T>
__device__ void pad(const T* x, const T* value, T* y, const Padding& p) {
  const int64_t number = thread_number();
  if (number >= p.count) return;
  int64_t rest = number, from = 0;
  bool inside = true;
  for (int axis = static_cast<int>(p.rank) - 1; axis >= 0; --axis) {
    int64_t i = rest % p.shape[axis] - p.before[axis];
    rest /= p.shape[axis];
    if (i < 0 || i >= p.kept[axis]) {
      if (p.mode == kConstant) {
        inside = false;
        break;
      }
      i = source_index(p.mode, i, p.kept[axis]);
    }
    from += (p.first[axis] + i) * p.strides[axis];
  }
  y[number] = inside ? x[from] : value != nullptr ? *value : T{};
}

// Of matrices of rows x columns, what is on one side of a diagonal.
template <typename T>
__device__ void trilu(const T* x, T* y, int64_t count, int64_t rows, int64_t columns, int64_t k,
                      int32_t upper) {
  const int64_t i = thread_number();
  if (i >= count) return;
  const int64_t ahead = i % columns - i / columns % rows;
  y[i] = (upper ? ahead >= k : ahead <= k) ? x[i] : T{};
}

// The first lengths[sample] of `times` rows in reverse order. An outer and an inner number, one of
// which is the time and one the sample, stand for a row of `inner` elements.
template <typename T>
__device__ void reverse_sequence(const T* x, const int64_t* lengths, T* y, int64_t outer,
                                 int64_t middle, int64_t inner, int32_t time_first) {
  const int64_t i = thread_number();
  if (i >= outer * middle * inner) return;
  const int64_t column = i % inner, m = i / inner % middle, o = i / inner / middle;
  const int64_t time = time_first ? o : m, times = time_first ? outer : middle;
  int64_t length = lengths[time_first ? m : o];
  if (length > times) length = times;
  const int64_t source = time < length ? length - 1 - time : time;
  y[i] = x[(time_first ? source * middle + m : o * middle + source) * inner + column];
}

// A cache of [batch, outer, before, inner], made `length` long with zeros, where `rows` stand from
// starts[batch] on (from 0 on without starts). Steps are those of rows, in elements.
struct Rows {
  int64_t batch, outer, before, length, inner, count;
  int64_t batch_step, outer_step, row_step;
};

template <typename T>
__device__ void write_rows(const T* cache, const T* rows, const int64_t* starts, T* y,
                           const Rows& r, int32_t circular) {
  const int64_t i = thread_number();
  if (i >= r.batch * r.outer * r.length * r.inner) return;
  int64_t column, position, o;
  if (r.batch * r.outer * r.length * r.inner <= INT32_MAX) {
    const uint32_t n = static_cast<uint32_t>(i), inner = static_cast<uint32_t>(r.inner);
    const uint32_t row = n / inner, length = static_cast<uint32_t>(r.length);
    column = n % inner;
    position = row % length;
    o = row / length;
  } else {
    column = i % r.inner;
    position = i / r.inner % r.length;
    o = i / r.inner / r.length;
  }
  const int64_t b = o / r.outer;
  int64_t ahead = position - (starts != nullptr ? starts[b] : 0);
  if (circular) ahead = modulo(ahead, r.length);
  if (ahead >= 0 && ahead < r.count) {
    y[i] = rows[b * r.batch_step + o % r.outer * r.outer_step + ahead * r.row_step + column];
  } else {
    y[i] = position < r.before ? cache[(o * r.before + position) * r.inner + column] : T{};
  }
}

// The same where y holds the cache already. A thread has an element of rows, ordered as in y.
template <typename T>
__device__ void place_rows(const T* rows, const int64_t* starts, T* y, const Rows& r,
                           int32_t circular) {
  const int64_t i = thread_number();
  if (i >= r.batch * r.outer * r.count * r.inner) return;
  const int64_t column = i % r.inner, number = i / r.inner % r.count, o = i / r.inner / r.count;
  const int64_t b = o / r.outer;
  int64_t position = number + (starts != nullptr ? starts[b] : 0);
  if (circular) position = modulo(position, r.length);
  if (position < 0 || position >= r.length) return;
  y[(o * r.length + position) * r.inner + column] =
      rows[b * r.batch_step + o % r.outer * r.outer_step + number * r.row_step + column];
}

#define KERNELS(width, T)                                                                         \
  extern "C" __global__ void strided_copy_##width(const T* x, T* y, Copy copy, int64_t from,      \
                                                  int64_t to) {                                   \
    wait_for_previous_kernels();                                                                  \
    strided_copy(x, y, copy, from, to);                                                           \
  }                                                                                               \
  extern "C" __global__ void transpose_tiles_##width(const T* x, T* y, Tiles tiles, int64_t from, \
                                                     int64_t to) {                                \
    wait_for_previous_kernels();                                                                  \
    transpose_tiles < T, width<4 ? 64 : 32, width == 1   ? 68                                     \
                                            : width == 2 ? 66                                     \
                                                         : 33>(x, y, tiles, from, to);            \
  }                                                                                               \
  extern "C" __global__ void join_parts_##width(const T* a, const T* b, const T* c, const T* d,   \
                                                T* y, SideBySide s) {                             \
    wait_for_previous_kernels();                                                                  \
    join_parts(a, b, c, d, y, s);                                                                 \
  }                                                                                               \
  extern "C" __global__ void take_parts_##width(const T* x, T* a, T* b, T* c, T* d,               \
                                                SideBySide s) {                                   \
    wait_for_previous_kernels();                                                                  \
    take_parts(x, a, b, c, d, s);                                                                 \
  }                                                                                               \
  extern "C" __global__ void pad_##width(const T* x, const T* value, T* y, Padding padding) {     \
    wait_for_previous_kernels();                                                                  \
    pad(x, value, y, padding);                                                                    \
  }                                                                                               \
  extern "C" __global__ void trilu_##width(const T* x, T* y, int64_t count, int64_t rows,         \
                                           int64_t columns, int64_t k, int32_t upper) {           \
    wait_for_previous_kernels();                                                                  \
    trilu(x, y, count, rows, columns, k, upper);                                                  \
  }                                                                                               \
  extern "C" __global__ void reverse_sequence_##width(const T* x, const int64_t* lengths, T* y,   \
                                                      int64_t outer, int64_t middle,              \
                                                      int64_t inner, int32_t time_first) {        \
    wait_for_previous_kernels();                                                                  \
    reverse_sequence(x, lengths, y, outer, middle, inner, time_first);                            \
  }                                                                                               \
  extern "C" __global__ void write_rows_##width(                                                  \
      const T* cache, const T* rows, const int64_t* starts, T* y, Rows r, int32_t circular) {     \
    wait_for_previous_kernels();                                                                  \
    write_rows(cache, rows, starts, y, r, circular);                                              \
  }                                                                                               \
  extern "C" __global__ void place_rows_##width(const T* rows, const int64_t* starts, T* y,       \
                                                Rows r, int32_t circular) {                       \
    wait_for_previous_kernels();                                                                  \
    place_rows(rows, starts, y, r, circular);                                                     \
  }
FOR_WIDTHS(KERNELS)
