// SPDX-License-Identifier: Apache-2.0
#include "runtime/library_node.h"

#include <algorithm>
#include <cstddef>

#include "core/error.h"

namespace bascule {

namespace {

// What a tensor of no elements points to.
alignas(64) std::byte nothing[64];

}  // namespace

std::optional<Attribute> attribute_of(const bascule_value& value) {
  const auto count = static_cast<size_t>(value.count);
  const bool is_list = value.kind >= BASCULE_FLOATS;
  if (value.count < 0 || value.count > int64_t{1} << 24 || (!is_list && value.count != 1))
    return {};
  switch (value.kind) {
    case BASCULE_FLOAT:
    case BASCULE_FLOATS:
      if (count > 0 && value.floats == nullptr) return {};
      if (!is_list) return value.floats[0];
      return std::vector<float>(value.floats, value.floats + count);
    case BASCULE_INT:
    case BASCULE_INTS:
      if (count > 0 && value.ints == nullptr) return {};
      if (!is_list) return value.ints[0];
      return std::vector<int64_t>(value.ints, value.ints + count);
    case BASCULE_STRING:
    case BASCULE_STRINGS: {
      if (count > 0 && (value.strings == nullptr || value.lengths == nullptr)) return {};
      std::vector<std::string> texts;
      for (size_t i = 0; i < count; ++i) {
        if (value.strings[i] == nullptr || value.lengths[i] < 0) return {};
        texts.emplace_back(value.strings[i], static_cast<size_t>(value.lengths[i]));
      }
      if (!is_list) return texts[0];
      return texts;
    }
    default:  // tensors have no defaults
      return {};
  }
}

bool is_of_kind(const Attribute& value, int kind) {
  switch (kind) {
    case BASCULE_FLOAT:
      return std::holds_alternative<float>(value);
    case BASCULE_INT:
      return std::holds_alternative<int64_t>(value);
    case BASCULE_STRING:
      return std::holds_alternative<std::string>(value);
    case BASCULE_TENSOR: {
      const auto* tensor = std::get_if<Tensor>(&value);
      return tensor != nullptr && tensor->dtype() != DType::string;
    }
    default:
      break;
  }
  const auto* empty = std::get_if<std::vector<int64_t>>(&value);
  if (empty != nullptr && empty->empty()) return true;
  if (kind == BASCULE_FLOATS) return std::holds_alternative<std::vector<float>>(value);
  if (kind == BASCULE_INTS) return empty != nullptr;
  return std::holds_alternative<std::vector<std::string>>(value);
}

AttributeView::AttributeView(const Attribute& value, int kind) : value_(value) {
  plain_.kind = kind;
  plain_.count = 1;
  const auto add = [&](const std::string& text) {
    pointers_.push_back(text.c_str());
    lengths_.push_back(static_cast<int64_t>(text.size()));
  };
  if (const auto* number = std::get_if<int64_t>(&value_)) plain_.ints = number;
  if (const auto* number = std::get_if<float>(&value_)) plain_.floats = number;
  if (const auto* text = std::get_if<std::string>(&value_)) add(*text);
  if (const auto* list = std::get_if<std::vector<int64_t>>(&value_)) {
    plain_.ints = list->data();
    plain_.count = static_cast<int64_t>(list->size());
  }
  if (const auto* list = std::get_if<std::vector<float>>(&value_)) {
    plain_.floats = list->data();
    plain_.count = static_cast<int64_t>(list->size());
  }
  if (const auto* list = std::get_if<std::vector<std::string>>(&value_)) {
    for (const std::string& text : *list) add(text);
    plain_.count = static_cast<int64_t>(list->size());
  }
  if (auto* tensor = std::get_if<Tensor>(&value_)) {
    void* data = tensor->size() > 0 ? tensor->raw() : nothing;
    tensor_ = {tensor->shape().begin(), data, tensor->rank(),
               static_cast<int32_t>(tensor->dtype())};
    plain_.tensor = &tensor_;
  }
  plain_.strings = pointers_.data();
  plain_.lengths = lengths_.data();
}

std::unique_ptr<TypeView> TypeView::of(DType dtype, const std::vector<int64_t>* shape,
                                       const Tensor* constant) {
  auto made = std::make_unique<TypeView>();
  if (shape != nullptr) made->shape = *shape;
  if (constant != nullptr && constant->dtype() != DType::string) made->constant = *constant;
  made->plain.shape = made->shape.data();
  made->plain.rank = shape != nullptr ? static_cast<int32_t>(shape->size()) : -1;
  made->plain.dtype = static_cast<int32_t>(dtype);
  if (made->constant.dtype() != DType::undefined) {
    made->plain.data = made->constant.size() > 0 ? made->constant.raw() : nothing;
  }
  return made;
}

}  // namespace bascule

bascule_node::bascule_node(const bascule::LibraryOperator& op, const bascule::NodeSpec& node)
    : name(node.name), output_count(static_cast<int32_t>(node.outputs.size())) {
  for (const bascule::ValueSpec& each : node.inputs) {
    inputs.push_back(!each.present()
                         ? nullptr
                         : bascule::TypeView::of(each.dtype, each.shape ? &*each.shape : nullptr,
                                                 each.constant));
  }
  for (const auto& rule : op.attributes) {
    const auto given = node.attributes.find(rule.name);
    const bascule::Attribute* value = given != node.attributes.end() ? &given->second
                                      : rule.fallback                ? &*rule.fallback
                                                                     : nullptr;
    if (value != nullptr) {
      attributes.emplace(rule.name, std::make_unique<bascule::AttributeView>(*value, rule.kind));
    }
  }
}
