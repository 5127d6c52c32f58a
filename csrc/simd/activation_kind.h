// SPDX-License-Identifier: Apache-2.0
// The activations that a kernel can apply to its result before storing it. Plain data: fit for
// files that are compiled per instruction set.
#pragma once

#include <cstdint>

namespace bascule {

enum class ActivationKind : uint8_t {
  none,
  relu,
  leaky_relu,  // alpha: slope below zero
  clip,        // alpha: least, beta: largest
  gelu,        // with erf
  gelu_tanh,   // the approximation with tanh
  sigmoid,
  tanh,
  swish,  // x * sigmoid(alpha * x)
  hard_swish,
  hard_sigmoid,  // alpha: slope, beta: offset
  elu,           // alpha: scale below zero
};

struct Activation {
  ActivationKind kind = ActivationKind::none;
  float alpha = 0;
  float beta = 0;
};

}  // namespace bascule
