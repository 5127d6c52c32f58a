// SPDX-License-Identifier: Apache-2.0
// Ways of computing the same node among which a measurement may decide.
#pragma once

#include <string>
#include <vector>

#include "runtime/node.h"

namespace bascule {

// The names of the ways in which a kernel could compute a node other than the one it would choose,
// each within the accuracy that is promised anyway, with this many threads.
using Alternatives = std::vector<std::string> (*)(const NodeSpec&, int threads);

bool register_alternatives(const char* domain, const char* op_type, Alternatives alternatives);

// Those of a node; none where a kernel offers no choice.
std::vector<std::string> alternatives(const NodeSpec& node, int threads);

// What was chosen for a node stands in attributes of these names, which no model can have. A
// kernel that does not know the alternative ignores it.
inline constexpr const char* alternative_attribute = "bascule.alternative";
inline constexpr const char* threads_attribute = "bascule.threads";

// The alternative that is asked for; empty: the kernel decides.
inline std::string chosen_alternative(const NodeSpec& node) {
  return node.get_string(alternative_attribute, "");
}

// BASCULE_ALTERNATIVES("", "Conv", function); at namespace scope.
#define BASCULE_ALTERNATIVES(domain, op_type, function)                                 \
  [[maybe_unused]] static const bool BASCULE_JOIN(registered_alternatives_, __LINE__) = \
      ::bascule::register_alternatives(domain, op_type, function)

}  // namespace bascule
