// SPDX-License-Identifier: Apache-2.0
#include "kernels/elementwise/tile_program.h"

#include <algorithm>
#include <cstring>
#include <map>

#include "kernels/elementwise/unbounded.h"

namespace bascule {
namespace {

using Place = TileProgram::Place;

class Compiler {
 public:
  Compiler(TileProgram& program, const GraphSpec& body) : program_(program), body_(body) {}

  std::string compile() {
    if (body_.captures > 0) return "the body reads values from outside";
    if (body_.inputs.size() > TileProgram::max_inputs) return "the body has too many inputs";
    for (size_t i = 0; i < body_.inputs.size(); ++i) {
      const DType dtype = body_.values[static_cast<size_t>(body_.inputs[i])].dtype;
      if (!fits(dtype)) return no_type(dtype);
      program_.input_sizes.push_back(item_size(dtype));
      places_[body_.inputs[i]] = {Place::Kind::input, static_cast<int>(i)};
    }
    program_.input_is_bound.assign(body_.inputs.size(), true);
    for (const auto& [value, tensor] : body_.constants) {
      if (tensor.size() != 1) return "the body has a constant that is not a scalar";
      if (!fits(tensor.dtype())) return no_type(tensor.dtype());
      places_[value] = {Place::Kind::constant, add_constant(tensor)};
    }
    find_last_uses();
    for (size_t i = 0; i < body_.nodes.size(); ++i) {
      const std::string reason = add_node(static_cast<int>(i));
      if (!reason.empty()) return body_.nodes[i].node.op_type + ": " + reason;
    }
    if (program_.steps.empty()) return "the body is empty";
    if (program_.steps.size() > TileProgram::max_steps) return "the body has too many nodes";
    for (size_t i = 0; i < body_.outputs.size(); ++i) {
      const auto found = results_.find(body_.outputs[i]);
      if (found == results_.end()) return "an output is not the result of a node";
      program_.outputs.push_back({found->second.dtype, found->second.place});
    }
    return "";
  }

 private:
  struct Result {
    DType dtype;
    Place place;
  };

  static bool fits(DType dtype) {
    return dtype != DType::undefined && dtype != DType::string && !is_packed(dtype) &&
           item_size(dtype) <= 8;
  }
  static std::string no_type(DType dtype) {
    return std::string("type ") + name_of(dtype) + " is not supported";
  }

  int add_constant(const Tensor& tensor) {
    program_.constants.push_back(tensor.clone());
    return static_cast<int>(program_.constants.size()) - 1;
  }

  void find_last_uses() {
    for (size_t i = 0; i < body_.nodes.size(); ++i) {
      for (const int value : body_.nodes[i].inputs) {
        if (value < 0) continue;
        last_use_[value] = static_cast<int>(i);
        if (is_input(value)) last_input_use_ = static_cast<int>(i);
      }
    }
  }

  bool is_input(int value) const {
    return std::find(body_.inputs.begin(), body_.inputs.end(), value) != body_.inputs.end();
  }
  int output_index(int value) const {
    const auto found = std::find(body_.outputs.begin(), body_.outputs.end(), value);
    return found == body_.outputs.end() ? -1 : static_cast<int>(found - body_.outputs.begin());
  }

  std::string add_node(int i) {
    const GraphSpec::Step& node = body_.nodes[static_cast<size_t>(i)];
    if (node.outputs.size() != 1 || node.outputs[0] < 0) return "it has not one output";
    // More than two operands: one after another, from left to right.
    const bool chain =
        node.inputs.size() > 2 && (node.node.op_type == "Max" || node.node.op_type == "Min");
    NodeSpec spec = node.node;
    std::vector<Place> operands;
    for (const int value : node.inputs) {
      operands.push_back(value < 0 ? Place{} : places_.at(value));
    }
    if (chain) spec.inputs.resize(2);
    ElementwiseOp op;
    const std::string reason = resolve_elementwise(spec, op);
    if (!reason.empty()) return reason;
    if (!fits(op.output)) return no_type(op.output);
    if (op.has_bounds) {
      const std::string refused = add_bounds(spec, operands);
      if (!refused.empty()) return refused;
    }
    const int count = op.tile.operands;
    if (!chain && static_cast<int>(operands.size()) < count) return "an operand is left out";
    for (size_t k = 0; k < operands.size(); ++k) {
      if (operands[k].kind == Place::Kind::none) return "an operand is left out";
      if (operands[k].kind == Place::Kind::input && !(op.has_bounds && k > 0)) {
        program_.input_is_bound[static_cast<size_t>(operands[k].index)] = false;
      }
    }
    program_.slot_item_size = std::max(program_.slot_item_size, item_size(op.output));
    for (size_t k = 0; k < spec.inputs.size(); ++k) {
      if (spec.inputs[k].present()) {
        program_.slot_item_size =
            std::max(program_.slot_item_size, item_size(spec.inputs[k].dtype));
      }
    }
    const Place result = place_result(i, node, op, spec, chain);
    const size_t first_step = program_.steps.size();
    if (chain) {
      Place left = operands[0];
      for (size_t k = 1; k < operands.size(); ++k) {
        add_step(op, {left, operands[k]}, spec, result);
        left = result;
      }
    } else {
      operands.resize(static_cast<size_t>(count));
      add_step(op, operands, spec, result);
    }
    program_.cost += op.cost * static_cast<double>(program_.steps.size() - first_step);
    return "";
  }

  // The bounds of Clip: numbers from outside, or the ones that change nothing.
  std::string add_bounds(const NodeSpec& spec, std::vector<Place>& operands) {
    operands.resize(3);
    for (size_t k = 1; k < 3; ++k) {
      if (operands[k].kind == Place::Kind::slot || operands[k].kind == Place::Kind::output) {
        return "a bound is computed";
      }
      if (operands[k].kind != Place::Kind::none) continue;
      Unbounded bounds = unbounded(spec.dtype());
      const Tensor bound(spec.dtype(), Shape{}, k == 1 ? bounds.least : bounds.largest);
      operands[k] = {Place::Kind::constant, add_constant(bound)};
    }
    return "";
  }

  void add_step(const ElementwiseOp& op, const std::vector<Place>& operands, const NodeSpec& spec,
                Place result) {
    TileProgram::Step step;
    step.op = op;
    step.result = result;
    for (size_t k = 0; k < operands.size(); ++k) {
      step.operands[k] = operands[k];
      step.sizes[k] = item_size(spec.dtype(spec.has_input(k) ? k : 0));
    }
    program_.steps.push_back(step);
  }

  // An output goes to its memory at once if no input is read after that (it may be the memory of an
  // input); everything else goes to a slot. The slot of an operand that dies here is taken over if
  // the elements are of the same size: tile functions work in place.
  Place place_result(int i, const GraphSpec::Step& node, const ElementwiseOp& op,
                     const NodeSpec& spec, bool chain) {
    const int value = node.outputs[0];
    const int output = output_index(value);
    std::vector<int> dying;
    for (size_t k = 0; k < node.inputs.size(); ++k) {
      const int operand = node.inputs[k];
      if (operand < 0 || last_use_.at(operand) != i || output_index(operand) >= 0) continue;
      const Place place = places_.at(operand);
      if (place.kind != Place::Kind::slot) continue;
      if (std::find(dying.begin(), dying.end(), place.index) == dying.end()) {
        dying.push_back(place.index);
      }
    }
    Place result;
    const bool copied_twice = std::count(body_.outputs.begin(), body_.outputs.end(), value) > 1;
    const bool reads_later = chain ? i <= last_input_use_ : i < last_input_use_;
    if (output >= 0 && !reads_later && !copied_twice) {
      result = {Place::Kind::output, output};
    } else {
      const bool in_place = node.inputs.size() <= 2 && !dying.empty() && same_sizes(spec, op);
      if (in_place) {
        result = {Place::Kind::slot, dying.back()};
        dying.pop_back();
      } else if (!free_.empty()) {
        result = {Place::Kind::slot, free_.back()};
        free_.pop_back();
      } else {
        result = {Place::Kind::slot, program_.slots++};
      }
    }
    free_.insert(free_.end(), dying.begin(), dying.end());
    const bool unread = output < 0 && !last_use_.count(value);
    if (unread && result.kind == Place::Kind::slot) free_.push_back(result.index);
    places_[value] = result;
    results_[value] = {op.output, result};
    return result;
  }

  static bool same_sizes(const NodeSpec& spec, const ElementwiseOp& op) {
    for (const ValueSpec& input : spec.inputs) {
      if (input.present() && item_size(input.dtype) != item_size(op.output)) return false;
    }
    return true;
  }

  TileProgram& program_;
  const GraphSpec& body_;
  std::map<int, Place> places_;
  std::map<int, Result> results_;
  std::map<int, int> last_use_;
  int last_input_use_ = -1;
  std::vector<int> free_;
};

}  // namespace

std::string TileProgram::compile(const GraphSpec& body) { return Compiler(*this, body).compile(); }

}  // namespace bascule
