// SPDX-License-Identifier: Apache-2.0
// Random numbers from a counter: Philox 4x32-10 (Salmon et al., "Parallel Random Numbers: As Easy
// as 1, 2, 3", 2011). Number i of a run depends on the key, the run and i only. The number of the
// run lies in device memory and a kernel advances it, so that a replayed graph draws new numbers.
#include "operators.cuh"

struct RandomBlock {
  uint32_t words[4];
};

__device__ inline RandomBlock random_block(uint64_t key, uint64_t run, uint64_t index) {
  uint32_t c0 = static_cast<uint32_t>(index), c1 = static_cast<uint32_t>(index >> 32);
  uint32_t c2 = static_cast<uint32_t>(run), c3 = static_cast<uint32_t>(run >> 32);
  uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xd2511f53u} * c0;
    const uint64_t b = uint64_t{0xcd9e8d57u} * c2;
    c0 = static_cast<uint32_t>(b >> 32) ^ c1 ^ k0;
    c1 = static_cast<uint32_t>(b);
    c2 = static_cast<uint32_t>(a >> 32) ^ c3 ^ k1;
    c3 = static_cast<uint32_t>(a);
    k0 += 0x9e3779b9u;
    k1 += 0xbb67ae85u;
  }
  return {{c0, c1, c2, c3}};
}

// Number i of a run in [0, 1): 24 bits of a float, 53 of a double.
template <typename W>
__device__ inline W uniform_number(uint64_t key, uint64_t run, int64_t i) {
  if constexpr (sizeof(W) == 4) {
    const uint32_t word = random_block(key, run, i / 4).words[i % 4];
    return static_cast<W>(word >> 8) * W(5.9604644775390625e-8);
  } else {
    const RandomBlock block = random_block(key, run, i / 2);
    const uint64_t wide =
        static_cast<uint64_t>(block.words[i % 2 * 2 + 1]) << 32 | block.words[i % 2 * 2];
    return static_cast<W>(wide >> 11) * W(1.1102230246251565e-16);
  }
}

// Normal numbers come in pairs (Box and Muller).
template <typename W>
__device__ inline W normal_number(uint64_t key, uint64_t run, int64_t i) {
  const int64_t first = i / 2 * 2;
  const W u = 1 - uniform_number<W>(key, run, first);  // never 0
  const W angle = W(6.283185307179586) * uniform_number<W>(key, run, first + 1);
  const W radius = sqrt(-2 * log(u));
  return radius * (i % 2 == 0 ? cos(angle) : sin(angle));
}

// y = shift + scale * number
#define DRAW(kind, name, T)                                                                 \
  extern "C" __global__ void kind##_##name(T* y, int64_t count, double scale, double shift, \
                                           uint64_t key, const uint64_t* run) {             \
    using W = wide_t<T>;                                                                    \
    for (int64_t i = thread_number(); i < count; i += thread_count()) {                     \
      const W number = kind##_number<W>(key, *run, i);                                      \
      y[i] = narrow<T>(op::plus(W(shift), op::times(W(scale), number)));                    \
    }                                                                                       \
  }
#define UNIFORM(name, T) DRAW(uniform, name, T)
#define NORMAL(name, T) DRAW(normal, name, T)
FOR_FLOATS(UNIFORM)
FOR_FLOATS(NORMAL)

extern "C" __global__ void advance(uint64_t* run) { ++*run; }

// sums[row, i] = sum of exp(x[row, j] - largest) over j <= i. A thread per row: sums have an order.
#define RUNNING_SUMS(name, T)                                                               \
  extern "C" __global__ void running_sums_##name(const T* x, int64_t rows, int64_t classes, \
                                                 double* sums) {                            \
    for (int64_t row = thread_number(); row < rows; row += thread_count()) {                \
      const T* from = x + row * classes;                                                    \
      double top = widen(from[0]), sum = 0;                                                 \
      for (int64_t i = 1; i < classes; ++i) {                                               \
        const double next = widen(from[i]);                                                 \
        top = next > top ? next : top;                                                      \
      }                                                                                     \
      for (int64_t i = 0; i < classes; ++i) {                                               \
        sum += exp(static_cast<double>(widen(from[i])) - top);                              \
        sums[row * classes + i] = sum;                                                      \
      }                                                                                     \
    }                                                                                       \
  }
FOR_FLOATS(RUNNING_SUMS)

// The first class whose running sum is above a uniform part of the whole.
template <typename T>
__device__ void draw_classes(const double* sums, const double* numbers, int64_t rows,
                             int64_t classes, int64_t samples, T* y) {
  for (int64_t i = thread_number(); i < rows * samples; i += thread_count()) {
    const double* of_row = sums + i / samples * classes;
    const double level = numbers[i] * of_row[classes - 1];
    int64_t low = 0, high = classes - 1;
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (level < of_row[middle]) {
        high = middle;
      } else {
        low = middle + 1;
      }
    }
    y[i] = static_cast<T>(low);
  }
}
#define DRAW_CLASSES(name, T)                                                                    \
  extern "C" __global__ void draw_classes_##name(const double* sums, const double* numbers,      \
                                                 int64_t rows, int64_t classes, int64_t samples, \
                                                 T* y) {                                         \
    draw_classes(sums, numbers, rows, classes, samples, y);                                      \
  }
DRAW_CLASSES(int32, int32_t)
DRAW_CLASSES(int64, int64_t)
