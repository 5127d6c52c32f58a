// SPDX-License-Identifier: Apache-2.0
// Everything that can flow along an edge: a tensor, or a sequence, map, sparse tensor, or nothing.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "core/tensor.h"

namespace bascule {

class Value;

// A list of values. `dtype` is the element type of its tensors, which an empty list knows too.
struct Sequence {
  DType dtype = DType::undefined;
  std::vector<Value> items;
};

// A dictionary from int64 or string keys to scalars of one type: values [keys]. The maps of a list
// may share their keys.
struct Map {
  using Keys = std::variant<std::vector<int64_t>, std::vector<std::string>>;
  std::shared_ptr<const Keys> keys;
  Tensor values;
};

// COO form: values [NNZ], indices [NNZ] (linear) or [NNZ, rank].
struct SparseTensor {
  Tensor values;
  Tensor indices;
  Shape dense_shape;
};

enum class ValueKind : uint8_t { none, tensor, sequence, map, sparse_tensor };

// A value. `none` is an empty optional, or an input that was left out.
class Value {
 public:
  Value() = default;
  Value(Tensor tensor) : kind_(ValueKind::tensor), tensor_(std::move(tensor)) {}  // NOLINT
  Value(Sequence sequence)                                                        // NOLINT
      : kind_(ValueKind::sequence), held_(std::make_shared<Sequence>(std::move(sequence))) {}
  Value(Map map) : kind_(ValueKind::map), held_(std::make_shared<Map>(std::move(map))) {}  // NOLINT
  Value(SparseTensor sparse)                                                               // NOLINT
      : kind_(ValueKind::sparse_tensor), held_(std::make_shared<SparseTensor>(std::move(sparse))) {}

  ValueKind kind() const { return kind_; }
  bool is_none() const { return kind_ == ValueKind::none; }
  bool is_tensor() const { return kind_ == ValueKind::tensor; }

  // Each is an error when the value is of another kind. Containers are shared and not changed.
  const Tensor& tensor() const {
    if (kind_ != ValueKind::tensor) wrong_kind(ValueKind::tensor);
    return tensor_;
  }
  Tensor& tensor() {
    if (kind_ != ValueKind::tensor) wrong_kind(ValueKind::tensor);
    return tensor_;
  }
  const Sequence& sequence() const { return *static_cast<Sequence*>(held(ValueKind::sequence)); }
  const Map& map() const { return *static_cast<Map*>(held(ValueKind::map)); }
  const SparseTensor& sparse_tensor() const {
    return *static_cast<SparseTensor*>(held(ValueKind::sparse_tensor));
  }

  // The value with every tensor in it owning its memory: fit to outlive the run.
  Value owned() const;

 private:
  void* held(ValueKind kind) const {
    if (kind_ != kind) wrong_kind(kind);
    return held_.get();
  }
  [[noreturn]] void wrong_kind(ValueKind expected) const;

  ValueKind kind_ = ValueKind::none;
  Tensor tensor_;
  std::shared_ptr<void> held_;
};

}  // namespace bascule
