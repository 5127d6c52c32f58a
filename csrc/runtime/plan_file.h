// SPDX-License-Identifier: Apache-2.0
// A compiled graph in one file: its structure, the constants that it reads and those that kernels
// packed. It is mapped and used in place, by all sessions and processes together.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/digest.h"
#include "runtime/node.h"
#include "runtime/prepack.h"

namespace bascule {

// Writes the file from the start of `descriptor`. `key` says what it was made from, `description`
// is the caller's, and so are `attachments`. Returns 0, or the system's error number.
int write_plan(int descriptor, const Digest& key, const GraphSpec& graph,
               const Compilation& compilation, std::string_view description,
               const std::vector<Tensor>& attachments);

class PlanFile {
 public:
  // Maps the file. An error when it is damaged or has another key; whether the elements of its
  // tensors are as they were written is looked at only if `verify`.
  PlanFile(int descriptor, const Digest& key, bool verify);

  std::string_view description() const { return description_; }
  const std::vector<Tensor>& attachments() const { return attachments_; }
  const GraphSpec& graph() const { return *graph_; }
  const std::vector<Compilation::Packed>& packed() const { return packed_; }

 private:
  std::shared_ptr<void> mapping_;
  std::string_view description_;
  std::shared_ptr<const GraphSpec> graph_;
  std::vector<Compilation::Packed> packed_;
  std::vector<Tensor> attachments_;
};

}  // namespace bascule
