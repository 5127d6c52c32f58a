// SPDX-License-Identifier: Apache-2.0
// How elements of each type are interpolated: as one real number, or as two that are weighted and
// summed on their own. Integers are rounded to nearest, ties to even, into their range.
#pragma once

#include "complex.cuh"

template <typename S, typename W, int64_t low, uint64_t high>
struct InterpolatedInteger {
  using Work = W;
  static constexpr int parts = 1;

  __device__ static W part(S x, int) { return static_cast<W>(x); }
  __device__ static S join(const W* part) {
    const W value = rint(*part);
    if (!(value > static_cast<W>(low))) return static_cast<S>(low);
    return value >= static_cast<W>(high) ? static_cast<S>(high) : static_cast<S>(value);
  }
};

template <typename S>
struct Interpolated {
  using Work = wide_t<S>;
  static constexpr int parts = 1;

  __device__ static Work part(S x, int) { return widen(x); }
  __device__ static S join(const Work* part) { return narrow<S>(*part); }
};
#define INTERPOLATED(S, W, low, high) \
  template <>                         \
  struct Interpolated<S> : InterpolatedInteger<S, W, low, high> {};
INTERPOLATED(int8_t, float, INT8_MIN, INT8_MAX)
INTERPOLATED(uint8_t, float, 0, UINT8_MAX)
INTERPOLATED(bool, float, 0, 1)
INTERPOLATED(int16_t, double, INT16_MIN, INT16_MAX)
INTERPOLATED(uint16_t, double, 0, UINT16_MAX)
INTERPOLATED(int32_t, double, INT32_MIN, INT32_MAX)
INTERPOLATED(uint32_t, double, 0, UINT32_MAX)
#undef INTERPOLATED

// The upper and the lower half: double does not hold all of a number. The lower half is not
// negative.
template <typename S>
struct InterpolatedHalves {
  using Work = double;
  static constexpr int parts = 2;

  __device__ static double part(S x, int i) {
    return i == 0 ? static_cast<double>(x >> 32) : static_cast<double>(x & 0xffffffff);
  }
  __device__ static S join(const double* part) {
    constexpr double half = 4294967296.0;
    constexpr bool is_signed = static_cast<S>(-1) < static_cast<S>(1);
    constexpr double low = is_signed ? -half / 2 : 0, high = is_signed ? half / 2 : half;
    constexpr S least = is_signed ? static_cast<S>(INT64_MIN) : S(0);
    const double whole = floor(part[0]);
    const double rest = rint((part[0] - whole) * half + part[1]);
    const double carry = floor(rest / half), upper = whole + carry;
    if (!(upper >= low)) return least;
    if (upper >= high) return static_cast<S>(static_cast<uint64_t>(least) - 1);  // the largest
    const uint64_t lower = static_cast<uint64_t>(rest - carry * half);
    const uint64_t above = static_cast<uint64_t>(static_cast<int64_t>(upper));
    return static_cast<S>((above << 32) + lower);
  }
};
template <>
struct Interpolated<int64_t> : InterpolatedHalves<int64_t> {};
template <>
struct Interpolated<uint64_t> : InterpolatedHalves<uint64_t> {};

template <typename R>
struct Interpolated<Complex<R>> {
  using Work = R;
  static constexpr int parts = 2;

  __device__ static R part(const Complex<R>& x, int i) { return i == 0 ? x.real : x.imaginary; }
  __device__ static Complex<R> join(const R* part) { return {part[0], part[1]}; }
};
