// SPDX-License-Identifier: Apache-2.0
// The activations that a kernel can apply to its result before storing it, and what else may follow
// a matrix product.
#pragma once

#include "common.cuh"

// Numbered as in python/bascule/providers/cuda/activation.py.
enum ActivationKind : int {
  activation_none,
  activation_relu,
  activation_leaky_relu,  // alpha: slope below zero
  activation_clip,        // alpha: least, beta: largest
  activation_gelu,        // with erf
  activation_gelu_tanh,   // the approximation with tanh
  activation_sigmoid,
  activation_tanh,
  activation_swish,  // x * sigmoid(alpha * x)
  activation_hard_swish,
  activation_hard_sigmoid,  // alpha: slope, beta: offset
  activation_elu,           // alpha: scale below zero
};

template <typename W>
__device__ inline W clip_to(W x, W least, W largest) {
  return x < least ? least : x > largest ? largest : x;  // NaN stays
}

// W is float or double.
template <typename W>
__device__ inline W activate(int kind, W x, float alpha, float beta) {
  const W half = static_cast<W>(0.5), one = 1, zero = 0;
  switch (kind) {
    case activation_relu:
      return x < zero ? zero : x;
    case activation_leaky_relu:
      return x < zero ? x * alpha : x;
    case activation_clip:
      return clip_to<W>(x, alpha, beta);
    case activation_gelu:
      return x * half * (erf(x * static_cast<W>(0.70710678118654752440)) + one);
    case activation_gelu_tanh: {
      const W inner = x + static_cast<W>(0.044715) * x * x * x;
      return x * half * (tanh(inner * static_cast<W>(0.79788456080286535588)) + one);
    }
    case activation_sigmoid:
      return one / (one + exp(-x));
    case activation_tanh:
      return tanh(x);
    case activation_swish:
      return x / (one + exp(-x * alpha));
    case activation_hard_swish:
      return x * clip_to<W>(x / 6 + half, zero, one);
    case activation_hard_sigmoid:
      return clip_to<W>(x * alpha + beta, zero, one);
    case activation_elu:
      return x < zero ? expm1(x) * alpha : x;
    default:
      return x;
  }
}

// An activation as one kernel argument.
struct Activation {
  int kind;
  float alpha;
  float beta;
};

template <typename W>
__device__ inline W activate(const Activation& a, W x) {
  return activate<W>(a.kind, x, a.alpha, a.beta);
}

// What follows the sum of a product: activation(alpha * sum + bias[column] + residual[index]).
// Bias and residual may be null.
template <typename T>
struct Epilogue {
  using W = wide_t<T>;
  const T* bias;
  const T* residual;
  float alpha;
  int activation;
  float activation_alpha;
  float activation_beta;

  __device__ T operator()(W sum, int64_t index, int64_t column) const {
    W value = sum * static_cast<W>(alpha);
    if (bias != nullptr) value += widen(bias[column]);
    if (residual != nullptr) value += widen(residual[index]);
    return narrow<T>(activate<W>(activation, value, activation_alpha, activation_beta));
  }
};

// The parameters that make an Epilogue, last in a kernel's list, and their names to pass on.
#define EPILOGUE_PARAMETERS(T)                                                           \
  const T *bias, const T *residual, float alpha, int activation, float activation_alpha, \
      float activation_beta
#define EPILOGUE(T) \
  Epilogue<T> { bias, residual, alpha, activation, activation_alpha, activation_beta }
