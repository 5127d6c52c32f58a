// SPDX-License-Identifier: Apache-2.0
// The activation that a node of domain `bascule` asks for in its attributes.
#pragma once

#include <limits>
#include <string>

#include "core/error.h"
#include "runtime/node.h"
#include "simd/activation_kind.h"

namespace bascule {

// From the attributes `activation` (an operator's name; "Gelu" and "GeluTanh" are its two forms),
// `activation_alpha` and `activation_beta`, with that operator's defaults; `prefix` stands before
// these names. No attribute, or an empty one: none. An error for any other name.
inline Activation parse_activation(const NodeSpec& node, const std::string& prefix = "") {
  struct Known {
    const char* name;
    ActivationKind kind;
    float alpha;
    float beta;
  };
  constexpr float largest = std::numeric_limits<float>::max();
  static constexpr Known known[] = {
      {"", ActivationKind::none, 0, 0},
      {"Relu", ActivationKind::relu, 0, 0},
      {"LeakyRelu", ActivationKind::leaky_relu, 0.01f, 0},
      {"Clip", ActivationKind::clip, -largest, largest},
      {"Gelu", ActivationKind::gelu, 0, 0},
      {"GeluTanh", ActivationKind::gelu_tanh, 0, 0},
      {"Sigmoid", ActivationKind::sigmoid, 0, 0},
      {"Tanh", ActivationKind::tanh, 0, 0},
      {"Swish", ActivationKind::swish, 1, 0},
      {"HardSwish", ActivationKind::hard_swish, 0, 0},
      {"HardSigmoid", ActivationKind::hard_sigmoid, 0.2f, 0.5f},
      {"Elu", ActivationKind::elu, 1, 0},
  };
  const std::string name = node.get_string(prefix + "activation", "");
  for (const Known& one : known) {
    if (name == one.name) {
      return {one.kind, node.get_float(prefix + "activation_alpha", one.alpha),
              node.get_float(prefix + "activation_beta", one.beta)};
    }
  }
  fail("activation '" + name + "' is not known");
}

}  // namespace bascule
