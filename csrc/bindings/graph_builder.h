// SPDX-License-Identifier: Apache-2.0
// How Python hands a graph over.
#pragma once

#include <pybind11/pybind11.h>

#include <memory>
#include <string>
#include <vector>

#include "runtime/node.h"

namespace bascule::bindings {

namespace py = pybind11;

// Collects a GraphSpec. Values are numbered in the order they are added.
class GraphBuilder {
 public:
  explicit GraphBuilder(std::string name) : graph_(std::make_shared<GraphSpec>()) {
    graph_->name = std::move(name);
  }

  // shape: None, or a sequence with -1 for sizes that are not known.
  int add_value(const std::string& name, int kind, bool optional, int dtype,
                const py::object& shape);
  // `data`: a buffer in the standard's raw form, or an object array of str for strings.
  void set_constant(int value, const std::vector<int64_t>& shape, const py::object& data,
                    bool mapped);
  void add_input(int value) { graph_->inputs.push_back(value); }
  void add_capture(int value) {
    graph_->inputs.push_back(value);
    graph_->captures += 1;
  }
  void add_output(int value) { graph_->outputs.push_back(value); }
  // `host`: the Python function or the HostOperator that runs the node, why there is none (a str),
  // or None for a node of a native kernel.
  int add_node(const std::string& op_type, const std::string& domain, const std::string& name,
               const std::vector<int>& inputs, const std::vector<int>& outputs,
               const py::dict& attributes, const py::object& host);
  // (kernel name, "") or (None, why not).
  py::tuple kernel_of(int node) const;
  // What the operator says of the outputs' types: by output (element type, sizes or None), or None;
  // [] for one of ours. Sizes as HostOperator::types has them.
  py::list types_of(int node) const;
  // Names of other ways in which its kernel could compute it.
  std::vector<std::string> alternatives_of(int node, int threads) const;

  const GraphSpec& graph() const { return *graph_; }
  std::shared_ptr<const GraphSpec> shared() const { return graph_; }

 private:
  std::shared_ptr<GraphSpec> graph_;
};

// The element data of a constant without a copy.
Tensor constant_tensor(DType dtype, const std::vector<int64_t>& shape, const py::object& data,
                       bool mapped);

void bind_graph_builder(py::module_& module);

}  // namespace bascule::bindings
