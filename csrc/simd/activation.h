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
BASCULE_INLINE F32 gelu(F32 x) { return x * 0.5f * (erf(x * 0.70710678118654752f) + 1.0f); }
BASCULE_INLINE F32 gelu_tanh(F32 x) {
  const F32 inner = fma(x * x * x, set(0.044715f), x) * 0.79788456080286536f;
  return x * 0.5f * (tanh(inner) + 1.0f);
}
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
