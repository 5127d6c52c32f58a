// SPDX-License-Identifier: Apache-2.0
// QuantizeLinear, DequantizeLinear and QLinearAdd on one element.
#pragma once

#include "convert.cuh"

namespace op {

// The range of the integers that numbers are quantized to.
template <typename T>
struct QuantizedRange {
  static constexpr bool is_integer = false;
  static constexpr float low = 0, high = 0;
};
#define QUANTIZED_RANGE(type, least, largest)           \
  template <>                                           \
  struct QuantizedRange<type> {                         \
    static constexpr bool is_integer = true;            \
    static constexpr float low = least, high = largest; \
  };
QUANTIZED_RANGE(int8_t, -128, 127)
QUANTIZED_RANGE(uint8_t, 0, 255)
QUANTIZED_RANGE(int16_t, -32768, 32767)
QUANTIZED_RANGE(uint16_t, 0, 65535)
QUANTIZED_RANGE(int4_t, -8, 7)
QUANTIZED_RANGE(uint4_t, 0, 15)
QUANTIZED_RANGE(int2_t, -2, 1)
QUANTIZED_RANGE(uint2_t, 0, 3)
#undef QUANTIZED_RANGE

// To the integer; NaN becomes the lowest.
template <typename T>
__device__ inline T clamped(float x) {
  using Range = QuantizedRange<T>;
  const float inside = x >= Range::low ? (x <= Range::high ? x : Range::high) : Range::low;
  return convert<T>(inside);
}

// x / scale, in the precision that is asked for.
template <typename Precision, typename X, typename Scale>
__device__ inline float quotient(X x, Scale scale) {
  if constexpr (is_same<Precision, int32_t> && is_same<X, int32_t>) {
    return static_cast<float>(::rint(x / static_cast<double>(widen(scale))));
  } else if constexpr (is_same<Precision, float16> || is_same<Precision, bfloat16>) {
    const auto rounded = [](float y) { return widen(narrow<Precision>(y)); };
    return rounded(rounded(static_cast<float>(widen(x))) /
                   rounded(static_cast<float>(widen(scale))));
  } else {
    return static_cast<float>(widen(x)) / static_cast<float>(widen(scale));
  }
}

template <typename T, typename Precision, typename X, typename Scale>
__device__ inline T quantize_linear(X x, Scale scale, float zero, bool saturate) {
  const float number = quotient<Precision>(x, scale);
  if constexpr (QuantizedRange<T>::is_integer) {
    return clamped<T>(::rint(number) + zero);
  } else {
    return convert<T>(zero == 0 ? number : number + zero, saturate);  // the sign of a zero stays
  }
}
template <typename T, typename Precision, typename X, typename Scale>
__device__ inline T quantize_linear(X x, Scale scale, T zero, bool saturate) {
  return quantize_linear<T, Precision>(x, scale, static_cast<float>(widen(zero)), saturate);
}

template <typename T, typename X, typename Scale>
__device__ inline T dequantize_linear(X x, Scale scale) {
  return narrow<T>(static_cast<float>(widen(x)) * static_cast<float>(widen(scale)));
}
template <typename T, typename X, typename Scale>
__device__ inline T dequantize_linear(X x, Scale scale, X zero) {
  const float moved = static_cast<float>(widen(x)) - static_cast<float>(widen(zero));
  return narrow<T>(moved * static_cast<float>(widen(scale)));
}

template <typename T>
__device__ inline T qlinear_add(T a, float a_scale, T a_zero, T b, float b_scale, T b_zero,
                                float y_scale, T y_zero) {
  const float a_factor = a_scale / y_scale, b_factor = b_scale / y_scale;
  const float offset = static_cast<float>(y_zero) - ::fma(a_factor, static_cast<float>(a_zero),
                                                          b_factor * static_cast<float>(b_zero));
  const float right = ::fma(static_cast<float>(b), b_factor, offset);
  return clamped<T>(::rint(::fma(static_cast<float>(a), a_factor, right)));
}

}  // namespace op
