// SPDX-License-Identifier: Apache-2.0
// parts: float32 float64 float16 bfloat16 nearest bool
// parts: int8 int16 int32 int64 uint8 uint16 uint32 uint64
// Resize along one axis of [outer, axis, inner]: the host knows which elements each output is made
// of (indices [taps, outputs], -1 for one outside) and with which weights [taps, outputs].
#include "interpolated.cuh"

// A wide number as an element, or as it is.
template <typename S>
__device__ inline S from_work(typename Interpolated<S>::Work value) {
  return Interpolated<S>::join(&value);
}

// X of type A, Y of type B: the first axis reads elements, the last one writes them, and between
// them numbers stay wide.
template <typename A, typename B, typename W>
__device__ inline void resize_axis(const A* x, B* y, const int* indices, const W* weights,
                                   int64_t outer, int64_t input, int64_t output, int64_t inner,
                                   int64_t taps, double extrapolation) {
  for (int64_t i = thread_number(); i < outer * output * inner; i += thread_count()) {
    const int64_t column = i % inner, o = i / inner % output, row = i / inner / output;
    if (indices[o] < 0) {
      y[i] = from_work<B>(static_cast<W>(extrapolation));
      continue;
    }
    const A* from = x + row * input * inner + column;
    W sum = 0;
    for (int64_t t = 0; t < taps; ++t) {
      sum += weights[t * output + o] * static_cast<W>(widen(from[indices[t * output + o] * inner]));
    }
    y[i] = from_work<B>(sum);
  }
}

#define RESIZE(name, x_type, y_type, A, B, W)                                               \
  extern "C" __global__ void resize_##x_type##_##y_type##_##name(                           \
      const A* x, B* y, const int* indices, const W* weights, int64_t outer, int64_t input, \
      int64_t output, int64_t inner, int64_t taps, double extrapolation) {                  \
    wait_for_previous_kernels();                                                            \
    resize_axis<A, B, W>(x, y, indices, weights, outer, input, output, inner, taps,         \
                         extrapolation);                                                    \
  }
#define RESIZE_TYPE(name, T)                                                   \
  RESIZE(name, element, element, T, T, Interpolated<T>::Work)                  \
  RESIZE(name, element, wide, T, Interpolated<T>::Work, Interpolated<T>::Work) \
  RESIZE(name, wide, element, Interpolated<T>::Work, T, Interpolated<T>::Work) \
  RESIZE(name, wide, wide, Interpolated<T>::Work, Interpolated<T>::Work, Interpolated<T>::Work)
FOR_FLOATS(RESIZE_TYPE)
FOR_TYPE(RESIZE_TYPE, int8, int8_t)
FOR_TYPE(RESIZE_TYPE, uint8, uint8_t)
FOR_TYPE(RESIZE_TYPE, bool, bool)
FOR_TYPE(RESIZE_TYPE, int16, int16_t)
FOR_TYPE(RESIZE_TYPE, uint16, uint16_t)
FOR_TYPE(RESIZE_TYPE, int32, int32_t)
FOR_TYPE(RESIZE_TYPE, uint32, uint32_t)

// Integers of 64 bits as pairs of halves, which are resized as float64, and back.
#define HALVES(name, T)                                                                   \
  extern "C" __global__ void resize_split_##name(const T* x, double* halves, int64_t n) { \
    for (int64_t i = thread_number(); i < n; i += thread_count()) {                       \
      for (int part = 0; part < 2; ++part) {                                              \
        halves[2 * i + part] = Interpolated<T>::part(x[i], part);                         \
      }                                                                                   \
    }                                                                                     \
  }                                                                                       \
  extern "C" __global__ void resize_join_##name(const double* halves, T* y, int64_t n) {  \
    for (int64_t i = thread_number(); i < n; i += thread_count()) {                       \
      y[i] = Interpolated<T>::join(halves + 2 * i);                                       \
    }                                                                                     \
  }
FOR_TYPE(HALVES, int64, int64_t)
FOR_TYPE(HALVES, uint64, uint64_t)

// Up to eight axes; `places` of an axis is where its indices begin in the list, -1 for one that
// stays.
struct Nearest {
  int64_t rank;
  int64_t in[8], out[8], places[8];
};

#define NEAREST(bytes, T)                                                                     \
  extern "C" __global__ void resize_nearest_##bytes(const T* x, T* y, const int* indices,     \
                                                    const T* outside, Nearest s, int64_t n) { \
    wait_for_previous_kernels();                                                              \
    for (int64_t i = thread_number(); i < n; i += thread_count()) {                           \
      int64_t rest = i, from = 0, stride = 1;                                                 \
      for (int axis = static_cast<int>(s.rank) - 1; axis >= 0; --axis) {                      \
        int64_t at = rest % s.out[axis];                                                      \
        rest /= s.out[axis];                                                                  \
        if (s.places[axis] >= 0) at = indices[s.places[axis] + at];                           \
        from = at < 0 || from < 0 ? -1 : from + at * stride;                                  \
        stride *= s.in[axis];                                                                 \
      }                                                                                       \
      y[i] = from < 0 ? *outside : x[from];                                                   \
    }                                                                                         \
  }
IN_PART(nearest, FOR_WIDTHS(NEAREST))
