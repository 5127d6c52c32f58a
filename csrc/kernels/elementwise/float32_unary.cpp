// SPDX-License-Identifier: Apache-2.0
// instruction sets: base avx2 avx512
// Elementwise functions of one float32 operand.
#include "kernels/elementwise/tile.h"
#include "simd/activation.h"
#include "simd/inverse_trigonometry.h"

namespace bascule::BASCULE_ISA {
namespace {

// One copy of the arithmetic: the tail is a vector like the others.
template <class Function>
void map(const TileOp& op, const void* a, const void*, const void*, void* y, int64_t n) {
  const float* x = static_cast<const float*>(a);
  float* out = static_cast<float*>(y);
  const float alpha = op.alpha, beta = op.beta;
  int64_t i = 0;
  if constexpr (Function::cheap) {
    for (; i + lanes <= n; i += lanes) store(out + i, Function::apply(load(x + i), alpha, beta));
    if (i < n) store(out + i, Function::apply(load(x + i, n - i, 1), alpha, beta), n - i);
  } else {
    for (; i < n; i += lanes) {
      store(out + i, Function::apply(load(x + i, n - i, 1), alpha, beta), n - i);
    }
  }
}

#define BASCULE_FUNCTION(Name, is_cheap, ...)                                                    \
  struct Name {                                                                                  \
    static constexpr bool cheap = is_cheap;                                                      \
    BASCULE_INLINE F32 apply(F32 x, [[maybe_unused]] float alpha, [[maybe_unused]] float beta) { \
      return __VA_ARGS__;                                                                        \
    }                                                                                            \
  }

BASCULE_INLINE F32 softplus(F32 x) { return max(x, set(0.0f)) + log1p(exp(-abs(x))); }
BASCULE_INLINE F32 mish(F32 x) {
  // tanh(log(1 + e)) = e (e + 2) / (e (e + 2) + 2), which is 1 from 20 on.
  const F32 e = exp(at_most(set(20.0f), x));
  const F32 product = e * (e + 2.0f);
  return x * (product / (product + 2.0f));
}

BASCULE_FUNCTION(Abs, true, abs(x));
BASCULE_FUNCTION(Neg, true, -x);
BASCULE_FUNCTION(Sign, true, x > 0.0f ? set(1.0f) : (x < 0.0f ? set(-1.0f) : x));
BASCULE_FUNCTION(Ceil, true, ceil(x));
BASCULE_FUNCTION(Floor, true, floor(x));
BASCULE_FUNCTION(Round, true, round(x));
BASCULE_FUNCTION(Sqrt, true, sqrt(x));
BASCULE_FUNCTION(Reciprocal, true, 1.0f / x);
BASCULE_FUNCTION(Exp, false, exp(x));
BASCULE_FUNCTION(Log, false, log(x));
BASCULE_FUNCTION(Sin, false, sin(x));
BASCULE_FUNCTION(Cos, false, cos(x));
BASCULE_FUNCTION(Asin, false, asin(x));
BASCULE_FUNCTION(Acos, false, acos(x));
BASCULE_FUNCTION(Atan, false, atan(x));
BASCULE_FUNCTION(Tanh, false, tanh(x));
BASCULE_FUNCTION(Erf, false, erf(x));
BASCULE_FUNCTION(Sigmoid, false, sigmoid(x));
BASCULE_FUNCTION(Softplus, false, softplus(x));
BASCULE_FUNCTION(Softsign, true, x / (abs(x) + 1.0f));
BASCULE_FUNCTION(Relu, true, relu(x));
BASCULE_FUNCTION(LeakyRelu, true, leaky_relu(x, alpha));
BASCULE_FUNCTION(Elu, false, elu(x, alpha));
BASCULE_FUNCTION(Selu, false, elu(x, alpha) * beta);
BASCULE_FUNCTION(Celu, false, x < 0.0f ? expm1(x / alpha) * alpha : x);
BASCULE_FUNCTION(ThresholdedRelu, true, x > alpha ? x : set(0.0f));
BASCULE_FUNCTION(HardSigmoid, true, hard_sigmoid(x, alpha, beta));
BASCULE_FUNCTION(HardSwish, true, hard_swish(x));
BASCULE_FUNCTION(Gelu, false, gelu(x));
BASCULE_FUNCTION(GeluTanh, false, gelu_tanh(x));
BASCULE_FUNCTION(Swish, false, swish(x, alpha));
BASCULE_FUNCTION(Mish, false, mish(x));
BASCULE_FUNCTION(Shrink, true, x < -alpha ? x + beta : (x > alpha ? x - beta : set(0.0f)));

struct Entry {
  const char* name;
  TileFunction function;
};

}  // namespace

// The function of operator `name` ("GeluTanh" is Gelu's approximation), or null.
TileFunction float32_unary(const char* name) {
  static constexpr Entry entries[] = {
      {"Abs", map<Abs>},
      {"Neg", map<Neg>},
      {"Sign", map<Sign>},
      {"Ceil", map<Ceil>},
      {"Floor", map<Floor>},
      {"Round", map<Round>},
      {"Sqrt", map<Sqrt>},
      {"Reciprocal", map<Reciprocal>},
      {"Exp", map<Exp>},
      {"Log", map<Log>},
      {"Sin", map<Sin>},
      {"Cos", map<Cos>},
      {"Asin", map<Asin>},
      {"Acos", map<Acos>},
      {"Atan", map<Atan>},
      {"Tanh", map<Tanh>},
      {"Erf", map<Erf>},
      {"Sigmoid", map<Sigmoid>},
      {"Softplus", map<Softplus>},
      {"Softsign", map<Softsign>},
      {"Relu", map<Relu>},
      {"LeakyRelu", map<LeakyRelu>},
      {"Elu", map<Elu>},
      {"Selu", map<Selu>},
      {"Celu", map<Celu>},
      {"ThresholdedRelu", map<ThresholdedRelu>},
      {"HardSigmoid", map<HardSigmoid>},
      {"HardSwish", map<HardSwish>},
      {"Gelu", map<Gelu>},
      {"GeluTanh", map<GeluTanh>},
      {"Swish", map<Swish>},
      {"Mish", map<Mish>},
      {"Shrink", map<Shrink>},
  };
  for (const Entry& entry : entries) {
    if (__builtin_strcmp(entry.name, name) == 0) return entry.function;
  }
  return nullptr;
}

}  // namespace bascule::BASCULE_ISA
