// SPDX-License-Identifier: Apache-2.0
// The activation at the end of a fused convolution or product. What a node's attributes ask for is
// known at run time only; the branch is the same for all threads.
#pragma once

#include "common.cuh"

// The numbers that providers/cuda/activation.py passes.
struct Activation {
  enum Kind {
    none,
    relu,
    leaky_relu,
    clip,
    gelu,
    gelu_tanh,
    sigmoid,
    tanh,
    swish,
    hard_swish,
    hard_sigmoid,
    elu,
  };
  int kind;
  float alpha;
  float beta;
};

namespace activation {

// NaN stays NaN.
template <typename W>
__device__ inline W clip(W x, W least, W largest) {
  return x < least ? least : x > largest ? largest : x;
}
template <typename W>
__device__ inline W sigmoid(W x) {
  return W{1} / (W{1} + exp(-x));
}

}  // namespace activation

template <typename W>
__device__ inline W activate(const Activation& a, W x) {
  const W alpha = static_cast<W>(a.alpha), beta = static_cast<W>(a.beta);
  switch (a.kind) {
    case Activation::relu:
      return x < W{0} ? W{0} : x;
    case Activation::leaky_relu:
      return x < W{0} ? x * alpha : x;
    case Activation::clip:
      return activation::clip(x, alpha, beta);
    case Activation::gelu:
      return x * W(0.5) * (erf(x * W(0.70710678118654752440)) + W{1});
    case Activation::gelu_tanh:
      return x * W(0.5) * (::tanh(W(0.79788456080286535588) * (x + W(0.044715) * x * x * x)) + W{1});
    case Activation::sigmoid:
      return activation::sigmoid(x);
    case Activation::tanh:
      return ::tanh(x);
    case Activation::swish:
      return x * activation::sigmoid(alpha * x);
    case Activation::hard_swish:
      return x * activation::clip(x * W(1.0 / 6) + W(0.5), W{0}, W{1});
    case Activation::hard_sigmoid:
      return activation::clip(x * alpha + beta, W{0}, W{1});
    case Activation::elu:
      return x < W{0} ? expm1(x) * alpha : x;
    default:
      return x;
  }
}
