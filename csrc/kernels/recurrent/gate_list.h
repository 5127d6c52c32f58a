// SPDX-License-Identifier: Apache-2.0
// The activations that a recurrent node asks for.
#pragma once

#include <string>
#include <vector>

#include "kernels/recurrent/gates.h"
#include "runtime/node.h"

namespace bascule {

// `directions` times as many as there are defaults, from the attributes `activations`,
// `activation_alpha` and `activation_beta`. An error for unknown names or a wrong number.
std::vector<Gate> parse_gates(const NodeSpec& node, int64_t directions,
                              const std::vector<std::string>& defaults);

}  // namespace bascule
