// SPDX-License-Identifier: Apache-2.0
// A graph as the compiler of Programs gets it: what a kernel sees of its node before it runs.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "core/tensor.h"
#include "core/value.h"

namespace bascule {

struct GraphSpec;
class HostOperator;

using Attribute =
    std::variant<int64_t, float, std::string, Tensor, std::vector<int64_t>, std::vector<float>,
                 std::vector<std::string>, std::shared_ptr<const GraphSpec>>;

// What is known of a value before any run.
struct ValueSpec {
  std::string name;
  ValueKind kind = ValueKind::tensor;         // none: an input that is left out
  bool optional = false;                      // may also be nothing at run time
  DType dtype = DType::undefined;             // of the tensor, or of a sequence's tensors
  std::optional<std::vector<int64_t>> shape;  // -1 for a size that is not known
  const Tensor* constant = nullptr;           // set for constants while a kernel is chosen and made

  bool present() const { return kind != ValueKind::none; }
  // The rank, or -1 when unknown.
  int rank() const { return shape ? static_cast<int>(shape->size()) : -1; }
  // The size of one axis, or -1 when unknown.
  int64_t dim(int axis) const { return shape ? (*shape)[static_cast<size_t>(axis)] : -1; }
  // Whether a tensor is what this says, as far as it says something.
  bool takes(DType tensor_dtype, const Shape& tensor_shape) const;
};

// One node. Nested graphs are attributes; the values that they capture follow the node's own
// inputs (see captures).
struct NodeSpec {
  std::string op_type;
  std::string domain;
  std::string name;
  std::vector<ValueSpec> inputs;
  std::vector<ValueSpec> outputs;
  std::map<std::string, Attribute> attributes;
  // The operator, where it is not one of ours (see kernel.h), or why it cannot run.
  std::shared_ptr<const HostOperator> host;
  std::string host_refusal;

  // Attributes with the default that the standard gives; an error when the type is another.
  int64_t get_int(const std::string& name, int64_t fallback) const;
  float get_float(const std::string& name, float fallback) const;
  std::string get_string(const std::string& name, const std::string& fallback) const;
  std::vector<int64_t> get_ints(const std::string& name, std::vector<int64_t> fallback = {}) const;
  std::vector<float> get_floats(const std::string& name, std::vector<float> fallback = {}) const;
  std::vector<std::string> get_strings(const std::string& name) const;
  const Tensor* get_tensor(const std::string& name) const;  // nullptr when absent
  std::shared_ptr<const GraphSpec> get_graph(const std::string& name) const;
  bool has(const std::string& name) const { return attributes.count(name) > 0; }

  bool has_input(size_t i) const { return i < inputs.size() && inputs[i].present(); }
  bool has_output(size_t i) const { return i < outputs.size() && outputs[i].present(); }
  // The type of input i, undefined when it is absent.
  DType dtype(size_t i = 0) const { return has_input(i) ? inputs[i].dtype : DType::undefined; }
  // The constant at input i, or nullptr when it is computed at run time.
  const Tensor* constant(size_t i) const { return has_input(i) ? inputs[i].constant : nullptr; }

  // Whether input i is weights that are not to be packed: kernels then see no constant. Said by an
  // attribute no model can have.
  bool stays_unpacked(size_t i) const { return i == 1 && has("bascule.unpacked"); }

  // A kernel that has packed constant i and will not read the input again says so: the program
  // then lets go of the memory, and of the pages of a mapped file.
  void release_constant(size_t i) const { released_.push_back(i); }
  const std::vector<size_t>& released() const { return released_; }

  // "Conv node 'layer1/conv'" for messages.
  std::string text() const;

 private:
  mutable std::vector<size_t> released_;
};

// Values are numbered: 0.. in `values`. Nodes are in execution order.
struct GraphSpec {
  std::string name;
  std::vector<ValueSpec> values;
  std::vector<int> inputs;  // formal inputs, then captured values of the graphs around
  int captures = 0;         // how many of the inputs are captured
  std::vector<int> outputs;
  struct Step {
    NodeSpec node;
    std::vector<int> inputs;   // -1: left out
    std::vector<int> outputs;  // -1: not wanted
  };
  std::vector<Step> nodes;
  std::map<int, Tensor> constants;
};

}  // namespace bascule
