// SPDX-License-Identifier: Apache-2.0
#include "runtime/node.h"

#include "core/error.h"

namespace bascule {

namespace {

template <class T>
const T* find(const NodeSpec& node, const std::string& name, const char* expected) {
  const auto found = node.attributes.find(name);
  if (found == node.attributes.end()) return nullptr;
  if (const T* value = std::get_if<T>(&found->second)) return value;
  throw Error(Code::invalid_graph, node.text() + ": attribute '" + name + "' is not " + expected);
}

// A list without elements arrives as one of integers, whatever it was.
template <class T>
std::vector<T> find_list(const NodeSpec& node, const std::string& name, const char* expected,
                         std::vector<T> fallback) {
  const auto found = node.attributes.find(name);
  if (found == node.attributes.end()) return fallback;
  const auto* integers = std::get_if<std::vector<int64_t>>(&found->second);
  if (integers != nullptr && integers->empty()) return {};
  return *find<std::vector<T>>(node, name, expected);
}

}  // namespace

std::string NodeSpec::text() const { return op_type + " node '" + name + "'"; }

int64_t NodeSpec::get_int(const std::string& key, int64_t fallback) const {
  const auto* value = find<int64_t>(*this, key, "an integer");
  return value ? *value : fallback;
}

float NodeSpec::get_float(const std::string& key, float fallback) const {
  const auto* value = find<float>(*this, key, "a float");
  return value ? *value : fallback;
}

std::string NodeSpec::get_string(const std::string& key, const std::string& fallback) const {
  const auto* value = find<std::string>(*this, key, "a string");
  return value ? *value : fallback;
}

std::vector<int64_t> NodeSpec::get_ints(const std::string& key,
                                        std::vector<int64_t> fallback) const {
  return find_list(*this, key, "a list of integers", std::move(fallback));
}

std::vector<float> NodeSpec::get_floats(const std::string& key, std::vector<float> fallback) const {
  return find_list(*this, key, "a list of floats", std::move(fallback));
}

std::vector<std::string> NodeSpec::get_strings(const std::string& key) const {
  return find_list<std::string>(*this, key, "a list of strings", {});
}

const Tensor* NodeSpec::get_tensor(const std::string& key) const {
  return find<Tensor>(*this, key, "a tensor");
}

std::shared_ptr<const GraphSpec> NodeSpec::get_graph(const std::string& key) const {
  const auto* value = find<std::shared_ptr<const GraphSpec>>(*this, key, "a graph");
  return value ? *value : nullptr;
}

}  // namespace bascule
