// SPDX-License-Identifier: Apache-2.0
// Sorting, and what follows from it: the best elements, boxes that do not overlap; and the places
// of elements that are not zero.
//
// What is sorted are entries, each a number whose unsigned order is that of the values and the
// position of the element: no two are equal, so any way of sorting is stable. Rows have a power of
// two of entries; those that fill them up come last.
#include "common.cuh"

struct Entry {
  uint64_t key;
  int64_t index;
};
constexpr int kChunk = 1024;  // entries that a block of half as many threads sorts
constexpr int kThreads = kChunk / 2;

__device__ inline bool comes_after(const Entry& a, const Entry& b) {
  return a.key > b.key || (a.key == b.key && a.index > b.index);
}

__device__ inline void put_in_order(Entry& a, Entry& b, bool rising) {
  if (comes_after(a, b) == rising) {
    const Entry kept = a;
    a = b;
    b = kept;
  }
}

// Steps of a bitonic sort of the chunk that starts at entry `first` of its row, in shared memory:
// from runs of `size` on, with neighbours `step` apart at first.
__device__ inline void sort_shared(Entry* chunk, int64_t first, int64_t size, int64_t last,
                                   int step) {
  for (; size <= last; size *= 2) {
    for (; step > 0; step /= 2) {
      __syncthreads();
      const int i =
          2 * static_cast<int>(threadIdx.x) - (static_cast<int>(threadIdx.x) & (step - 1));
      put_in_order(chunk[i], chunk[i + step], ((first + i) & size) == 0);
    }
    step = size < kChunk ? static_cast<int>(size) : kChunk / 2;
  }
  __syncthreads();
}

// Chunks sorted, rising and falling in turn. A row is `row` entries.
extern "C" __global__ void sort_chunks(Entry* entries, int64_t row) {
  __shared__ Entry chunk[kChunk];
  entries += static_cast<int64_t>(blockIdx.x) * kChunk;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kChunk % row;
  for (int i = threadIdx.x; i < kChunk; i += kThreads) chunk[i] = entries[i];
  sort_shared(chunk, first, 2, kChunk, 1);
  for (int i = threadIdx.x; i < kChunk; i += kThreads) entries[i] = chunk[i];
}

// One step between entries that are `step` >= a chunk apart, for runs of `size`.
extern "C" __global__ void merge_step(Entry* entries, int64_t pairs, int64_t row, int64_t size,
                                      int64_t step) {
  const int64_t n = thread_number();
  if (n >= pairs) return;
  const int64_t i = 2 * n - (n & (step - 1));
  put_in_order(entries[i], entries[i + step], ((i & (row - 1)) & size) == 0);
}

// The steps of less than a chunk, for runs of `size`.
extern "C" __global__ void merge_chunks(Entry* entries, int64_t row, int64_t size) {
  __shared__ Entry chunk[kChunk];
  entries += static_cast<int64_t>(blockIdx.x) * kChunk;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kChunk % row;
  for (int i = threadIdx.x; i < kChunk; i += kThreads) chunk[i] = entries[i];
  sort_shared(chunk, first, size, size, kChunk / 2);
  for (int i = threadIdx.x; i < kChunk; i += kThreads) entries[i] = chunk[i];
}

// The first k of each chunk of a row of n entries, in order: one block for each of `chunks` chunks.
extern "C" __global__ void best_of_chunks(const Entry* entries, Entry* best, int64_t n,
                                          int64_t chunks, int64_t k) {
  __shared__ Entry chunk[kChunk];
  const int64_t block = blockIdx.x, row = block / chunks, first = block % chunks * kChunk;
  for (int i = threadIdx.x; i < kChunk; i += kThreads) {
    const bool real = first + i < n;
    chunk[i].key = real ? entries[row * n + first + i].key : UINT64_MAX;
    chunk[i].index = real ? entries[row * n + first + i].index : INT64_MAX;
  }
  sort_shared(chunk, 0, 2, kChunk, 1);
  for (int i = threadIdx.x; i < static_cast<int>(k); i += kThreads) best[block * k + i] = chunk[i];
}

// Numbers in the order of the values. NaN is the largest, and both zeros are one.
__device__ inline uint64_t order_key(double value) {
  if (value != value) return UINT64_MAX;
  const int64_t bits = __double_as_longlong(value == 0 ? 0.0 : value);
  return bits < 0 ? ~static_cast<uint64_t>(bits) : static_cast<uint64_t>(bits) | (1ull << 63);
}
__device__ inline uint64_t order_key(float value) { return order_key(static_cast<double>(value)); }
template <typename T>
__device__ inline uint64_t order_key(T value) {
  constexpr bool is_signed = static_cast<T>(-1) < static_cast<T>(1);
  return static_cast<uint64_t>(static_cast<int64_t>(value)) ^ (is_signed ? 1ull << 63 : 0);
}

// Entries of rows of n elements, which are `inner` apart, in rows of `padded`.
template <typename T>
__device__ void make_entries(const T* x, Entry* entries, int64_t rows, int64_t n, int64_t inner,
                             int64_t padded, int32_t largest) {
  const int64_t number = thread_number();
  if (number >= rows * padded) return;
  const int64_t row = number / padded, i = number % padded;
  Entry entry = {UINT64_MAX, INT64_MAX};
  if (i < n) {
    const uint64_t key = order_key(widen(x[(row / inner * n + i) * inner + row % inner]));
    entry.key = largest ? ~key : key;
    entry.index = i;
  }
  entries[number] = entry;
}

// The first k elements of each row of `padded` entries.
template <typename T>
__device__ void take_entries(const T* x, const Entry* entries, T* values, int64_t* indices,
                             int64_t rows, int64_t n, int64_t inner, int64_t padded, int64_t k) {
  const int64_t number = thread_number();
  if (number >= rows * k) return;
  const int64_t row = number / k, i = number % k, outer = row / inner, column = row % inner;
  const int64_t index = entries[row * padded + i].index;
  const int64_t place = (outer * k + i) * inner + column;
  if (values != nullptr) values[place] = x[(outer * n + index) * inner + column];
  if (indices != nullptr) indices[place] = index;
}

// --- boxes that do not overlap

// Entries of the boxes of each class by falling score; those of too low a score come last.
extern "C" __global__ void make_candidates(const float* scores, Entry* entries, int64_t rows,
                                           int64_t n, int64_t padded, float least, int32_t every) {
  const int64_t number = thread_number();
  if (number >= rows * padded) return;
  const int64_t row = number / padded, i = number % padded;
  Entry entry = {UINT64_MAX, INT64_MAX};
  if (i < n) {
    const float score = scores[row * n + i];
    // A NaN is no score.
    if (score > least || (every && score == score)) {
      entry.key = ~order_key(score);
      entry.index = i;
    }
  }
  entries[number] = entry;
}

struct Box {
  float y1, x1, y2, x2;
};

__device__ inline Box read_box(const float* p, bool center) {
  if (center) {
    const float w = p[2] / 2, h = p[3] / 2;
    return {p[1] - h, p[0] - w, p[1] + h, p[0] + w};
  }
  return {fminf(p[0], p[2]), fminf(p[1], p[3]), fmaxf(p[0], p[2]), fmaxf(p[1], p[3])};
}

// Products are rounded before they are added: the CPU provider draws the same line.
__device__ inline float area(const Box& box) { return __fmul_rn(box.y2 - box.y1, box.x2 - box.x1); }

__device__ inline float overlap(const Box& a, const Box& b) {
  const float h = fminf(a.y2, b.y2) - fmaxf(a.y1, b.y1);
  const float w = fminf(a.x2, b.x2) - fmaxf(a.x1, b.x1);
  if (!(h > 0 && w > 0)) return 0;
  const float both = __fmul_rn(h, w);
  const float all = area(a) + area(b) - both;
  return all > 0 ? both / all : 0;
}

// One block for each class of each batch goes through its boxes from the best on. Those that no box
// chosen before overlaps go to chosen[class * most ...], and their number to counts.
extern "C" __global__ void choose_boxes(const float* boxes, const Entry* entries, int64_t* chosen,
                                        int64_t* counts, int64_t n, int64_t padded, int64_t classes,
                                        int64_t most, float limit, int32_t center) {
  const int64_t row = blockIdx.x;
  boxes += row / classes * n * 4;
  entries += row * padded;
  chosen += row * most;
  int64_t count = 0;
  for (int64_t i = 0; i < n && count < most && entries[i].index != INT64_MAX; ++i) {
    const int64_t index = entries[i].index;
    const Box box = read_box(boxes + index * 4, center);
    bool hidden = false;
    for (int64_t k = threadIdx.x; k < count && !hidden; k += blockDim.x) {
      hidden = overlap(box, read_box(boxes + chosen[k] * 4, center)) > limit;
    }
    if (__syncthreads_or(hidden)) continue;
    if (threadIdx.x == 0) chosen[count] = index;
    ++count;
    __syncthreads();
  }
  if (threadIdx.x == 0) counts[row] = count;
}

// Rows of (batch, class, box), from where the sums of counts say.
extern "C" __global__ void write_boxes(const int64_t* chosen, const int64_t* counts, int64_t* y,
                                       int64_t rows, int64_t classes, int64_t most) {
  const int64_t number = thread_number();
  if (number >= rows * most) return;
  const int64_t row = number / most, i = number % most, place = counts[row] + i;
  if (place >= counts[row + 1]) return;
  y[place * 3] = row / classes;
  y[place * 3 + 1] = row % classes;
  y[place * 3 + 2] = chosen[number];
}

// --- the places of what is not zero, in order: counts of blocks, their sums, then the places

constexpr int kTested = 1024;  // elements that a block of 256 threads tests

template <typename T>
__device__ inline int count_set(const T* x, int64_t first, int64_t n) {
  int count = 0;
  for (int64_t i = first; i < first + 4 && i < n; ++i) count += widen(x[i]) != 0;
  return count;
}

template <typename T>
__device__ void count_nonzero(const T* x, int64_t* counts, int64_t n) {
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kTested + threadIdx.x * 4;
  const int count = block_reduce(count_set(x, first, n), 0, Sum());
  if (threadIdx.x == 0) counts[blockIdx.x] = count;
}

// Each count becomes the sum of those before it; counts[n] the sum of all. One block of 256.
extern "C" __global__ void sum_counts(int64_t* counts, int64_t n) {
  __shared__ int64_t sums[256];
  const int64_t share = (n + 255) / 256, first = threadIdx.x * share;
  const int64_t end = first + share < n ? first + share : n;
  int64_t sum = 0;
  for (int64_t i = first; i < end; ++i) sum += counts[i];
  sums[threadIdx.x] = sum;
  __syncthreads();
  sum = 0;
  for (int i = 0; i < static_cast<int>(threadIdx.x); ++i) sum += sums[i];
  for (int64_t i = first; i < end; ++i) {
    const int64_t count = counts[i];
    counts[i] = sum;
    sum += count;
  }
  if (threadIdx.x == 255) counts[n] = sum;
}

template <typename T>
__device__ void write_nonzero(const T* x, const int64_t* counts, int64_t* places, int64_t n) {
  __shared__ int sums[256];
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kTested + threadIdx.x * 4;
  sums[threadIdx.x] = count_set(x, first, n);
  __syncthreads();
  for (int step = 1; step < 256; step *= 2) {
    const int before = static_cast<int>(threadIdx.x) >= step ? sums[threadIdx.x - step] : 0;
    __syncthreads();
    sums[threadIdx.x] += before;
    __syncthreads();
  }
  int64_t place = counts[blockIdx.x] + (threadIdx.x > 0 ? sums[threadIdx.x - 1] : 0);
  for (int64_t i = first; i < first + 4 && i < n; ++i) {
    if (widen(x[i]) != 0) places[place++] = i;
  }
}

// The index along one axis, of size `size` and step `step`, of each place.
extern "C" __global__ void split_places(const int64_t* places, int64_t* y, int64_t count,
                                        int64_t step, int64_t size) {
  const int64_t i = thread_number();
  if (i < count) y[i] = places[i] / step % size;
}

#define ORDERED(name, T)                                                                   \
  extern "C" __global__ void make_entries_##name(const T* x, Entry* entries, int64_t rows, \
                                                 int64_t n, int64_t inner, int64_t padded, \
                                                 int32_t largest) {                        \
    make_entries(x, entries, rows, n, inner, padded, largest);                             \
  }
FOR_NUMBERS(ORDERED)
ORDERED(bool, bool)

#define TESTED(name, T)                                                                     \
  extern "C" __global__ void count_nonzero_##name(const T* x, int64_t* counts, int64_t n) { \
    count_nonzero(x, counts, n);                                                            \
  }                                                                                         \
  extern "C" __global__ void write_nonzero_##name(const T* x, const int64_t* counts,        \
                                                  int64_t* places, int64_t n) {             \
    write_nonzero(x, counts, places, n);                                                    \
  }
FOR_NUMBERS(TESTED)
TESTED(bool, bool)

#define TAKEN(width, T)                                                                        \
  extern "C" __global__ void take_entries_##width(const T* x, const Entry* entries, T* values, \
                                                  int64_t* indices, int64_t rows, int64_t n,   \
                                                  int64_t inner, int64_t padded, int64_t k) {  \
    take_entries(x, entries, values, indices, rows, n, inner, padded, k);                      \
  }
FOR_WIDTHS(TAKEN)
