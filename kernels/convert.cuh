// SPDX-License-Identifier: Apache-2.0
// Conversions between all element types, those of 8 bits and less included, as the standard's Cast
// does them: to nearest, ties to even, floats to integers towards zero.
//
// Types of less than 8 bits have a byte to themselves, and their number in its lowest bits.
#pragma once

#include "common.cuh"

__device__ inline uint32_t bits_of(float x) { return __float_as_uint(x); }
__device__ inline float float_of(uint32_t bits) { return __uint_as_float(bits); }
__device__ inline double double_of(uint64_t bits) {
  return __longlong_as_double(static_cast<long long>(bits));
}

// What a format has besides finite numbers: infinities and NaNs as in IEEE 754, one NaN for each
// sign, one NaN in the place of the negative zero, or nothing.
enum class Special { ieee, nan, unsigned_zero, none };

template <int exponent_bits, int mantissa_bits, int bias, Special special>
struct NarrowFloat {
  uint8_t bits;
};
using float8_e4m3fn = NarrowFloat<4, 3, 7, Special::nan>;
using float8_e4m3fnuz = NarrowFloat<4, 3, 8, Special::unsigned_zero>;
using float8_e5m2 = NarrowFloat<5, 2, 15, Special::ieee>;
using float8_e5m2fnuz = NarrowFloat<5, 2, 16, Special::unsigned_zero>;
using float6_e2m3fn = NarrowFloat<2, 3, 1, Special::none>;
using float6_e3m2fn = NarrowFloat<3, 2, 3, Special::none>;
using float4_e2m1fn = NarrowFloat<2, 1, 1, Special::none>;

// A power of two: bias 127, no sign, 0xff is NaN.
struct float8_e8m0fnu {
  uint8_t bits;
};

template <int width, bool is_signed>
struct NarrowInteger {
  uint8_t bits;
};
using int4_t = NarrowInteger<4, true>;
using uint4_t = NarrowInteger<4, false>;
using int2_t = NarrowInteger<2, true>;
using uint2_t = NarrowInteger<2, false>;

template <typename A, typename B>
struct IsSame {
  static constexpr bool value = false;
};
template <typename A>
struct IsSame<A, A> {
  static constexpr bool value = true;
};
template <typename A, typename B>
constexpr bool is_same = IsSame<A, B>::value;

template <typename T>
constexpr bool is_real = is_same<T, float> || is_same<T, double>;

// --- to the type that numbers are computed with

template <int e, int m, int bias, Special special>
__device__ inline float widen(NarrowFloat<e, m, bias, special> x) {
  constexpr uint32_t magnitude_mask = (1u << (e + m)) - 1;
  const uint32_t sign = static_cast<uint32_t>(x.bits >> (e + m) & 1) << 31;
  const uint32_t magnitude = x.bits & magnitude_mask;
  if constexpr (special == Special::unsigned_zero) {
    if (sign != 0 && magnitude == 0) return float_of(0x7fc00000u);
  } else if constexpr (special == Special::nan) {
    if (magnitude == magnitude_mask) return float_of(0x7fc00000u);
  } else if constexpr (special == Special::ieee) {
    constexpr uint32_t infinity = magnitude_mask >> m << m;
    if (magnitude >= infinity) {
      return float_of(magnitude == infinity ? sign | 0x7f800000u : 0x7fc00000u);
    }
  }
  if (magnitude >> m == 0) {  // subnormal
    constexpr float unit = 1.0f / static_cast<float>(1 << (bias + m - 1));
    return float_of(sign | bits_of(static_cast<float>(magnitude) * unit));
  }
  return float_of(sign | ((magnitude << (23 - m)) + (static_cast<uint32_t>(127 - bias) << 23)));
}
__device__ inline float widen(float8_e8m0fnu x) {
  if (x.bits == 0xff) return float_of(0x7fc00000u);
  return float_of(x.bits == 0 ? 0x00400000u : static_cast<uint32_t>(x.bits) << 23);
}
template <int width>
__device__ inline int8_t widen(NarrowInteger<width, true> x) {
  const int pattern = x.bits & ((1 << width) - 1);
  return static_cast<int8_t>(pattern >> (width - 1) ? pattern - (1 << width) : pattern);
}
template <int width>
__device__ inline uint8_t widen(NarrowInteger<width, false> x) {
  return x.bits & ((1 << width) - 1);
}

// --- to floats that are narrowed again

// The float beside `x` whose last bit is set unless it is exact: narrowing it rounds as narrowing
// `x` would.
__device__ inline float round_to_odd(double x) {
  const float near = static_cast<float>(x);
  if (static_cast<double>(near) == x || x != x || fabsf(near) > 3.4028235e38f) return near;
  uint32_t bits = bits_of(near);
  if (fabs(static_cast<double>(near)) > fabs(x)) --bits;
  return float_of(bits | 1);
}
__device__ inline float round_to_odd(float x) { return x; }
// Integers lose what 64 bits of a double cannot hold in the same way.
template <typename T>
__device__ inline float round_to_odd(T x) {
  if constexpr (sizeof(T) < 4) {
    return static_cast<float>(x);
  } else {
    const bool negative = x < 0;
    const uint64_t wide = static_cast<uint64_t>(x);
    uint64_t magnitude = negative ? 0 - wide : wide;
    if (magnitude >> 53 != 0) {  // then the lowest 11 bits count only as "not exact"
      magnitude = (magnitude >> 11 | ((magnitude & 0x7ff) != 0)) << 11;
    }
    const double exact = static_cast<double>(magnitude);
    return round_to_odd(negative ? -exact : exact);
  }
}

enum class RoundMode { up, down, nearest };  // of float8e8m0 only

// `convert_to(Tag<To>{}, x, ...)` for each target; x is of a type that numbers are computed with.
template <typename T>
struct Tag {};

template <typename From, int e, int m, int bias, Special special>
__device__ inline NarrowFloat<e, m, bias, special> convert_to(Tag<NarrowFloat<e, m, bias, special>>,
                                                              From from, bool saturate, RoundMode) {
  using To = NarrowFloat<e, m, bias, special>;
  constexpr uint32_t magnitude_mask = (1u << (e + m)) - 1, sign_bit = 1u << (e + m);
  // The largest finite pattern.
  constexpr uint32_t largest = special == Special::ieee  ? magnitude_mask - (1u << m)
                               : special == Special::nan ? magnitude_mask - 1
                                                         : magnitude_mask;
  const float x = round_to_odd(from);
  const uint32_t word = bits_of(x), sign = word >> 31 ? sign_bit : 0;
  const uint32_t magnitude = word & 0x7fffffffu;
  if (magnitude > 0x7f800000u) {
    const bool keeps_sign = special == Special::ieee || special == Special::nan;
    return To{static_cast<uint8_t>(keeps_sign ? sign | magnitude_mask : sign_bit)};
  }
  constexpr uint32_t smallest_normal = static_cast<uint32_t>(128 - bias) << 23;
  uint32_t pattern;
  if (magnitude < smallest_normal) {
    // Carries into the smallest normal number, which is what it should be.
    constexpr float units = static_cast<float>(1 << (bias + m - 1));
    pattern = static_cast<uint32_t>(rintf(float_of(magnitude) * units));
  } else {
    const uint32_t odd = magnitude >> (23 - m) & 1;
    const uint32_t rounded = magnitude + (1u << (22 - m)) - 1 + odd;
    pattern = (rounded >> (23 - m)) - (static_cast<uint32_t>(127 - bias) << m);
  }
  if (pattern > largest) {
    const bool clamped = saturate || special == Special::none;
    pattern = clamped ? largest : special == Special::ieee ? largest + 1 : magnitude_mask;
    if (!clamped && special == Special::unsigned_zero) return To{static_cast<uint8_t>(sign_bit)};
  }
  if (pattern == 0 && special == Special::unsigned_zero) return To{0};
  return To{static_cast<uint8_t>(sign | pattern)};
}

template <typename From>
__device__ inline float8_e8m0fnu convert_to(Tag<float8_e8m0fnu>, From from, bool saturate,
                                            RoundMode mode) {
  const uint32_t word = bits_of(round_to_odd(from));
  uint32_t exponent = word >> 23 & 0xff, fraction = word & 0x7fffffu;
  if (exponent == 0xff) return {0xff};
  if (exponent == 0) {
    // Subnormal floats: the smallest power has a fraction of one half. What is below becomes it.
    constexpr uint32_t smallest = 0x400000u;
    fraction = fraction > smallest ? (fraction - smallest) * 2 : 0;
  }
  bool up = mode == RoundMode::up && fraction != 0;
  if (mode == RoundMode::nearest) {
    up = fraction > 0x400000u || (fraction == 0x400000u && exponent > 0);
  }
  if (up && !(saturate && exponent == 0xfe)) ++exponent;
  return {static_cast<uint8_t>(exponent)};
}

template <typename From>
__device__ inline float16 convert_to(Tag<float16>, From from, bool, RoundMode) {
  return __float2half_rn(round_to_odd(from));
}
template <typename From>
__device__ inline bfloat16 convert_to(Tag<bfloat16>, From from, bool, RoundMode) {
  return __float2bfloat16_rn(round_to_odd(from));
}

// Beyond its range a float becomes the smallest number of the next wider integer type, cut down to
// the target, as on x86.
template <typename To, typename From>
__device__ inline To to_integer(From x) {
  if constexpr (sizeof(To) < 4 || is_same<To, int32_t>) {
    const bool fits = x >= From(-2147483648.0) && x < From(2147483648.0);
    return static_cast<To>(fits ? static_cast<int32_t>(x) : static_cast<int32_t>(0x80000000u));
  } else {
    constexpr From limit = From(9223372036854775808.0);
    constexpr uint64_t lowest = 0x8000000000000000u;
    if (is_same<To, uint64_t> && x >= limit) {
      return x < 2 * limit ? static_cast<To>(static_cast<uint64_t>(x)) : static_cast<To>(~0ull);
    }
    const bool fits = x >= -limit && x < limit;
    return static_cast<To>(fits ? static_cast<int64_t>(x) : static_cast<int64_t>(lowest));
  }
}

template <typename From, int width, bool is_signed>
__device__ inline NarrowInteger<width, is_signed> convert_to(Tag<NarrowInteger<width, is_signed>>,
                                                             From from, bool, RoundMode) {
  uint8_t byte;
  if constexpr (is_real<From>) {
    byte = to_integer<uint8_t>(from);
  } else {
    byte = static_cast<uint8_t>(from);
  }
  return {static_cast<uint8_t>(byte & ((1 << width) - 1))};
}

template <typename To, typename From>
__device__ inline To convert_to(Tag<To>, From from, bool, RoundMode) {
  if constexpr (is_same<To, bool>) {
    return from != 0;
  } else if constexpr (is_real<From> && !is_real<To>) {
    return to_integer<To>(from);
  } else {
    return static_cast<To>(from);
  }
}

template <typename To, typename From>
__device__ inline To convert(From from, bool saturate = true, RoundMode mode = RoundMode::up) {
  if constexpr (is_same<To, From>) {
    return from;
  } else {
    return convert_to(Tag<To>{}, widen(from), saturate, mode);
  }
}
