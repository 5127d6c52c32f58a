// SPDX-License-Identifier: Apache-2.0
#include "runtime/library_operator.h"

#include <algorithm>
#include <utility>

#include "core/error.h"
#include "runtime/library_call.h"
#include "runtime/library_node.h"

namespace bascule {

namespace {

using Parameter = LibraryOperator::Parameter;

bool allows(const Parameter& parameter, DType dtype) {
  return (parameter.dtypes >> static_cast<int>(dtype) & 1) != 0;
}

std::string names_of(uint64_t dtypes) {
  std::string text;
  for (int number = 1; number < dtype_count; ++number) {
    if ((dtypes >> number & 1) == 0) continue;
    text += (text.empty() ? "" : ", ") + std::string(name_of(static_cast<DType>(number)));
  }
  return text;
}

// Why input i may not have this element type; empty if it may. `first` is that of the input which
// it has to have, as far as that is known.
std::string type_problem(const Parameter& parameter, size_t i, DType dtype, DType first) {
  const std::string is =
      "input " + std::to_string(i) + " '" + parameter.name + "' is tensor(" + name_of(dtype) + ")";
  if (!allows(parameter, dtype)) return is + "; the operator takes " + names_of(parameter.dtypes);
  if (parameter.same_as < 0 || first == DType::undefined || first == dtype) return "";
  return is + ", and input " + std::to_string(parameter.same_as) + " tensor(" + name_of(first) +
         "); they have to be the same";
}

// Runs a function of a library, which reports an error or throws what it should not.
template <class Function>
void guarded(Code code, Function&& function) {
  bascule_error error;
  int32_t failed = 1;
  try {
    failed = function(&error);
  } catch (const std::exception& raised) {
    error.text = std::string("an exception left the library: ") + raised.what();
  } catch (...) {
    error.text = "an exception left the library";
  }
  if (failed == 0) return;
  throw Error(code, error.text.empty() ? "the library gave no reason" : error.text);
}

class LibraryKernel final : public Kernel {
 public:
  LibraryKernel(std::shared_ptr<const OperatorLibrary> library, const LibraryOperator& op,
                const NodeSpec& node)
      : library_(std::move(library)), op_(op), node_(op, node), outputs_(node.outputs) {
    for (ValueSpec& output : outputs_) output.constant = nullptr;
    if (op.plain.create == nullptr) return;
    guarded(Code::invalid_graph, [&](bascule_error* error) {
      return op_.plain.create(op_.own, &node_, &state_, error);
    });
  }
  ~LibraryKernel() override {
    if (state_ == nullptr || op_.plain.destroy == nullptr) return;
    try {
      op_.plain.destroy(op_.own, state_);
    } catch (...) {  // nobody can be told
    }
  }

  void run(RunContext& c) const override {
    check_inputs(c);
    bascule_call call(c, op_, node_, outputs_);
    try {
      guarded(Code::fail, [&](bascule_error* error) {
        return op_.plain.compute(op_.own, state_, &call, error);
      });
    } catch (const Error&) {
      call.rethrow();  // what we refused is why
      throw;
    }
    call.rethrow();
    call.check_outputs();
  }

 private:
  void check_inputs(const RunContext& c) const {
    for (int i = 0; i < c.input_count(); ++i) {
      const Parameter* parameter = LibraryOperator::find(op_.inputs, static_cast<size_t>(i));
      if (parameter == nullptr || !c.has_input(i)) continue;
      const int other = parameter->same_as;
      const bool known = other >= 0 && c.has_input(other);
      const DType first = known ? c.input(other).dtype() : DType::undefined;
      const DType dtype = c.input(i).dtype();
      if (allows(*parameter, dtype) && (!known || dtype == first)) continue;
      fail(type_problem(*parameter, static_cast<size_t>(i), dtype, first));
    }
  }

  std::shared_ptr<const OperatorLibrary> library_;
  const LibraryOperator& op_;
  bascule_node node_;
  std::vector<ValueSpec> outputs_;
  void* state_ = nullptr;
};

class OperatorOfLibrary final : public HostOperator {
 public:
  OperatorOfLibrary(std::shared_ptr<const OperatorLibrary> library, size_t index)
      : library_(std::move(library)), op_(library_->operators().at(index)) {}

  std::string name() const override { return library_->name(); }
  std::string runs_by() const override { return "the library " + library_->name(); }
  bool keeps_inputs() const override { return false; }

  Capability capability(const NodeSpec& node) const override {
    check_counts(node, node.inputs, op_.inputs, "input");
    check_counts(node, node.outputs, op_.outputs, "output");
    check_attributes(node);
    for (const auto* values : {&node.inputs, &node.outputs}) {
      for (const ValueSpec& each : *values) {
        if (each.present() && each.kind != ValueKind::tensor) {
          return reject("'" + each.name + "' is no tensor, and libraries take nothing else");
        }
      }
    }
    const std::string problem = inputs_problem(node);
    return problem.empty() ? accept : reject(problem);
  }

  std::vector<std::optional<OutputType>> types(const NodeSpec& node) const override {
    check_counts(node, node.inputs, op_.inputs, "input");
    check_counts(node, node.outputs, op_.outputs, "output");
    check_attributes(node);
    std::vector<std::optional<OutputType>> found(node.outputs.size());
    if (!inputs_problem(node).empty()) return found;  // capability() tells of it
    if (op_.plain.infer != nullptr) {
      bascule_node view(op_, node);
      view.found.resize(node.outputs.size());
      guarded_infer(node, view);
      found = std::move(view.found);
    }
    for (size_t i = 0; i < found.size(); ++i) {
      if (found[i] && found[i]->dtype != DType::undefined) continue;
      const DType dtype = declared_type(node, i);
      if (dtype == DType::undefined) continue;
      if (!found[i]) found[i].emplace();
      found[i]->dtype = dtype;
    }
    return found;
  }

  std::unique_ptr<Kernel> kernel(const NodeSpec& node) const override {
    return std::make_unique<LibraryKernel>(library_, op_, node);
  }

 private:
  [[noreturn]] void wrong(const NodeSpec& node, const std::string& what) const {
    throw Error(Code::invalid_graph, op_.domain + "." + op_.name + " node '" + node.name +
                                         "': " + what + " (" + library_->name() + ")");
  }

  void guarded_infer(const NodeSpec& node, bascule_node& view) const {
    try {
      guarded(Code::invalid_graph,
              [&](bascule_error* error) { return op_.plain.infer(op_.own, &view, error); });
    } catch (const Error& error) {
      wrong(node, view.problem.empty() ? error.what() : view.problem);
    }
    if (!view.problem.empty()) wrong(node, view.problem);
  }

  void check_counts(const NodeSpec& node, const std::vector<ValueSpec>& values,
                    const std::vector<Parameter>& parameters, const std::string& what) const {
    const bool any_number = !parameters.empty() && parameters.back().variadic;
    if (values.size() > parameters.size() && !any_number) {
      wrong(node, "it has " + std::to_string(values.size()) + " " + what + "s; the operator has " +
                      std::to_string(parameters.size()));
    }
    for (size_t i = 0; i < parameters.size(); ++i) {
      if (parameters[i].optional || parameters[i].variadic) continue;
      // An output that nobody reads is not present, and there all the same.
      const bool there = i < values.size() && (what == "output" || values[i].present());
      if (!there) {
        wrong(node, what + " " + std::to_string(i) + " '" + parameters[i].name + "' is left out");
      }
    }
  }

  void check_attributes(const NodeSpec& node) const {
    static const std::map<int, const char*> names = {
        {BASCULE_FLOAT, "a float"},   {BASCULE_INT, "an integer"},
        {BASCULE_STRING, "a string"}, {BASCULE_TENSOR, "a tensor of numbers"},
        {BASCULE_FLOATS, "floats"},   {BASCULE_INTS, "integers"},
        {BASCULE_STRINGS, "strings"},
    };
    for (const auto& rule : op_.attributes) {
      const auto given = node.attributes.find(rule.name);
      if (given == node.attributes.end()) {
        if (rule.required) wrong(node, "attribute '" + rule.name + "' is missing");
      } else if (!is_of_kind(given->second, rule.kind)) {
        wrong(node, "attribute '" + rule.name + "' is not " + names.at(rule.kind));
      }
    }
    for (const auto& [name, value] : node.attributes) {
      const bool is_known = std::any_of(op_.attributes.begin(), op_.attributes.end(),
                                        [&](const auto& rule) { return rule.name == name; });
      if (!is_known) wrong(node, "the operator has no attribute '" + name + "'");
    }
  }

  // Why the element types of the inputs, as far as they are known, cannot be; empty if they can.
  std::string inputs_problem(const NodeSpec& node) const {
    for (size_t i = 0; i < node.inputs.size(); ++i) {
      if (node.dtype(i) == DType::undefined) continue;
      const Parameter& parameter = *LibraryOperator::find(op_.inputs, i);
      const DType first = parameter.same_as < 0
                              ? DType::undefined
                              : node.dtype(static_cast<size_t>(parameter.same_as));
      const std::string problem = type_problem(parameter, i, node.dtype(i), first);
      if (!problem.empty()) return problem;
    }
    return "";
  }

  DType declared_type(const NodeSpec& node, size_t i) const {
    const Parameter* parameter = LibraryOperator::find(op_.outputs, i);
    if (parameter == nullptr) return DType::undefined;
    if (parameter->same_as >= 0) return node.dtype(static_cast<size_t>(parameter->same_as));
    for (int number = 1; number < dtype_count; ++number) {
      if (parameter->dtypes == uint64_t{1} << number) return static_cast<DType>(number);
    }
    const DType first = node.dtype(0);
    return allows(*parameter, first) ? first : DType::undefined;
  }

  std::shared_ptr<const OperatorLibrary> library_;
  const LibraryOperator& op_;
};

}  // namespace

std::shared_ptr<HostOperator> make_library_operator(std::shared_ptr<const OperatorLibrary> library,
                                                    size_t index) {
  return std::make_shared<OperatorOfLibrary>(std::move(library), index);
}

}  // namespace bascule
