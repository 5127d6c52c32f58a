// SPDX-License-Identifier: Apache-2.0
// Activations on vectors of floats: the same arithmetic for an activation of its own and for one
// that another kernel applies to its result.
#pragma once

#include "simd/activation_kind.h"
#include "simd/gelu_tables.h"
#include "simd/math.h"

namespace bascule::BASCULE_ISA {
namespace {

BASCULE_INLINE F32 relu(F32 x) { return at_least(set(0.0f), x); }
BASCULE_INLINE F32 leaky_relu(F32 x, float alpha) { return x < 0.0f ? x * alpha : x; }
BASCULE_INLINE F32 clip(F32 x, float least, float largest) {
  return at_most(set(largest), at_least(set(least), x));
}
#if defined(__AVX512F__)
// See gelu_tables.py. Relative error 1.1e-6 for x > -5, absolute 1e-7 of max(|x|, 1) everywhere.
BASCULE_INLINE F32 gelu_from(const GeluTable& table, F32 x) {
  constexpr float to_whole = 12582912.0f;  // a sum with this ends in a whole number
  const F32 t = abs(x);
  const F32 rounded = fma(t, set(table.steps), set(to_whole));
  const F32 offset = fma(t, set(table.steps), -(rounded - to_whole));
  const auto piece = reinterpret_cast<__m512i>(rounded);  // its last bits count
  const auto coefficient = [&](int row) __attribute__((always_inline)) {
    const float* p = table.coefficients[row];
    return reinterpret_cast<F32>(
        _mm512_permutex2var_ps(_mm512_load_ps(p), piece, _mm512_load_ps(p + 16)));
  };
  F32 sum = coefficient(0);
#pragma GCC unroll 5
  for (int row = 1; row < gelu_degree; ++row) sum = fma(sum, offset, coefficient(row));
  const __mmask16 inside = _mm512_cmp_ps_mask(
      reinterpret_cast<__m512>(rounded), _mm512_set1_ps(to_whole + gelu_pieces - 1), _CMP_LE_OQ);
  const auto missing = reinterpret_cast<F32>(
      _mm512_maskz_fmadd_ps(inside, reinterpret_cast<__m512>(sum), reinterpret_cast<__m512>(offset),
                            reinterpret_cast<__m512>(coefficient(gelu_degree))));
  return relu(x) - missing;
}
BASCULE_INLINE F32 gelu(F32 x) { return gelu_from(gelu_table, x); }
BASCULE_INLINE F32 gelu_tanh(F32 x) { return gelu_from(gelu_tanh_table, x); }
#else
// x times a distribution function that is 1/2 + x P(x^2) / Q(x^2) near zero, and 0 or 1 from
// `limit` on, where it would round to that. The quotients were fitted up to their limits; what
// comes out is within 1e-6 of the function.
BASCULE_INLINE F32 weighted(F32 x, F32 numerator, F32 denominator, float limit) {
  const F32 part = at_most(set(0.5f), at_least(set(-0.5f), x * numerator / denominator));
  return x * ((abs(x) < limit ? part : copysign(set(0.5f), x)) + 0.5f);
}
BASCULE_INLINE F32 gelu(F32 x) {
  const F32 square = x * x;
  return weighted(x,
                  polynomial(square, set(2.27493917e-8f), 6.352122e-6f, 1.68826038e-4f,
                             4.67726216e-3f, 3.38526852e-2f, 0.398942232f),
                  polynomial(square, set(1.1975050e-6f), 7.36476286e-5f, 1.88444671e-3f,
                             2.86458898e-2f, 0.251522005f, 1.0f),
                  5.5f);
}
BASCULE_INLINE F32 gelu_tanh(F32 x) {
  const F32 square = x * x;
  return weighted(x,
                  polynomial(square, set(2.12902760e-8f), 6.72785245e-6f, 1.33801237e-4f,
                             3.61600122e-3f, 3.07464767e-2f, 0.398942292f),
                  polynomial(square, set(1.21440996e-6f), 7.43965429e-5f, 1.29435537e-3f,
                             2.44533308e-2f, 0.244562134f, 1.0f),
                  4.9f);
}
#endif
BASCULE_INLINE F32 swish(F32 x, float alpha) { return x * sigmoid(x * alpha); }
BASCULE_INLINE F32 hard_sigmoid(F32 x, float alpha, float beta) {
  return clip(fma(x, set(alpha), set(beta)), 0.0f, 1.0f);
}
BASCULE_INLINE F32 hard_swish(F32 x) { return x * hard_sigmoid(x, 1.0f / 6.0f, 0.5f); }
BASCULE_INLINE F32 elu(F32 x, float alpha) { return x < 0.0f ? expm1(x) * alpha : x; }

// For `kind` known when compiling (a template argument of the loop around) or not.
BASCULE_INLINE F32 apply(ActivationKind kind, F32 x, float alpha, float beta) {
  switch (kind) {
    case ActivationKind::none:
      return x;
    case ActivationKind::relu:
      return relu(x);
    case ActivationKind::leaky_relu:
      return leaky_relu(x, alpha);
    case ActivationKind::clip:
      return clip(x, alpha, beta);
    case ActivationKind::gelu:
      return gelu(x);
    case ActivationKind::gelu_tanh:
      return gelu_tanh(x);
    case ActivationKind::sigmoid:
      return sigmoid(x);
    case ActivationKind::tanh:
      return tanh(x);
    case ActivationKind::swish:
      return swish(x, alpha);
    case ActivationKind::hard_swish:
      return hard_swish(x);
    case ActivationKind::hard_sigmoid:
      return hard_sigmoid(x, alpha, beta);
    case ActivationKind::elu:
      return elu(x, alpha);
  }
  return x;
}

}  // namespace
}  // namespace bascule::BASCULE_ISA
