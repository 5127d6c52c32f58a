// SPDX-License-Identifier: Apache-2.0
#include "kernels/control/subgraph.h"

namespace bascule {

namespace {

const GraphSpec& graph_of(const NodeSpec& node, const std::string& attribute) {
  const auto graph = node.get_graph(attribute);
  if (graph == nullptr) {
    throw Error(Code::invalid_graph, "attribute '" + attribute + "' is required");
  }
  return *graph;
}

}  // namespace

Subgraph::Subgraph(const NodeSpec& node, const std::string& attribute)
    : captures_(graph_of(node, attribute).captures), program_(graph_of(node, attribute)) {}

void Subgraph::append_captures(const RunContext& c, int first, std::vector<Value>& values) const {
  for (int i = 0; i < captures_; ++i) values.push_back(any_input(c, first + i));
}

Capability subgraphs_capability(const NodeSpec& node) {
  for (const auto& [name, attribute] : node.attributes) {
    const auto* graph = std::get_if<std::shared_ptr<const GraphSpec>>(&attribute);
    if (graph == nullptr || *graph == nullptr) continue;
    for (const GraphSpec::Step& step : (*graph)->nodes) {
      NodeSpec nested = step.node;
      for (size_t i = 0; i < step.inputs.size(); ++i) {
        const auto constant = (*graph)->constants.find(step.inputs[i]);
        if (constant != (*graph)->constants.end()) nested.inputs[i].constant = &constant->second;
      }
      const KernelChoice choice = choose_kernel(nested);
      if (choice.entry == nullptr) {
        return reject("in its graph '" + name + "', " + nested.text() + ": " + choice.reason);
      }
    }
  }
  return accept;
}

bool condition(const Value& value) {
  const Tensor& tensor = value.tensor();
  if (tensor.dtype() != DType::boolean || tensor.size() != 1) {
    invalid(std::string("the condition must be one bool, got ") + name_of(tensor.dtype()) +
            tensor.shape().text());
  }
  return *tensor.data<bool>();
}

void check_terminate(const RunContext& c) {
  const std::atomic<bool>* terminate = c.settings().terminate;
  if (terminate != nullptr && terminate->load(std::memory_order_relaxed)) {
    fail("Exiting due to terminate flag being set to true.");
  }
}

Shape empty_item_shape(const ValueSpec& output) {
  if (!output.shape) return {};
  Shape shape(*output.shape);
  for (int i = 0; i < shape.rank(); ++i) shape[i] = std::max<int64_t>(shape[i], 0);
  return shape;
}

}  // namespace bascule
