// SPDX-License-Identifier: Apache-2.0
// Maps to tensors and back: CastMap, DictVectorizer and ZipMap.
#include <algorithm>
#include <charconv>
#include <memory>
#include <numeric>
#include <unordered_map>
#include <vector>

#include "kernels/cast_string.h"
#include "kernels/ml/labels.h"
#include "kernels/ml/rows.h"
#include "runtime/kernel.h"

namespace bascule {
namespace {

// The keys of a map, which an empty one has of any type.
template <class Key>
const std::vector<Key>& keys_of(const Map& map) {
  static const std::vector<Key> none;
  if (map.values.size() == 0) return none;
  if (const auto* keys = std::get_if<std::vector<Key>>(map.keys.get())) return *keys;
  invalid(std::is_same_v<Key, int64_t> ? "the keys of the map are strings, expected int64"
                                       : "the keys of the map are int64, expected strings");
}

void check_values(const Map& map, DType dtype) {
  if (map.values.size() == 0 || map.values.dtype() == dtype) return;
  invalid(std::string("the map holds ") + name_of(map.values.dtype()) + ", expected " +
          name_of(dtype));
}

// Fixed notation with six decimals, as C's %f.
std::string decimal_text(float value) {
  char buffer[64];
  const auto end =
      std::to_chars(buffer, buffer + sizeof(buffer), value, std::chars_format::fixed, 6).ptr;
  return {buffer, end};
}

void convert(const Tensor& from, Tensor& to) {
  if (from.dtype() == to.dtype()) {
    copy_elements(from, to);
  } else if (from.dtype() == DType::string) {
    cast_from_strings(from, to);
  } else if (to.dtype() == DType::string) {
    std::transform(from.data<float>(), from.data<float>() + from.size(), to.data<std::string>(),
                   decimal_text);
  } else {
    for (int64_t i = 0; i < from.size(); ++i) {
      const float value = from.data<float>()[i];
      if (!(value >= -0x1p63f && value < 0x1p63f)) {
        invalid("the map holds " + decimal_text(value) + ", which is no int64");
      }
      to.data<int64_t>()[i] = static_cast<int64_t>(value);
    }
  }
}

// Dense: the values by rising key. Sparse: each at the place that its key says, others between.
class CastMap final : public Kernel {
 public:
  static Capability capability(const NodeSpec& node) {
    if (node.inputs[0].kind != ValueKind::map) return reject("the input is not a map");
    return require_dtype(node, 0, Types<std::string, float>{});
  }
  explicit CastMap(const NodeSpec& node) : from_(node.dtype(0)), size_(node.get_int("max_map", 1)) {
    const std::string form = node.get_string("map_form", "DENSE");
    if (form != "DENSE" && form != "SPARSE") {
      fail("map_form '" + form + "' is neither DENSE nor SPARSE");
    }
    sparse_ = form == "SPARSE";
    if (sparse_ && size_ < 1) fail("max_map is " + std::to_string(size_));
    const std::string type = node.get_string("cast_to", "TO_FLOAT");
    to_ = type == "TO_FLOAT"    ? DType::float32
          : type == "TO_STRING" ? DType::string
          : type == "TO_INT64"  ? DType::int64
                                : DType::undefined;
    if (to_ == DType::undefined) {
      fail("cast_to '" + type + "' is not one of TO_FLOAT, TO_STRING, TO_INT64");
    }
  }

  void run(RunContext& c) const override {
    const Map& map = c.value(0).map();
    check_values(map, from_);
    const std::vector<int64_t>& keys = keys_of<int64_t>(map);
    const auto count = static_cast<int64_t>(keys.size());
    Tensor values = Tensor::allocate(to_, Shape{count});
    if (count > 0) convert(map.values, values);
    std::vector<int64_t> places = keys;
    if (!sparse_) {
      std::vector<int64_t> order(keys.size());
      std::iota(order.begin(), order.end(), 0);
      const auto before = [&](int64_t a, int64_t b) {
        return keys[static_cast<size_t>(a)] < keys[static_cast<size_t>(b)];
      };
      std::sort(order.begin(), order.end(), before);
      for (int64_t i = 0; i < count; ++i) {
        places[static_cast<size_t>(order[static_cast<size_t>(i)])] = i;
      }
    }
    const int64_t size = sparse_ ? size_ : count;
    for (const int64_t place : places) {
      if (place < 0 || place >= size) {
        invalid("key " + std::to_string(place) + " is outside [0, max_map) = [0, " +
                std::to_string(size) + ")");
      }
    }
    Tensor& y = c.output(0, to_, {1, size});
    visit(Types<float, std::string, int64_t>{}, to_, [&](auto tag) {
      using T = typename decltype(tag)::type;
      T* out = y.data<T>();
      if constexpr (std::is_same_v<T, std::string>) {
        std::fill_n(out, size, "0.f");
      } else {
        std::fill_n(out, size, T{0});
      }
      for (int64_t i = 0; i < count; ++i) {
        out[places[static_cast<size_t>(i)]] = values.data<T>()[i];
      }
    });
  }

 private:
  DType from_;
  DType to_ = DType::undefined;
  bool sparse_ = false;
  int64_t size_;
};
BASCULE_KERNEL_IN("ai.onnx.ml", "CastMap", CastMap);

// The values in the order of the vocabulary, zeros or empty strings for keys that are missing.
class DictVectorizer final : public Kernel {
 public:
  static Capability capability(const NodeSpec& node) {
    if (node.inputs[0].kind != ValueKind::map) return reject("the input is not a map");
    return require_dtype(node, 0, Types<std::string, int64_t, float, double>{});
  }
  explicit DictVectorizer(const NodeSpec& node)
      : dtype_(node.dtype(0)), vocabulary_(node, "int64_vocabulary", "string_vocabulary") {
    note_places(vocabulary_.integers(), integers_);
    note_places(vocabulary_.strings(), strings_);
  }

  void run(RunContext& c) const override {
    const Map& map = c.value(0).map();
    check_values(map, dtype_);
    const bool strings = vocabulary_.dtype() == DType::string;
    if (strings) {
      (void)keys_of<std::string>(map);
    } else {
      (void)keys_of<int64_t>(map);
    }
    Tensor& y = c.output(0, dtype_, {1, vocabulary_.count()});
    visit(Types<std::string, int64_t, float, double>{}, dtype_, [&](auto tag) {
      using T = typename decltype(tag)::type;
      T* out = y.data<T>();
      std::fill_n(out, y.size(), T{});
      if (strings) {
        fill(map, keys_of<std::string>(map), strings_, out);
      } else {
        fill(map, keys_of<int64_t>(map), integers_, out);
      }
    });
  }

 private:
  // Where each key goes; a vocabulary may hold a key twice.
  template <class Key>
  using Places = std::unordered_map<Key, std::vector<int64_t>>;

  template <class Key>
  static void note_places(const std::vector<Key>& keys, Places<Key>& places) {
    for (size_t i = 0; i < keys.size(); ++i) places[keys[i]].push_back(static_cast<int64_t>(i));
  }

  template <class Key, class T>
  static void fill(const Map& map, const std::vector<Key>& keys, const Places<Key>& places,
                   T* out) {
    for (size_t i = 0; i < keys.size(); ++i) {
      const auto found = places.find(keys[i]);
      if (found == places.end()) continue;
      for (const int64_t place : found->second) out[place] = map.values.data<T>()[i];
    }
  }

  DType dtype_;
  Labels vocabulary_;
  Places<int64_t> integers_;
  Places<std::string> strings_;
};
BASCULE_KERNEL_IN("ai.onnx.ml", "DictVectorizer", DictVectorizer);

// One map from label to value per row. The maps share the keys and a copy of the input.
class ZipMap final : public Kernel {
 public:
  static Capability capability(const NodeSpec& node) {
    return require_dtype(node, 0, Types<float>{});
  }
  explicit ZipMap(const NodeSpec& node) {
    const Labels labels(node, "classlabels_int64s", "classlabels_strings");
    count_ = labels.count();
    if (labels.dtype() == DType::string) {
      keys_ = std::make_shared<const Map::Keys>(labels.strings());
    } else {
      keys_ = std::make_shared<const Map::Keys>(labels.integers());
    }
  }

  void run(RunContext& c) const override {
    const Tensor& input = c.input(0);
    const Rows x = rows_of(input);
    if (x.columns != count_) {
      invalid("input has " + std::to_string(x.columns) + " columns for " + std::to_string(count_) +
              " class labels");
    }
    Tensor values = input.owned();
    Sequence maps{DType::float32, {}};
    maps.items.reserve(static_cast<size_t>(x.count));
    for (int64_t i = 0; i < x.count; ++i) {
      const Tensor row(DType::float32, Shape{count_}, values.data<float>() + i * count_,
                       values.owner());
      maps.items.emplace_back(Map{keys_, row});
    }
    c.set_output(0, std::move(maps));
  }

 private:
  int64_t count_;
  std::shared_ptr<const Map::Keys> keys_;
};
BASCULE_KERNEL_IN("ai.onnx.ml", "ZipMap", ZipMap);

}  // namespace
}  // namespace bascule
