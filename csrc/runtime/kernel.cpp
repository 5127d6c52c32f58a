// SPDX-License-Identifier: Apache-2.0
#include "runtime/kernel.h"

#include <algorithm>

namespace bascule {

namespace {

std::vector<KernelEntry>& registry() {
  static std::vector<KernelEntry> entries;
  return entries;
}

// A node that brings its operator along.
KernelEntry host_entry(bool keeps_inputs) {
  KernelEntry made;
  made.name = "HostCall";
  made.create = [](const NodeSpec& node) { return node.host->kernel(node); };
  made.keeps_inputs = keeps_inputs;
  return made;
}

const KernelEntry& entry_of(const HostOperator& host) {
  static const KernelEntry keeping = host_entry(true), plain = host_entry(false);
  return host.keeps_inputs() ? keeping : plain;
}

}  // namespace

const std::vector<KernelEntry>& kernel_registry() { return registry(); }

bool register_kernel(KernelEntry entry) {
  // The class as written at the registration, without the namespaces.
  entry.name.erase(0, entry.name.rfind(':') + 1);
  // Ordered by operator, then falling priority, then name: not by the order of linking.
  const auto before = [](const KernelEntry& a, const KernelEntry& b) {
    if (a.op_type != b.op_type) return a.op_type < b.op_type;
    if (a.domain != b.domain) return a.domain < b.domain;
    if (a.priority != b.priority) return a.priority > b.priority;
    return a.name < b.name;
  };
  auto& entries = registry();
  entries.insert(std::upper_bound(entries.begin(), entries.end(), entry, before), std::move(entry));
  return true;
}

KernelChoice choose_kernel(const NodeSpec& node) {
  if (node.host != nullptr) {
    const Capability answer = node.host->capability(node);
    if (!answer.accepted()) return {nullptr, node.host->name() + ": " + answer.reason()};
    return {&entry_of(*node.host), "", node.host->name()};
  }
  const auto& entries = registry();
  auto entry = std::lower_bound(
      entries.begin(), entries.end(), node, [](const KernelEntry& a, const NodeSpec& b) {
        return a.op_type != b.op_type ? a.op_type < b.op_type : a.domain < b.domain;
      });
  KernelChoice choice;
  choice.reason = node.host_refusal;
  for (; entry != entries.end() && entry->op_type == node.op_type && entry->domain == node.domain;
       ++entry) {
    const Capability answer = entry->capability(node);
    if (answer.accepted()) {
      choice.entry = &*entry;
      choice.name = entry->name;
      return choice;
    }
    if (!choice.reason.empty()) choice.reason += "; ";
    choice.reason += entry->name + ": " + answer.reason();
  }
  if (choice.reason.empty()) choice.reason = "no kernel for this operator";
  return choice;
}

}  // namespace bascule
