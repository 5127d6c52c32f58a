// SPDX-License-Identifier: Apache-2.0
// If: one of two graphs.
#include "kernels/control/subgraph.h"

namespace bascule {
namespace {

// Inputs: the condition, then what the first graph captures, then what the second does.
struct If final : Kernel {
  static Capability capability(const NodeSpec& node) { return subgraphs_capability(node); }
  explicit If(const NodeSpec& node)
      : then_branch(node, "then_branch"), else_branch(node, "else_branch") {}
  void run(RunContext& c) const override {
    const bool taken = condition(c.value(0));
    const Subgraph& branch = taken ? then_branch : else_branch;
    std::vector<Value> values;
    branch.append_captures(c, taken ? 1 : 1 + then_branch.captures(), values);
    std::vector<Value> results = branch.run(c, values);
    for (size_t i = 0; i < results.size(); ++i) {
      c.set_output(static_cast<int>(i), std::move(results[i]));
    }
  }
  Subgraph then_branch, else_branch;
};
BASCULE_KERNEL("If", If);

}  // namespace
}  // namespace bascule
