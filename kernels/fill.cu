// SPDX-License-Identifier: Apache-2.0
// Tensors made of few numbers: constants, diagonals, ranges, and windows for signal processing.
#include "operators.cuh"

#define CONSTANT(bytes, T)                                                                      \
  extern "C" __global__ void constant_##bytes(T* y, int64_t count, T value) {                   \
    wait_for_previous_kernels();                                                                \
    for (int64_t i = thread_number(); i < count; i += thread_count()) y[i] = value;             \
  }                                                                                             \
  extern "C" __global__ void diagonal_##bytes(T* y, int64_t first, int64_t step, int64_t count, \
                                              T value) {                                        \
    wait_for_previous_kernels();                                                                \
    for (int64_t i = thread_number(); i < count; i += thread_count()) {                         \
      y[first + i * step] = value;                                                              \
    }                                                                                           \
  }
FOR_WIDTHS(CONSTANT)

// y[i] = start + i * delta, of integers modulo 2^64.
template <typename T, typename W>
__device__ void fill_range(T* y, int64_t count, W start, W delta) {
  for (int64_t i = thread_number(); i < count; i += thread_count()) {
    y[i] = narrow<T>(op::add(start, op::mul(static_cast<W>(i), delta)));
  }
}
#define RANGE(name, T)                                                                             \
  extern "C" __global__ void range_##name(T* y, int64_t count, wide_t<T> start, wide_t<T> delta) { \
    wait_for_previous_kernels();                                                                   \
    fill_range(y, count, start, delta);                                                            \
  }
FOR_FLOATS(RANGE)
FOR_SIGNED(RANGE)

// y[i] = a - b cos(2 pi i / n) + c cos(4 pi i / n)
template <typename T>
__device__ void fill_window(T* y, int64_t count, double n, double a, double b, double c) {
  constexpr double two_pi = 6.283185307179586;
  for (int64_t i = thread_number(); i < count; i += thread_count()) {
    const double angle = two_pi * static_cast<double>(i) / n;
    y[i] = convert<T>(op::plus(a - op::times(b, cos(angle)), op::times(c, cos(2 * angle))));
  }
}
#define WINDOW(name, T)                                                                       \
  extern "C" __global__ void window_##name(T* y, int64_t count, double n, double a, double b, \
                                           double c) {                                        \
    wait_for_previous_kernels();                                                              \
    fill_window(y, count, n, a, b, c);                                                        \
  }
FOR_NUMBERS(WINDOW)
