// SPDX-License-Identifier: Apache-2.0
#include "kernels/control/subgraph.h"

#include <algorithm>

#include "runtime/clock_ticks.h"

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

void Turns::next(const RunContext& c) {
  const RunSettings& settings = c.settings();
  if (settings.terminate != nullptr && settings.terminate->load(std::memory_order_relaxed)) {
    fail("Exiting due to terminate flag being set to true.");
  }
  if (settings.poll != nullptr && --left_ == 0) look(c);
}

void Turns::look(const RunContext& c) {
  constexpr int64_t interval = 100'000'000;
  const int64_t now = steady_ns();
  if (looked_ == 0) looked_ = polled_ = now;
  if (now - polled_ >= interval) {
    polled_ = now;
    c.settings().poll();
  }
  const bool often = now - looked_ < interval / 16;
  stride_ = often ? std::min(stride_ * 2, int64_t{1} << 20) : std::max<int64_t>(stride_ / 2, 1);
  left_ = stride_;
  looked_ = now;
}

Shape empty_stack_shape(const ValueSpec& item, const ValueSpec& whole, int64_t axis) {
  const auto known = [](const ValueSpec& value) {
    Shape shape;
    if (value.shape) shape = Shape(*value.shape);
    for (int i = 0; i < shape.rank(); ++i) shape[i] = std::max<int64_t>(shape[i], 0);
    return shape;
  };
  Shape shape = known(item);
  shape.insert(Shape::filled(shape.rank() + 1, 1).axis(axis), 0);
  const Shape declared = known(whole);
  if (declared.rank() == 0) return shape;
  if (declared.rank() != shape.rank()) shape = declared;
  for (int i = 0; i < shape.rank(); ++i) shape[i] = std::max(shape[i], declared[i]);
  shape[shape.axis(axis)] = 0;
  return shape;
}

}  // namespace bascule
