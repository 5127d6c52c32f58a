// SPDX-License-Identifier: Apache-2.0
// A node as an operator of a library sees it, and what bascule offers to it (bascule_api).
#pragma once

#include <bascule/operator_abi.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runtime/kernel.h"
#include "runtime/operator_library.h"

namespace bascule {

// The table that libraries are handed.
const bascule_api& operator_api();

// A default as a library gives it; nothing when a part of it is missing.
std::optional<Attribute> attribute_of(const bascule_value& value);

// Whether an attribute is of a kind, BASCULE_INT for example.
bool is_of_kind(const Attribute& value, int kind);

// An attribute with the memory that its plain form points to.
class AttributeView {
 public:
  // `kind`: as the operator declares it. An empty list may be of any; else the value is of it.
  AttributeView(const Attribute& value, int kind);
  AttributeView(const AttributeView&) = delete;
  AttributeView& operator=(const AttributeView&) = delete;
  const bascule_value* plain() const { return &plain_; }

 private:
  Attribute value_;
  std::vector<const char*> pointers_;
  std::vector<int64_t> lengths_;
  bascule_tensor tensor_{};
  bascule_value plain_{};
};

// What is known of a tensor before any run, with its memory.
struct TypeView {
  std::vector<int64_t> shape;
  Tensor constant;  // keeps its elements
  bascule_tensor plain{};

  // A view of these; a shape of nullptr is not known.
  static std::unique_ptr<TypeView> of(DType dtype, const std::vector<int64_t>* shape,
                                      const Tensor* constant);
};

}  // namespace bascule

struct bascule_node {
  // The view of a node of `op`.
  bascule_node(const bascule::LibraryOperator& op, const bascule::NodeSpec& node);

  std::string name;
  std::vector<std::unique_ptr<bascule::TypeView>> inputs;  // nullptr: left out
  int32_t output_count = 0;
  std::map<std::string, std::unique_ptr<bascule::AttributeView>, std::less<>> attributes;
  // For a rule for types: what it says, by output, and what was wrong with that.
  std::vector<std::optional<bascule::OutputType>> found;
  std::string problem;
};
