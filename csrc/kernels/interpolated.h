// SPDX-License-Identifier: Apache-2.0
// How elements of each type are interpolated: as one real number, or as two that are weighted and
// summed on their own. Integers are rounded to nearest, ties to even, into their range.
#pragma once

#include <cmath>
#include <complex>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "core/dtype.h"

namespace bascule {

using InterpolatedTypes =
    Types<float, double, Float16, BFloat16, int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t,
          uint32_t, uint64_t, bool, std::complex<float>, std::complex<double>>;

template <class S>
struct Interpolated {
  static constexpr bool is_short =
      NarrowFloat<S> || std::is_same_v<S, float> || (std::is_integral_v<S> && sizeof(S) == 1);
  using Work = std::conditional_t<is_short, float, double>;
  static constexpr int parts = 1;

  static Work part(S x, int) { return static_cast<Work>(static_cast<Compute<S>>(x)); }
  static S join(const Work* part) {
    if constexpr (std::is_integral_v<S>) {
      constexpr auto low = static_cast<Work>(std::numeric_limits<S>::min());
      constexpr auto high = static_cast<Work>(std::numeric_limits<S>::max());
      const Work value = std::nearbyint(*part);
      if (!(value > low)) return std::numeric_limits<S>::min();
      return value >= high ? std::numeric_limits<S>::max() : static_cast<S>(value);
    } else {
      return static_cast<S>(*part);
    }
  }
  static S from(double value) {
    const auto rounded = static_cast<Work>(value);
    return join(&rounded);
  }
};

// The upper and the lower half: double does not hold all of a number. The lower half is not
// negative.
template <class S>
  requires(std::is_integral_v<S> && sizeof(S) == 8)
struct Interpolated<S> {
  using Work = double;
  static constexpr int parts = 2;
  static constexpr double half = 0x1p32;

  static double part(S x, int i) {
    return i == 0 ? static_cast<double>(x >> 32) : static_cast<double>(x & 0xffffffff);
  }
  static S join(const double* part) {
    const double whole = std::floor(part[0]);
    const double rest = std::nearbyint((part[0] - whole) * half + part[1]);
    const double carry = std::floor(rest / half);
    const double upper = whole + carry;
    constexpr double low = std::is_signed_v<S> ? -half / 2 : 0;
    constexpr double high = std::is_signed_v<S> ? half / 2 : half;
    if (!(upper >= low)) return std::numeric_limits<S>::min();
    if (upper >= high) return std::numeric_limits<S>::max();
    return static_cast<S>(static_cast<S>(upper) * (S{1} << 32) +
                          static_cast<S>(rest - carry * half));
  }
  static S from(double value) {
    const double upper = std::floor(value / half);
    const double parts[] = {upper, value - upper * half};
    return join(parts);
  }
};

template <class R>
struct Interpolated<std::complex<R>> {
  using Work = R;
  static constexpr int parts = 2;

  static R part(const std::complex<R>& x, int i) { return i == 0 ? x.real() : x.imag(); }
  static std::complex<R> join(const R* part) { return {part[0], part[1]}; }
  static std::complex<R> from(double value) { return {static_cast<R>(value), R{0}}; }
};

}  // namespace bascule
