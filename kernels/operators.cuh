// SPDX-License-Identifier: Apache-2.0
// The standard's elementwise operators on one element. Each takes and returns element types: floats
// of 16 bits are widened, computed in float32 and rounded once. Integers wrap around; a division of
// integers by zero gives zero.
#pragma once

#include "convert.cuh"

namespace op {

template <typename T>
constexpr bool is_signed = static_cast<T>(-1) < static_cast<T>(1);

template <int bytes>
struct UnsignedOf {
  using type = uint64_t;
};
template <>
struct UnsignedOf<4> {
  using type = uint32_t;
};
template <>
struct UnsignedOf<2> {
  using type = uint16_t;
};
template <>
struct UnsignedOf<1> {
  using type = uint8_t;
};
template <typename T>
using unsigned_t = typename UnsignedOf<sizeof(T)>::type;

// --- sums and products, each rounded for itself: what follows may not be joined into an fma

__device__ inline float plus(float a, float b) { return __fadd_rn(a, b); }
__device__ inline double plus(double a, double b) { return __dadd_rn(a, b); }
__device__ inline float times(float a, float b) { return __fmul_rn(a, b); }
__device__ inline double times(double a, double b) { return __dmul_rn(a, b); }

template <typename T>
__device__ inline T add(T left, T right) {
  if constexpr (is_real<wide_t<T>>) {
    return narrow<T>(plus(widen(left), widen(right)));
  } else {
    return static_cast<T>(static_cast<uint64_t>(left) + static_cast<uint64_t>(right));
  }
}
template <typename T>
__device__ inline T sub(T left, T right) {
  if constexpr (is_real<wide_t<T>>) {
    return narrow<T>(plus(widen(left), -widen(right)));
  } else {
    return static_cast<T>(static_cast<uint64_t>(left) - static_cast<uint64_t>(right));
  }
}
template <typename T>
__device__ inline T mul(T left, T right) {
  if constexpr (is_real<wide_t<T>>) {
    return narrow<T>(times(widen(left), widen(right)));
  } else {
    return static_cast<T>(static_cast<uint64_t>(left) * static_cast<uint64_t>(right));
  }
}
template <typename T>
__device__ inline T div(T left, T right) {
  if constexpr (is_real<wide_t<T>>) {
    return narrow<T>(widen(left) / widen(right));
  } else {
    if (right == 0) return 0;
    if (is_signed<T> && right == static_cast<T>(-1)) return sub(T{0}, left);
    return static_cast<T>(left / right);
  }
}

// Sums of several operands are rounded once.
template <typename W>
__device__ inline W wide_sum(W sum) {
  return sum;
}
template <typename W, typename... Rest>
__device__ inline W wide_sum(W sum, W next, Rest... rest) {
  return wide_sum(plus(sum, next), rest...);
}
template <typename T, typename... Rest>
__device__ inline T sum(T first, Rest... rest) {
  return narrow<T>(wide_sum(widen(first), widen(rest)...));
}
template <typename T, typename... Rest>
__device__ inline T mean(T first, Rest... rest) {
  return narrow<T>(wide_sum(widen(first), widen(rest)...) / (1 + sizeof...(rest)));
}

// Of NaN and a number, NaN.
template <typename T>
__device__ inline T max(T left, T right) {
  const auto a = widen(left), b = widen(right);
  return a > b || a != a ? left : right;
}
template <typename T>
__device__ inline T min(T left, T right) {
  const auto a = widen(left), b = widen(right);
  return a < b || a != a ? left : right;
}

// The bounds of Clip. NaN stays NaN.
template <typename T>
__device__ inline T at_least(T x, T bound) {
  return widen(x) < widen(bound) ? bound : x;
}
template <typename T>
__device__ inline T at_most(T x, T bound) {
  return widen(x) > widen(bound) ? bound : x;
}

// Python's modulo: the sign of the divisor.
template <typename T>
__device__ inline T modulo(T left, T right) {
  const auto a = widen(left), b = widen(right);
  if constexpr (is_real<wide_t<T>>) {
    const auto rest = ::fmod(a, b);
    if (rest == 0) return narrow<T>(::copysign(decltype(rest){0}, b));
    return narrow<T>((rest < 0) != (b < 0) ? rest + b : rest);
  } else {
    if (b == 0 || (is_signed<T> && b == static_cast<T>(-1))) return 0;
    const T rest = static_cast<T>(a % b);
    if constexpr (!is_signed<T>) return rest;
    return rest != 0 && (rest < 0) != (b < 0) ? static_cast<T>(rest + b) : rest;
  }
}
// C's remainder: the sign of the dividend.
template <typename T>
__device__ inline T remainder(T left, T right) {
  const auto a = widen(left), b = widen(right);
  if constexpr (is_real<wide_t<T>>) {
    return narrow<T>(::fmod(a, b));
  } else {
    if (b == 0 || (is_signed<T> && b == static_cast<T>(-1))) return 0;
    return static_cast<T>(a % b);
  }
}

template <typename T>
__device__ inline bool shifts_out(T by) {
  return static_cast<uint64_t>(by) >= 8 * sizeof(T);  // negative ones too
}
template <typename T>
__device__ inline T shift_left(T x, T by) {
  return shifts_out(by) ? T{0} : static_cast<T>(static_cast<unsigned_t<T>>(x) << by);
}
template <typename T>
__device__ inline T shift_right(T x, T by) {
  if (!shifts_out(by)) return static_cast<T>(x >> by);
  return is_signed<T> ? static_cast<T>(x >> (8 * sizeof(T) - 1)) : T{0};
}
template <typename T>
__device__ inline T bitwise_and(T left, T right) {
  return static_cast<T>(left & right);
}
template <typename T>
__device__ inline T bitwise_or(T left, T right) {
  return static_cast<T>(left | right);
}
template <typename T>
__device__ inline T bitwise_xor(T left, T right) {
  return static_cast<T>(left ^ right);
}
template <typename T>
__device__ inline T bitwise_not(T x) {
  return static_cast<T>(~x);
}

// --- powers

template <typename W>
__device__ inline W power_of_real(W x, W exponent) {
  if (exponent == W(2)) return x * x;
  if (exponent == W(3)) return x * x * x;
  if (exponent == W(0.5) && x >= 0) return ::sqrt(x + W(0));
  return ::pow(x, exponent);
}
// The exponent is signed, or 64 bits of an unsigned number.
template <typename T, typename E>
__device__ inline T power_of_integer(T base, E exponent) {
  if (is_signed<E> && static_cast<int64_t>(exponent) < 0) {
    if (base == 1) return 1;
    if (base == static_cast<T>(-1)) return exponent % 2 == 0 ? T{1} : static_cast<T>(-1);
    return 0;
  }
  uint64_t result = 1, factor = static_cast<uint64_t>(base);
  for (uint64_t left = static_cast<uint64_t>(exponent); left != 0; left >>= 1) {
    if (left & 1) result *= factor;
    factor *= factor;
  }
  return static_cast<T>(result);
}
template <typename T, typename E>
__device__ inline T pow(T base, E exponent) {
  if constexpr (is_same<T, E> && is_real<wide_t<T>>) {
    return narrow<T>(power_of_real(widen(base), widen(exponent)));
  } else if constexpr (!is_real<wide_t<T>> && !is_real<wide_t<E>>) {
    return power_of_integer(base, exponent);
  } else {
    const double exact =
        power_of_real(static_cast<double>(widen(base)), static_cast<double>(widen(exponent)));
    if constexpr (is_real<wide_t<T>>) {
      return narrow<T>(static_cast<wide_t<T>>(exact));
    } else {
      // The library's power may be a unit below a whole number, which would lose one more.
      const double whole = static_cast<double>(widen(exponent));
      if (whole == trunc(whole) && fabs(whole) < 1024 && fabs(exact) < 9007199254740992.0) {
        return power_of_integer(base, static_cast<int64_t>(whole));
      }
      const bool fits = exact >= -9223372036854775808.0 && exact < 9223372036854775808.0;
      constexpr auto lowest = static_cast<T>(uint64_t{1} << (8 * sizeof(T) - 1));
      return fits ? static_cast<T>(static_cast<int64_t>(exact)) : lowest;
    }
  }
}

// --- comparisons and logic

template <typename T>
__device__ inline bool equal(T left, T right) {
  return widen(left) == widen(right);
}
template <typename T>
__device__ inline bool less(T left, T right) {
  return widen(left) < widen(right);
}
template <typename T>
__device__ inline bool less_or_equal(T left, T right) {
  return widen(left) <= widen(right);
}
template <typename T>
__device__ inline bool greater(T left, T right) {
  return widen(left) > widen(right);
}
template <typename T>
__device__ inline bool greater_or_equal(T left, T right) {
  return widen(left) >= widen(right);
}
__device__ inline bool logical_and(bool left, bool right) { return left && right; }
__device__ inline bool logical_or(bool left, bool right) { return left || right; }
__device__ inline bool logical_xor(bool left, bool right) { return left != right; }
__device__ inline bool logical_not(bool x) { return !x; }
template <typename T>
__device__ inline T where(bool condition, T left, T right) {
  return condition ? left : right;
}
template <typename T>
__device__ inline bool is_nan(T x) {
  const auto wide = widen(x);
  return wide != wide;
}
template <typename T>
__device__ inline bool is_inf(T x, bool positive, bool negative) {
  const auto wide = widen(x);
  if (wide != wide || wide - wide == 0) return false;
  return wide > 0 ? positive : negative;
}

// --- functions of one number. FUNCTION(name, expression of `x`, a float or a double W).

#define FUNCTION(name, ...)             \
  template <typename T>                 \
  __device__ inline T name(T element) { \
    using W = wide_t<T>;                \
    const W x = widen(element);         \
    return narrow<T>(W(__VA_ARGS__));   \
  }

FUNCTION(acos, ::acos(x))
FUNCTION(acosh, ::acosh(x))
FUNCTION(asin, ::asin(x))
FUNCTION(asinh, ::asinh(x))
FUNCTION(atan, ::atan(x))
FUNCTION(atanh, ::atanh(x))
FUNCTION(ceil, ::ceil(x))
FUNCTION(cos, ::cos(x))
FUNCTION(cosh, ::cosh(x))
FUNCTION(erf, ::erf(x))
FUNCTION(exp, ::exp(x))
FUNCTION(floor, ::floor(x))
FUNCTION(log, ::log(x))
FUNCTION(reciprocal, 1 / x)
FUNCTION(round, ::rint(x))
FUNCTION(sin, ::sin(x))
FUNCTION(sinh, ::sinh(x))
FUNCTION(softsign, x / (1 + ::fabs(x)))
FUNCTION(sqrt, ::sqrt(x))
FUNCTION(tan, ::tan(x))
FUNCTION(tanh, ::tanh(x))
FUNCTION(gelu, x* W(0.5) * (::erf(x * W(0.70710678118654752440)) + 1))
FUNCTION(gelu_tanh,
         x* W(0.5) * (::tanh((x + W(0.044715) * (x * x * x)) * W(0.79788456080286535588)) + 1))
FUNCTION(softplus, (x < 0 ? 0 : x) + ::log1p(::exp(-::fabs(x))))

template <typename W>
__device__ inline W wide_sigmoid(W x) {
  const W e = ::exp(-::fabs(x));
  return (x >= 0 ? 1 : e) / (1 + e);
}
// tanh(log(1 + e)) = e (e + 2) / (e (e + 2) + 2), which is 1 from 20 (in double 40) on.
template <typename W>
__device__ inline W wide_mish(W x) {
  constexpr W limit = sizeof(W) == 4 ? 20 : 40;
  const W e = ::exp(x > limit ? limit : x);
  const W product = e * (e + 2);
  return x * (product / (product + 2));
}
template <typename W>
__device__ inline W wide_hard_sigmoid(W x, W alpha, W beta) {
  const W y = x * alpha + beta;
  return y < 0 ? 0 : y > 1 ? 1 : y;
}
template <typename W>
__device__ inline W wide_elu(W x, W alpha) {
  return x < 0 ? alpha * ::expm1(x) : x;
}
FUNCTION(sigmoid, wide_sigmoid(x))
FUNCTION(mish, wide_mish(x))
FUNCTION(hard_swish, x* wide_hard_sigmoid(x, W(1.0 / 6), W(0.5)))
#undef FUNCTION

// With parameters, which are float32 as attributes are.
#define FUNCTION(name, ...)                          \
  template <typename T>                              \
  __device__ inline T name(T element, float first) { \
    using W = wide_t<T>;                             \
    const W x = widen(element), alpha = first;       \
    return narrow<T>(W(__VA_ARGS__));                \
  }
FUNCTION(celu, x < 0 ? alpha * ::expm1(x / alpha) : x)
FUNCTION(elu, wide_elu(x, alpha))
FUNCTION(leaky_relu, x < 0 ? x * alpha : x)
FUNCTION(swish, x* wide_sigmoid(x* alpha))
FUNCTION(thresholded_relu, alpha < x ? x : 0)
#undef FUNCTION
template <typename T>
__device__ inline T hard_sigmoid(T x, float alpha, float beta) {
  using W = wide_t<T>;
  return narrow<T>(wide_hard_sigmoid(widen(x), W(alpha), W(beta)));
}
template <typename T>
__device__ inline T selu(T x, float alpha, float gamma) {
  using W = wide_t<T>;
  return narrow<T>(wide_elu(widen(x), W(alpha)) * W(gamma));
}

// --- functions of floats and integers

template <typename T>
__device__ inline T neg(T x) {
  if constexpr (is_real<wide_t<T>>) {
    return narrow<T>(-widen(x));
  } else {
    return sub(T{0}, x);
  }
}
template <typename T>
__device__ inline T abs(T x) {
  if constexpr (is_real<wide_t<T>>) {
    return narrow<T>(::fabs(widen(x)));
  } else if constexpr (is_signed<T>) {
    return x < 0 ? sub(T{0}, x) : x;
  } else {
    return x;
  }
}
template <typename T>
__device__ inline T sign(T x) {
  if constexpr (is_real<wide_t<T>>) {
    using W = wide_t<T>;
    const W wide = widen(x);
    return wide > 0 ? narrow<T>(W(1)) : wide < 0 ? narrow<T>(W(-1)) : x;
  } else if constexpr (is_signed<T>) {
    return static_cast<T>((0 < x) - (x < 0));
  } else {
    return x != 0;
  }
}
template <typename T>
__device__ inline T relu(T x) {
  using W = wide_t<T>;
  return widen(x) < W(0) ? narrow<T>(W(0)) : x;
}
template <typename T>
__device__ inline T prelu(T x, T slope) {
  if constexpr (is_signed<wide_t<T>>) {
    return widen(x) < 0 ? mul(x, slope) : x;
  } else {
    return x;
  }
}

// x + by without its fraction; no float type holds all of x, so whole parts are added as integers.
template <typename T>
__device__ inline T add_and_truncate(T x, float by) {
  constexpr float limit = 4611686018427387904.0f;
  const float whole = ::trunc(!(by > -limit) ? -limit : by < limit ? by : limit);  // not NaN
  const float fraction = by - whole;
  const T sum =
      static_cast<T>(static_cast<uint64_t>(x) + static_cast<uint64_t>(static_cast<int64_t>(whole)));
  if (fraction < 0 && sum > T{0}) return static_cast<T>(sum - 1);
  if constexpr (is_signed<T>) {
    if (fraction > 0 && sum < 0) return static_cast<T>(sum + 1);
  }
  return sum;
}
template <typename T>
__device__ inline T shrink(T element, float limit, float bias) {
  if constexpr (is_real<wide_t<T>>) {
    using W = wide_t<T>;
    const W x = widen(element), by = bias, from = limit;
    return narrow<T>(x < -from ? x + by : from < x ? x - by : W(0));
  } else {
    const double x = static_cast<double>(element), from = limit;
    if (x < -from) return add_and_truncate(element, bias);
    return x > from ? add_and_truncate(element, -bias) : T{0};
  }
}

}  // namespace op
