// SPDX-License-Identifier: Apache-2.0
// Inverse trigonometric functions on vectors of floats: the reductions and polynomials of asinf.c
// and atanf.c in the Cephes library of Stephen L. Moshier. The largest errors found, in units in
// the last place (ulp), with and without FMA, of all floats from 2^-14 to 2^27 and every 97th
// outside:
//
//   asin 2.4   acos 1.2   atan 2.2
//
// NaN and what lies outside [-1, 1], for asin and acos, give NaN.
#pragma once

#include "simd/math.h"

namespace bascule::BASCULE_ISA {
namespace {

// pi / 2 as a float and what it lacks.
constexpr float half_pi = 1.57079632679489662f;
constexpr float half_pi_rest = -4.37113883e-8f;

// asin(r) - r, given r^2 for 0 <= r <= 1/2.
BASCULE_INLINE F32 asin_beyond_linear(F32 r, F32 square) {
  return polynomial(square, set(4.2163199048e-2f), 2.4181311049e-2f, 4.5470025998e-2f,
                    7.4953002686e-2f, 1.6666752422e-1f) *
         (square * r);
}

// Above 1/2 by asin(x) = pi/2 - 2 asin(sqrt((1 - x) / 2)).
BASCULE_INLINE F32 asin(F32 x) {
  const F32 size = abs(x);
  const auto large = size > 0.5f;
  const F32 square = large ? (1.0f - size) * 0.5f : size * size;
  const F32 r = large ? sqrt(square) : size;
  const F32 beyond = asin_beyond_linear(r, square);
  const F32 y = large ? half_pi - ((r + beyond) * 2.0f - half_pi_rest) : r + beyond;
  return copysign(y, x);
}

// acos(x) = pi/2 - asin(x) near zero, 2 asin(sqrt((1 - x) / 2)) above 1/2, pi less that of -x
// below.
BASCULE_INLINE F32 acos(F32 x) {
  const F32 size = abs(x);
  const auto large = size > 0.5f;
  const F32 square = large ? (1.0f - size) * 0.5f : size * size;
  const F32 r = large ? sqrt(square) : x;
  const F32 beyond = asin_beyond_linear(r, square);
  const F32 twice = (r + beyond) * 2.0f;
  const F32 near_end = x < 0.0f ? 2.0f * half_pi - (twice - 2.0f * half_pi_rest) : twice;
  return large ? near_end : half_pi - (r - (half_pi_rest - beyond));
}

// From tan(3 pi / 8) on pi/2 + atan(-1 / x), from tan(pi / 8) on pi/4 + atan((x - 1) / (x + 1)).
BASCULE_INLINE F32 atan(F32 x) {
  const F32 size = abs(x);
  const auto large = size > 2.414213562373095f;
  const auto middle = size > 0.4142135623730950f;
  const F32 above = large ? set(-1.0f) : size - 1.0f;
  const F32 below = large ? size : size + 1.0f;
  const F32 r = middle ? above / below : size;
  const F32 z = r * r;
  const F32 p = polynomial(z, set(8.05374449538e-2f), -1.38776856032e-1f, 1.99777106478e-1f,
                           -3.33329491539e-1f);
  const F32 start = large ? set(half_pi) : middle ? set(0.5f * half_pi) : set(0.0f);
  const F32 rest = large ? set(half_pi_rest) : middle ? set(0.5f * half_pi_rest) : set(0.0f);
  return copysign(start + (r + fma(p, z * r, rest)), x);
}

}  // namespace
}  // namespace bascule::BASCULE_ISA
