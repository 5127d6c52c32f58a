// SPDX-License-Identifier: Apache-2.0
#include "kernels/recurrent/gate_list.h"

#include <algorithm>
#include <cctype>

#include "core/error.h"

namespace bascule {
namespace {

// An activation with its defaults, and how many parameters it takes from the lists.
struct Known {
  const char* name;
  Gate gate;
  int parameters;
};
constexpr Known known[] = {
    {"sigmoid", {GateKind::sigmoid, 0, 0}, 0},
    {"tanh", {GateKind::tanh, 0, 0}, 0},
    {"relu", {GateKind::relu, 0, 0}, 0},
    {"affine", {GateKind::affine, 1, 0}, 2},
    {"leakyrelu", {GateKind::leaky_relu, 0.01f, 0}, 1},
    {"thresholdedrelu", {GateKind::thresholded_relu, 1, 0}, 1},
    {"scaledtanh", {GateKind::scaled_tanh, 1, 1}, 2},
    {"hardsigmoid", {GateKind::hard_sigmoid, 0.2f, 0.5f}, 2},
    {"elu", {GateKind::elu, 1, 0}, 1},
    {"softsign", {GateKind::softsign, 0, 0}, 0},
    {"softplus", {GateKind::softplus, 0, 0}, 0},
};

}  // namespace

std::vector<Gate> parse_gates(const NodeSpec& node, int64_t directions,
                              const std::vector<std::string>& defaults) {
  std::vector<std::string> names = node.get_strings("activations");
  const std::vector<float> alphas = node.get_floats("activation_alpha");
  const std::vector<float> betas = node.get_floats("activation_beta");
  const size_t expected = defaults.size() * static_cast<size_t>(directions);
  if (names.empty()) {
    for (int64_t i = 0; i < directions; ++i) {
      names.insert(names.end(), defaults.begin(), defaults.end());
    }
  }
  if (names.size() != expected) {
    invalid("attribute 'activations' has " + std::to_string(names.size()) + " names, expected " +
            std::to_string(expected));
  }
  std::vector<Gate> gates;
  size_t alpha = 0;
  size_t beta = 0;
  for (const std::string& name : names) {
    std::string lower = name;
    std::transform(lower.begin(), lower.end(), lower.begin(),
                   [](unsigned char letter) { return static_cast<char>(std::tolower(letter)); });
    const auto* found = std::find_if(std::begin(known), std::end(known),
                                     [&](const Known& one) { return lower == one.name; });
    if (found == std::end(known)) invalid("activation '" + name + "' is not known");
    Gate gate = found->gate;
    // Only the activations that have parameters take some from the lists.
    if (found->parameters > 0 && alpha < alphas.size()) gate.alpha = alphas[alpha++];
    if (found->parameters > 1 && beta < betas.size()) gate.beta = betas[beta++];
    gates.push_back(gate);
  }
  return gates;
}

}  // namespace bascule
