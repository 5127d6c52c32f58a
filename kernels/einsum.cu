// SPDX-License-Identifier: Apache-2.0
// What Einsum needs besides matrix products: a tensor by strides, summed over some of its axes.
#include "common.cuh"

namespace {

constexpr int most_axes = 16;

// Axes of the result, outermost first, then those that are summed over.
struct Axes {
  int64_t kept;
  int64_t summed;
  int64_t sizes[most_axes];
  int64_t strides[most_axes];
};

// The type that sums are taken in: integers modulo 2^bits.
template <typename T>
struct Summed {
  using type = T;
};
template <>
struct Summed<int32_t> {
  using type = uint32_t;
};
template <>
struct Summed<int64_t> {
  using type = uint64_t;
};

template <typename From, typename To, typename W>
__device__ void sum_strided(const From* x, To* y, int64_t size, int64_t count, const Axes& axes) {
  for (int64_t i = thread_number(); i < size; i += thread_count()) {
    int64_t rest = i, start = 0;
    for (int64_t axis = axes.kept - 1; axis >= 0; --axis) {
      start += rest % axes.sizes[axis] * axes.strides[axis];
      rest /= axes.sizes[axis];
    }
    typename Summed<W>::type sum = 0;
    for (int64_t j = 0; j < count; ++j) {
      int64_t at = start;
      rest = j;
      for (int64_t axis = axes.kept + axes.summed - 1; axis >= axes.kept; --axis) {
        at += rest % axes.sizes[axis] * axes.strides[axis];
        rest /= axes.sizes[axis];
      }
      sum += static_cast<W>(widen(x[at]));
    }
    y[i] = narrow<To>(static_cast<W>(sum));
  }
}

}  // namespace

#define STRIDED(from, From, to, To, W)                                                            \
  extern "C" __global__ void einsum_##from##_##to(const From* __restrict__ x, To* __restrict__ y, \
                                                  int64_t size, int64_t count, Axes axes) {       \
    sum_strided<From, To, W>(x, y, size, count, axes);                                            \
  }
STRIDED(float32, float, float32, float, float)
STRIDED(float64, double, float64, double, double)
STRIDED(float16, float16, float16, float16, float)
STRIDED(float16, float16, float32, float, float)
STRIDED(float32, float, float16, float16, float)
STRIDED(bfloat16, bfloat16, bfloat16, bfloat16, float)
STRIDED(bfloat16, bfloat16, float32, float, float)
STRIDED(float32, float, bfloat16, bfloat16, float)
STRIDED(int32, int32_t, int32, int32_t, int32_t)
STRIDED(int64, int64_t, int64, int64_t, int64_t)
STRIDED(uint32, uint32_t, uint32, uint32_t, uint32_t)
STRIDED(uint64, uint64_t, uint64, uint64_t, uint64_t)
#define NARROW_INTEGER(name, T)             \
  STRIDED(name, T, name, T, int32_t)        \
  STRIDED(name, T, int32, int32_t, int32_t) \
  STRIDED(int32, int32_t, name, T, int32_t)
NARROW_INTEGER(int8, int8_t)
NARROW_INTEGER(int16, int16_t)
NARROW_INTEGER(uint8, uint8_t)
NARROW_INTEGER(uint16, uint16_t)
