// SPDX-License-Identifier: Apache-2.0
// A list of integers or strings: the labels of classes, or a vocabulary.
#pragma once

#include <string>
#include <vector>

#include "runtime/node.h"

namespace bascule {

class Labels {
 public:
  // Reads attributes `integers` and `strings`, of which the standard wants exactly one.
  Labels(const NodeSpec& node, const std::string& integers, const std::string& strings)
      : integers_(node.get_ints(integers)), strings_(node.get_strings(strings)) {
    if (integers_.empty() == strings_.empty()) {
      fail("one of " + integers + " and " + strings + " is needed, " +
           (integers_.empty() ? "none" : "both") + " given");
    }
  }

  DType dtype() const { return strings_.empty() ? DType::int64 : DType::string; }
  int64_t count() const {
    return static_cast<int64_t>(strings_.empty() ? integers_.size() : strings_.size());
  }
  const std::vector<int64_t>& integers() const { return integers_; }
  const std::vector<std::string>& strings() const { return strings_; }

  // Element `row` of `y` becomes the label of class `index`; 0 or "" for -1, no class.
  void write(Tensor& y, int64_t row, int64_t index) const {
    const auto i = static_cast<size_t>(index);
    if (strings_.empty()) {
      y.data<int64_t>()[row] = index < 0 ? 0 : integers_[i];
    } else {
      y.data<std::string>()[row] = index < 0 ? std::string() : strings_[i];
    }
  }

 private:
  std::vector<int64_t> integers_;
  std::vector<std::string> strings_;
};

}  // namespace bascule
