// SPDX-License-Identifier: Apache-2.0
#include "core/tensor.h"

#include <cstring>
#include <new>
#include <utility>

#include "core/buffer_cache.h"
#include "core/value.h"

namespace bascule {

const char* name_of(DType dtype) {
  static constexpr const char* names[dtype_count] = {
      "undefined",      "float",      "uint8",          "int8",       "uint16",    "int16",
      "int32",          "int64",      "string",         "bool",       "float16",   "double",
      "uint32",         "uint64",     "complex64",      "complex128", "bfloat16",  "float8e4m3fn",
      "float8e4m3fnuz", "float8e5m2", "float8e5m2fnuz", "uint4",      "int4",      "float4e2m1",
      "float8e8m0",     "uint2",      "int2",           "float6e2m3", "float6e3m2"};
  return names[static_cast<int>(dtype)];
}

std::string Shape::text() const {
  std::string result = "{";
  for (int i = 0; i < rank_; ++i) result += (i ? "," : "") + std::to_string(dims_[i]);
  return result + "}";
}

void Shape::fail_size() const {
  throw Error(Code::fail, "shape " + text() + " has too many elements");
}

Shape broadcast(const Shape& a, const Shape& b) {
  const int rank = std::max(a.rank(), b.rank());
  Shape result = Shape::filled(rank, 1);
  for (int i = 0; i < rank; ++i) {
    const int64_t da = i < rank - a.rank() ? 1 : a[i - (rank - a.rank())];
    const int64_t db = i < rank - b.rank() ? 1 : b[i - (rank - b.rank())];
    if (da != db && da != 1 && db != 1) {
      fail("shapes " + a.text() + " and " + b.text() + " cannot be broadcast together: axis " +
           std::to_string(i) + " has " + std::to_string(da) + " by " + std::to_string(db));
    }
    result[i] = da == 1 ? db : da;
  }
  return result;
}

size_t padded_bytes(DType dtype, const Shape& shape) {
  return (static_cast<size_t>(byte_size(dtype, shape.size())) + 127) / 64 * 64;
}

Tensor Tensor::allocate(DType dtype, const Shape& shape) {
  const int64_t size = shape.size();
  if (dtype == DType::string) {
    std::shared_ptr<std::string[]> strings(new std::string[static_cast<size_t>(size)]);
    std::string* data = strings.get();
    return Tensor(dtype, shape, data, std::shared_ptr<void>(std::move(strings), data));
  }
  const size_t bytes = padded_bytes(dtype, shape);
  std::shared_ptr<void> owner = allocate_buffer(bytes);
  if (owner == nullptr) {
    fail("cannot allocate " + std::to_string(bytes) + " bytes for a tensor(" + name_of(dtype) +
         ") of shape " + shape.text());
  }
  void* data = owner.get();
  return Tensor(dtype, shape, data, std::move(owner));
}

Tensor Tensor::of(std::span<const int64_t> values) {
  Tensor result = allocate(DType::int64, {static_cast<int64_t>(values.size())});
  std::copy(values.begin(), values.end(), result.data<int64_t>());
  return result;
}

Tensor Tensor::reshaped(const Shape& shape) const {
  if (shape.size() != size_) {
    fail("cannot view a tensor of shape " + shape_.text() + " as " + shape.text());
  }
  return Tensor(dtype_, shape, data_, owner_);
}

Tensor Tensor::owned() const { return owner_ ? *this : clone(); }

Tensor Tensor::clone() const {
  Tensor result = allocate(dtype_, shape_);
  copy_elements(*this, result);
  return result;
}

void copy_elements(const Tensor& from, Tensor& to) {
  if (from.size() == 0 || from.raw() == to.raw()) return;
  if (from.dtype() == DType::string) {
    std::copy_n(from.data<std::string>(), from.size(), to.data<std::string>());
  } else {
    std::memcpy(to.raw(), from.raw(), static_cast<size_t>(from.bytes()));
  }
}

std::vector<int64_t> Tensor::to_ints() const {
  std::vector<int64_t> result(static_cast<size_t>(size_));
  const bool known = visit(IntegerTypes{}, dtype_, [&](auto tag) {
    using T = typename decltype(tag)::type;
    std::copy_n(data<T>(), size_, result.begin());
  });
  if (!known)
    fail(std::string("expected a tensor of integers, got tensor(") + name_of(dtype_) + ")");
  return result;
}

int64_t Tensor::to_int() const {
  if (size_ != 1) fail("expected one element, got a tensor of shape " + shape_.text());
  return to_ints()[0];
}

double Tensor::to_double() const {
  if (size_ != 1) fail("expected one element, got a tensor of shape " + shape_.text());
  double result = 0;
  const auto read = [&](auto tag) {
    using T = typename decltype(tag)::type;
    result = static_cast<double>(static_cast<Compute<T>>(*data<T>()));
  };
  const bool known = visit(NumericTypes{}, dtype_, read) || visit(Float8Types{}, dtype_, read);
  if (!known) fail(std::string("expected a number, got tensor(") + name_of(dtype_) + ")");
  return result;
}

uint8_t get_packed(const std::byte* data, int bits, int64_t index) {
  const int64_t first = index * bits;
  unsigned pattern = static_cast<unsigned>(data[first / 8]) >> (first % 8);
  if (first % 8 + bits > 8) {
    pattern |= static_cast<unsigned>(data[first / 8 + 1]) << (8 - first % 8);
  }
  return static_cast<uint8_t>(pattern & ((1u << bits) - 1));
}

void set_packed(std::byte* data, int bits, int64_t index, uint8_t pattern) {
  for (int i = 0; i < bits; ++i) {
    const int64_t bit = index * bits + i;
    const auto mask = static_cast<std::byte>(1u << (bit % 8));
    if ((pattern >> i) & 1) {
      data[bit / 8] |= mask;
    } else {
      data[bit / 8] &= ~mask;
    }
  }
}

Value Value::owned() const {
  switch (kind_) {
    case ValueKind::none:
      return {};
    case ValueKind::tensor:
      return tensor_.owned();
    case ValueKind::sequence: {
      Sequence copy{sequence().dtype, {}};
      for (const Value& item : sequence().items) copy.items.push_back(item.owned());
      return copy;
    }
    case ValueKind::map:
    case ValueKind::sparse_tensor:
      return *this;  // built from owned tensors only
  }
  return {};
}

void Value::wrong_kind(ValueKind expected) const {
  static constexpr const char* names[] = {"nothing", "a tensor", "a sequence", "a map",
                                          "a sparse tensor"};
  fail(std::string("expected ") + names[static_cast<int>(expected)] + ", got " +
       names[static_cast<int>(kind_)]);
}

}  // namespace bascule
