// SPDX-License-Identifier: Apache-2.0
// LabelEncoder: each element is looked up among the keys and becomes the value at the same place,
// or the default. Zeros of both signs are one key and so are all NaN; the last of equal keys holds.
#include <bit>
#include <cmath>
#include <string>
#include <unordered_map>
#include <vector>

#include "runtime/kernel.h"

namespace bascule {
namespace {

using LabelTypes = Types<std::string, int64_t, float, int32_t, int16_t, double>;

template <class T>
Tensor list_tensor(const std::vector<T>& items) {
  Tensor tensor = Tensor::allocate(dtype_of<T>, Shape{static_cast<int64_t>(items.size())});
  std::copy(items.begin(), items.end(), tensor.data<T>());
  return tensor;
}

// The one of `prefix`_floats, _int64s, _strings and _tensor that is given.
Tensor list_attribute(const NodeSpec& node, const std::string& prefix) {
  std::vector<Tensor> found;
  if (const auto list = node.get_floats(prefix + "_floats"); !list.empty()) {
    found.push_back(list_tensor(list));
  }
  if (const auto list = node.get_ints(prefix + "_int64s"); !list.empty()) {
    found.push_back(list_tensor(list));
  }
  if (const auto list = node.get_strings(prefix + "_strings"); !list.empty()) {
    found.push_back(list_tensor(list));
  }
  if (const Tensor* tensor = node.get_tensor(prefix + "_tensor")) found.push_back(*tensor);
  if (found.size() != 1) {
    fail("one attribute " + prefix + "_* is needed, " + std::to_string(found.size()) + " given");
  }
  if (!contains(LabelTypes{}, found[0].dtype())) {
    fail(prefix + "_tensor of type " + name_of(found[0].dtype()) + " is not supported");
  }
  return found[0];
}

Tensor default_value(const NodeSpec& node, DType dtype) {
  if (const Tensor* given = node.get_tensor("default_tensor")) {
    if (given->dtype() != dtype || given->size() != 1) {
      fail(std::string("default_tensor is ") + name_of(given->dtype()) + given->shape().text() +
           ", expected one element of type " + name_of(dtype));
    }
    return *given;
  }
  Tensor value = Tensor::allocate(dtype, Shape{});
  visit(LabelTypes{}, dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    T& element = *value.data<T>();
    if constexpr (std::is_same_v<T, std::string>) {
      element = node.get_string("default_string", "_Unused");
    } else if constexpr (std::is_same_v<T, int64_t>) {
      element = node.get_int("default_int64", -1);
    } else if constexpr (std::is_same_v<T, float>) {
      element = node.get_float("default_float", -0.0f);
    } else {
      element = std::is_integral_v<T> ? T(-1) : T(-0.0);
    }
  });
  return value;
}

// Equal for the elements that are one key.
template <class T>
uint64_t number_key(T value) {
  if constexpr (std::is_integral_v<T>) {
    return static_cast<uint64_t>(static_cast<int64_t>(value));
  } else {
    if (std::isnan(value)) return ~uint64_t{0};
    return std::bit_cast<uint64_t>(value == 0 ? 0.0 : static_cast<double>(value));
  }
}

class LabelEncoder final : public Kernel {
 public:
  static Capability capability(const NodeSpec& node) {
    return require_dtype(node, 0, LabelTypes{});
  }
  explicit LabelEncoder(const NodeSpec& node)
      : values_(list_attribute(node, "values").owned()),
        default_(default_value(node, values_.dtype()).owned()) {
    const Tensor keys = list_attribute(node, "keys");
    if (keys.dtype() != node.dtype(0)) {
      fail(std::string("the input is of type ") + name_of(node.dtype(0)) + " and the keys are of " +
           name_of(keys.dtype()));
    }
    if (keys.size() != values_.size()) {
      fail(std::to_string(keys.size()) + " keys and " + std::to_string(values_.size()) + " values");
    }
    visit(LabelTypes{}, keys.dtype(), [&](auto tag) {
      using T = typename decltype(tag)::type;
      for (int64_t i = 0; i < keys.size(); ++i) {
        if constexpr (std::is_same_v<T, std::string>) {
          strings_.insert_or_assign(keys.data<T>()[i], i);
        } else {
          numbers_.insert_or_assign(number_key(keys.data<T>()[i]), i);
        }
      }
    });
  }

  void run(RunContext& c) const override {
    const Tensor& x = c.input(0);
    Tensor& y = c.output(0, values_.dtype(), x.shape());
    visit(LabelTypes{}, x.dtype(), [&](auto key_tag) {
      visit(LabelTypes{}, y.dtype(), [&](auto value_tag) {
        using Key = typename decltype(key_tag)::type;
        using Label = typename decltype(value_tag)::type;
        encode(c, x.data<Key>(), y.data<Label>(), x.size());
      });
    });
  }

 private:
  template <class Key, class Label>
  void encode(RunContext& c, const Key* x, Label* y, int64_t count) const {
    const Label* values = values_.data<Label>();
    const Label& fallback = *default_.data<Label>();
    c.parallel_for(count, 40, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t place = find(x[i]);
        y[i] = place < 0 ? fallback : values[place];
      }
    });
  }

  int64_t find(const std::string& key) const {
    const auto found = strings_.find(key);
    return found == strings_.end() ? -1 : found->second;
  }
  template <class T>
  int64_t find(const T& key) const {
    const auto found = numbers_.find(number_key(key));
    return found == numbers_.end() ? -1 : found->second;
  }

  Tensor values_;
  Tensor default_;
  std::unordered_map<std::string, int64_t> strings_;
  std::unordered_map<uint64_t, int64_t> numbers_;
};
BASCULE_KERNEL_IN("ai.onnx.ml", "LabelEncoder", LabelEncoder);

}  // namespace
}  // namespace bascule
