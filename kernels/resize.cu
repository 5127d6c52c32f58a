// SPDX-License-Identifier: Apache-2.0
// Resize along one axis of [outer, axis, inner]: the host knows which elements each output is made
// of (indices [taps, outputs], -1 for one outside) and with which weights [taps, outputs].
#include "common.cuh"

// How a type is interpolated: as float or double; integers are rounded to nearest, ties to even,
// into their range.
template <typename S>
struct Interpolated {
  using Work = double;
};
template <>
struct Interpolated<float> {
  using Work = float;
};
template <>
struct Interpolated<float16> {
  using Work = float;
};
template <>
struct Interpolated<bfloat16> {
  using Work = float;
};
template <>
struct Interpolated<int8_t> {
  using Work = float;
};
template <>
struct Interpolated<uint8_t> {
  using Work = float;
};

template <typename S, typename W>
__device__ inline S interpolated(W value, double low, double high) {
  const W rounded = rint(value);
  if (!(rounded > static_cast<W>(low))) return static_cast<S>(low);
  return rounded >= static_cast<W>(high) ? static_cast<S>(high) : static_cast<S>(rounded);
}

template <typename S, typename W>
__device__ inline S from_work(W value) {
  return narrow<S>(value);
}
#define INTEGER(S, low, high)                          \
  template <>                                          \
  __device__ inline S from_work<S, float>(float v) {   \
    return interpolated<S>(v, low, high);              \
  }                                                    \
  template <>                                          \
  __device__ inline S from_work<S, double>(double v) { \
    return interpolated<S>(v, low, high);              \
  }
INTEGER(int8_t, INT8_MIN, INT8_MAX)
INTEGER(uint8_t, 0, UINT8_MAX)
INTEGER(int16_t, INT16_MIN, INT16_MAX)
INTEGER(uint16_t, 0, UINT16_MAX)
INTEGER(int32_t, INT32_MIN, INT32_MAX)
INTEGER(uint32_t, 0, UINT32_MAX)

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
RESIZE_TYPE(int8, int8_t)
RESIZE_TYPE(uint8, uint8_t)
RESIZE_TYPE(int16, int16_t)
RESIZE_TYPE(uint16, uint16_t)
RESIZE_TYPE(int32, int32_t)
RESIZE_TYPE(uint32, uint32_t)

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
FOR_WIDTHS(NEAREST)
