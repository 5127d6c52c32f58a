// SPDX-License-Identifier: Apache-2.0
// Elementary functions on vectors of floats. The largest errors found over the whole range, in
// units in the last place (ulp), with and without FMA:
//
//   exp 1.0   expm1 1.5   log 0.8   log1p 1.2   tanh 2.5   sigmoid 2.5   erf 1.2   sin, cos 1.6
//
// NaN gives NaN everywhere, infinities and overflow what C's functions give.
#pragma once

#include "simd/vec.h"

namespace bascule::BASCULE_ISA {
namespace {

constexpr float log2_e = 1.44269504088896341f;
// ln 2 as a number of few bits, whose small multiples are exact, and the rest.
constexpr float ln2_high = 0.693359375f;
constexpr float ln2_low = -2.12194440e-4f;

BASCULE_INLINE F32 polynomial(F32, F32 sum) { return sum; }
// ((sum * x + c0) * x + c1) ...
template <class... Rest>
BASCULE_INLINE F32 polynomial(F32 x, F32 sum, float c, Rest... rest) {
  return polynomial(x, fma(sum, x, set(c)), rest...);
}

// 2^n for -126 <= n <= 127.
BASCULE_INLINE F32 power_of_two(I32 n) { return reinterpret_cast<F32>((n + 127) << 23); }

// v * 2^n, with n whole; overflow and subnormal results as they should be for |n| <= 250.
BASCULE_INLINE F32 scale_by_power(F32 v, F32 n) {
#if defined(__AVX512F__)
  return reinterpret_cast<F32>(
      _mm512_scalef_ps(reinterpret_cast<__m512>(v), reinterpret_cast<__m512>(n)));
#else
  const I32 whole = to_int(n);
  const I32 half = whole >> 1;
  return v * power_of_two(half) * power_of_two(whole - half);
#endif
}

// exp(r) - 1 for |r| <= ln(2) / 2.
BASCULE_INLINE F32 expm1_reduced(F32 r) {
  const F32 p = polynomial(r, set(1.9875691500e-4f), 1.3981999507e-3f, 8.3334519073e-3f,
                           4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f);
  return fma(p, r * r, r);
}

BASCULE_INLINE F32 exp(F32 x) {
  // From 89 on the result is infinite. What is 0 is not computed: results below the normal numbers
  // take processors a hundred times as long, and softmax has many that are 0.
  const auto vanishes = x <= -104.0f;
  x = at_most(set(89.0f), vanishes ? set(0.0f) : x);
  const F32 n = round(x * log2_e);
  const F32 r = fma(n, set(-ln2_low), fma(n, set(-ln2_high), x));
  return vanishes ? set(0.0f) : scale_by_power(expm1_reduced(r) + 1.0f, n);
}

// exp(x) - 1 without cancellation.
BASCULE_INLINE F32 expm1(F32 x) {
  // Below the result is -1, above it is infinite.
  const F32 inside = at_most(set(89.0f), at_least(set(-60.0f), x));
  const F32 n = round(inside * log2_e);
  const F32 r = fma(n, set(-ln2_low), fma(n, set(-ln2_high), inside));
  const F32 half_power = power_of_two(to_int(n) - 1);  // 2^n itself may be out of range
  const F32 y = fma(half_power, expm1_reduced(r), half_power - 0.5f) * 2.0f;
  return abs(x) < 0x1p-25f ? x : y;  // keeps zeros and subnormal numbers
}

BASCULE_INLINE F32 log(F32 x) {
  const auto subnormal = x < 1.17549435e-38f;
  const F32 normal = subnormal ? x * 8388608.0f : x;
  // normal = m * 2^e with m in [sqrt(1/2), sqrt(2)).
  const I32 word = reinterpret_cast<I32>(normal);
  const I32 shifted = word - 0x3f3504f3;
  const F32 e = to_float((shifted >> 23) - (subnormal ? set_int(23) : set_int(0)));
  const F32 m = reinterpret_cast<F32>(word - (shifted & static_cast<int32_t>(0xff800000))) - 1.0f;
  const F32 p = polynomial(m, set(7.0376836292e-2f), -1.1514610310e-1f, 1.1676998740e-1f,
                           -1.2420140846e-1f, 1.4249322787e-1f, -1.6668057665e-1f, 2.0000714765e-1f,
                           -2.4999993993e-1f, 3.3333331174e-1f);
  const F32 square = m * m;
  F32 y = fma(e, set(ln2_low), square * m * p);
  y = fma(square, set(-0.5f), y);
  y = fma(e, set(ln2_high), m + y);
  y = x == infinity ? x : y;
  y = x == 0.0f ? set(-infinity) : y;
  return x < 0.0f ? set(__builtin_nanf("")) : (x != x ? x : y);
}

// log(1 + x) for x >= 0.
BASCULE_INLINE F32 log1p(F32 x) {
  const F32 sum = x + 1.0f;
  // What the addition lost, to first order.
  const F32 y = log(sum) + (x - (sum - 1.0f)) / sum;
  return x == infinity ? x : y;
}

BASCULE_INLINE F32 sigmoid(F32 x) {
  const F32 e = exp(-abs(x));
  const F32 y = 1.0f / (e + 1.0f);
  return x >= 0.0f ? y : e * y;
}

BASCULE_INLINE F32 tanh(F32 x) {
  const F32 t = expm1(abs(x) * -2.0f);
  return copysign(-t / (t + 2.0f), x);
}

// x * P(x^2) near zero, 1 - exp(-|x| * Q(|x|)) beyond; fitted with the split at 0.93.
BASCULE_INLINE F32 erf(F32 x) {
  const F32 t = at_most(set(4.0f), abs(x));  // erf(4) rounds to 1
  const F32 square = x * x;
  const F32 near_zero = fma(polynomial(square, set(-0.0005978296f), 0.004991252f, -0.026765749f,
                                       0.11281808f, -0.37612495f, 0.12837915f),
                            x, x);
  const F32 q = polynomial(t, set(1.18745775e-05f), -0.00032919933f, 0.003668273f, -0.023816232f,
                           0.10629924f, 0.63511395f, 0.1286576f);
  const F32 beyond = 1.0f - exp(-fma(q, t, t));
  return t < 0.9296875f ? near_zero : copysign(beyond, x);
}

// sin (quadrant 0) or cos (quadrant 1) of x.
BASCULE_INLINE F32 sine_from_quadrant(F32 x, int32_t quadrant) {
  // Above this the four-part pi/2 is too short: the C library, lane by lane.
  constexpr float reducible = 4096.0f;
  const F32 n = round(x * 0.636619772367581343f);
  F32 r = fma(n, set(-1.5703125f), x);
  r = fma(n, set(-4.837512969970703125e-4f), r);
  r = fma(n, set(-7.549533620476722717e-8f), r);
  r = fma(n, set(-2.5633441515945188e-12f), r);
  const F32 z = r * r;
  const F32 sine =
      fma(polynomial(z, set(-1.9515295891e-4f), 8.3321608736e-3f, -1.6666654611e-1f), z * r, r);
  const F32 cosine =
      fma(polynomial(z, set(2.443315711809948e-5f), -1.388731625493765e-3f, 4.166664568298827e-2f),
          z * z, fma(z, set(-0.5f), set(1.0f)));
  const I32 out_of_reach = !(abs(x) <= reducible);
  const I32 q = to_int(out_of_reach ? set(0.0f) : n) + quadrant;
  F32 y = (q & 1) == 0 ? sine : cosine;
  y = (q & 2) == 0 ? y : -y;
  if (__builtin_expect(any(out_of_reach), 0)) {
    for (int i = 0; i < lanes; ++i) {
      if (out_of_reach[i]) y[i] = quadrant ? __builtin_cosf(x[i]) : __builtin_sinf(x[i]);
    }
  }
  return y;
}
BASCULE_INLINE F32 sin(F32 x) { return sine_from_quadrant(x, 0); }
BASCULE_INLINE F32 cos(F32 x) { return sine_from_quadrant(x, 1); }

}  // namespace
}  // namespace bascule::BASCULE_ISA
