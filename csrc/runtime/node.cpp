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

// An empty list has no kind: it arrives as one of integers.
bool is_empty_list(const NodeSpec& node, const std::string& name) {
  const auto found = node.attributes.find(name);
  if (found == node.attributes.end()) return false;
  const auto* list = std::get_if<std::vector<int64_t>>(&found->second);
  return list != nullptr && list->empty();
}

}  // namespace

bool ValueSpec::takes(DType tensor_dtype, const Shape& tensor_shape) const {
  if (dtype != DType::undefined && dtype != tensor_dtype) return false;
  if (!shape) return true;
  if (rank() != tensor_shape.rank()) return false;
  for (int axis = 0; axis < rank(); ++axis) {
    if (dim(axis) >= 0 && dim(axis) != tensor_shape[axis]) return false;
  }
  return true;
}

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
  const auto* value = find<std::vector<int64_t>>(*this, key, "a list of integers");
  return value ? *value : std::move(fallback);
}

std::vector<float> NodeSpec::get_floats(const std::string& key, std::vector<float> fallback) const {
  if (is_empty_list(*this, key)) return {};
  const auto* value = find<std::vector<float>>(*this, key, "a list of floats");
  return value ? *value : std::move(fallback);
}

std::vector<std::string> NodeSpec::get_strings(const std::string& key) const {
  if (is_empty_list(*this, key)) return {};
  const auto* value = find<std::vector<std::string>>(*this, key, "a list of strings");
  return value ? *value : std::vector<std::string>{};
}

const Tensor* NodeSpec::get_tensor(const std::string& key) const {
  return find<Tensor>(*this, key, "a tensor");
}

std::shared_ptr<const GraphSpec> NodeSpec::get_graph(const std::string& key) const {
  const auto* value = find<std::shared_ptr<const GraphSpec>>(*this, key, "a graph");
  return value ? *value : nullptr;
}

}  // namespace bascule
