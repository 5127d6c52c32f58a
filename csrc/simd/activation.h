// SPDX-License-Identifier: Apache-2.0
// Activations on vectors of floats: the same arithmetic for an activation of its own and for one
// that another kernel applies to its result.
#pragma once

#include "simd/activation_kind.h"
#include "simd/math.h"

namespace bascule::BASCULE_ISA {
namespace {

BASCULE_INLINE F32 relu(F32 x) { return at_least(set(0.0f), x); }
BASCULE_INLINE F32 leaky_relu(F32 x, float alpha) { return x < 0.0f ? x * alpha : x; }
BASCULE_INLINE F32 clip(F32 x, float least, float largest) {
  return at_most(set(largest), at_least(set(least), x));
}
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
// x / (1 + 2^t). The power's polynomial is within 1e-7; the rounding of t makes a relative error of
// 4e-8 times |t| where t > 0, so that the smaller the result beside x, the larger its error.
BASCULE_INLINE F32 swish(F32 x, float alpha) {
  // Beyond these 2^t adds nothing or is infinite.
  const F32 t = at_most(set(129.0f), at_least(set(-126.0f), x * (alpha * -log2_e)));
  const F32 n = round(t);
  const F32 power = scale_by_power(polynomial(t - n, set(1.32647273e-3f), 9.67151277e-3f,
                                              5.55073374e-2f, 2.40222421e-1f, 6.93146978e-1f, 1.0f),
                                   n);
  return x / (power + 1.0f);
}
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
