// SPDX-License-Identifier: Apache-2.0
// The nested graph of a control-flow node, compiled once as a Program of its own.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/kernel.h"
#include "runtime/program.h"

namespace bascule {

class Subgraph {
 public:
  // `attribute` names the graph.
  Subgraph(const NodeSpec& node, const std::string& attribute);

  // Formal inputs and outputs of the graph, and the values it captures.
  int inputs() const { return program_.input_count() - captures_; }
  int outputs() const { return program_.output_count(); }
  int captures() const { return captures_; }
  const ValueSpec& input(int i) const { return program_.input(i); }
  const ValueSpec& output(int i) const { return program_.output(i); }

  // Adds the captured values, which are inputs `first`... of the node, after the formal inputs.
  void append_captures(const RunContext& c, int first, std::vector<Value>& values) const;

  // One run: formal inputs, then captured values. All tensors of the results own their memory.
  std::vector<Value> run(const RunContext& c, const std::vector<Value>& values) const {
    return program_.run(values, c.settings());
  }

 private:
  int captures_;
  Program program_;
};

// Whether there is a kernel for every node of the node's nested graphs.
Capability subgraphs_capability(const NodeSpec& node);

// An input that may be left out, or hold any kind of value.
inline Value any_input(const RunContext& c, int i) { return c.has_input(i) ? c.value(i) : Value(); }

// The single bool that decides what is run next.
bool condition(const Value& value);

// The turns of a loop: ends the run when the caller asked for it, and lets the caller look after
// signals every 0.1 s or so. How many turns that is follows from how long they take, so that short
// ones do not pay for a look at the clock.
class Turns {
 public:
  // To be called before each turn.
  void next(const RunContext& c);

 private:
  void look(const RunContext& c);

  int64_t left_ = 1;    // turns until the next look
  int64_t stride_ = 1;  // turns between looks
  int64_t looked_ = 0;  // nanoseconds
  int64_t polled_ = 0;
};

// The shape of a stack along `axis` of no items, of a body that never ran. What is known of the
// body's output (`item`) and of the node's (`whole`) both count, since a body may hand on a
// captured value of which less is known; sizes that neither knows are 0.
Shape empty_stack_shape(const ValueSpec& item, const ValueSpec& whole, int64_t axis);

}  // namespace bascule
