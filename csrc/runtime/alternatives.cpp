// SPDX-License-Identifier: Apache-2.0
#include "runtime/alternatives.h"

#include <map>
#include <utility>

namespace bascule {

namespace {

std::map<std::pair<std::string, std::string>, Alternatives>& registry() {
  static std::map<std::pair<std::string, std::string>, Alternatives> entries;
  return entries;
}

}  // namespace

bool register_alternatives(const char* domain, const char* op_type, Alternatives alternatives) {
  return registry().emplace(std::pair(domain, op_type), alternatives).second;
}

std::vector<std::string> alternatives(const NodeSpec& node, int threads) {
  const auto found = registry().find({node.domain, node.op_type});
  return found == registry().end() ? std::vector<std::string>{} : found->second(node, threads);
}

}  // namespace bascule
