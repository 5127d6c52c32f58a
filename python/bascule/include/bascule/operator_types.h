// SPDX-License-Identifier: Apache-2.0
// The value types of <bascule/operator.h>: element types, tensors, attributes.
#pragma once

#include <bascule/operator_abi.h>

#include <bit>
#include <complex>
#include <cstring>
#include <exception>
#include <initializer_list>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#if defined(_WIN32)
#define BASCULE_HIDDEN
#else
#define BASCULE_HIDDEN __attribute__((visibility("hidden")))
#endif

namespace bascule BASCULE_HIDDEN {

class Library;

// An error of an operator; any other std::exception does as well.
using Error = std::runtime_error;

using Shape = std::vector<int64_t>;
using Sizes = std::span<const int64_t>;

// A size before any run, perhaps not known. What is computed of one that is not known is not known.
class Dim {
 public:
  Dim() = default;
  Dim(int64_t size) : number_(size) {}  // NOLINT
  bool is_known() const { return number_ >= 0; }
  // As the interface has it: negative where it is not known.
  int64_t number() const { return number_; }

  friend Dim operator+(Dim a, Dim b) { return both(a, b) ? Dim(a.number_ + b.number_) : Dim(); }
  friend Dim operator-(Dim a, Dim b) { return both(a, b) ? Dim(a.number_ - b.number_) : Dim(); }
  friend Dim operator*(Dim a, Dim b) { return both(a, b) ? Dim(a.number_ * b.number_) : Dim(); }
  friend Dim operator/(Dim a, Dim b) {
    if (b.number_ == 0) throw Error("a size is divided by 0");
    return both(a, b) ? Dim(a.number_ / b.number_) : Dim();
  }
  // Whether they are known to be the same size.
  friend bool operator==(Dim a, Dim b) { return a.number_ == b.number_ && a.number_ != -1; }

 private:
  static bool both(Dim a, Dim b) { return a.is_known() && b.is_known(); }

  int64_t number_ = -1;
};

// Element types, numbered as in onnx.TensorProto.DataType.
enum class DType : int32_t {
  undefined = 0,
  float32 = 1,
  uint8 = 2,
  int8 = 3,
  uint16 = 4,
  int16 = 5,
  int32 = 6,
  int64 = 7,
  string = 8,
  boolean = 9,
  float16 = 10,
  float64 = 11,
  uint32 = 12,
  uint64 = 13,
  complex64 = 14,
  complex128 = 15,
  bfloat16 = 16,
  float8e4m3fn = 17,
  float8e4m3fnuz = 18,
  float8e5m2 = 19,
  float8e5m2fnuz = 20,
  uint4 = 21,
  int4 = 22,
  float4e2m1 = 23,
  float8e8m0 = 24,
  uint2 = 25,
  int2 = 26,
  float6e2m3 = 27,
  float6e3m2 = 28,
};

// Bits of an element; types of less than 8 share bytes. Strings have none: see Call::strings.
constexpr int bits_of(DType dtype) {
  constexpr int bits[29] = {0,   32, 8, 8, 16, 16, 32, 64, 0, 8, 16, 64, 32, 64, 64,
                            128, 16, 8, 8, 8,  8,  4,  4,  4, 8, 2,  2,  6,  6};
  const auto number = static_cast<size_t>(dtype);
  return number < 29 ? bits[number] : 0;
}

// The upper half of a float; rounds to nearest, ties to even.
struct BFloat16 {
  uint16_t bits;
  BFloat16() = default;
  explicit BFloat16(float value) {
    const auto word = std::bit_cast<uint32_t>(value);
    const bool nan = (word & 0x7FFFFFFFu) > 0x7F800000u;
    const uint32_t rounded = word + 0x7FFFu + (word >> 16 & 1u);
    bits = static_cast<uint16_t>(nan ? word >> 16 | 0x40u : rounded >> 16);
  }
  explicit operator float() const { return std::bit_cast<float>(uint32_t{bits} << 16); }
};

// IEEE half precision; rounds to nearest, ties to even.
struct Float16 {
  uint16_t bits;
  Float16() = default;
  explicit Float16(float value) {
    const auto word = std::bit_cast<uint32_t>(value);
    const auto sign = static_cast<uint16_t>(word >> 16 & 0x8000u);
    const uint32_t rest = word & 0x7FFFFFFFu;
    if (rest > 0x7F800000u) {
      bits = static_cast<uint16_t>(sign | 0x7E00u | (rest >> 13 & 0x3FFu));
    } else if (rest >= 0x477FF000u) {  // rounds to 65536 or more
      bits = static_cast<uint16_t>(sign | 0x7C00u);
    } else if (rest >= 0x38800000u) {  // normal
      bits = static_cast<uint16_t>(sign | (rest - 0x38000000u + 0xFFFu + (rest >> 13 & 1u)) >> 13);
    } else {  // subnormal: adding 0.5 leaves 2^-24 as the last place
      const float sum = std::bit_cast<float>(rest) + 0.5f;
      bits = static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(sum) - 0x3F000000u));
    }
  }
  explicit operator float() const {
    const uint32_t sign = uint32_t{bits & 0x8000u} << 16;
    const uint32_t rest = bits & 0x7FFFu;
    if (rest >= 0x7C00u) return std::bit_cast<float>(sign | (rest << 13) | 0x70000000u);
    if (rest >= 0x0400u) return std::bit_cast<float>(sign | ((rest << 13) + 0x38000000u));
    const float magnitude = static_cast<float>(rest) * 0x1p-24f;
    return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(magnitude));
  }
};

// The DType of a C++ type. Types that C++ has none for are read as bytes.
template <class T>
inline constexpr DType dtype_of = [] {
  static_assert(sizeof(T) == 0, "no element type is this C++ type");
  return DType::undefined;
}();
template <>
inline constexpr DType dtype_of<float> = DType::float32;
template <>
inline constexpr DType dtype_of<double> = DType::float64;
template <>
inline constexpr DType dtype_of<Float16> = DType::float16;
template <>
inline constexpr DType dtype_of<BFloat16> = DType::bfloat16;
template <>
inline constexpr DType dtype_of<bool> = DType::boolean;
template <>
inline constexpr DType dtype_of<int8_t> = DType::int8;
template <>
inline constexpr DType dtype_of<int16_t> = DType::int16;
template <>
inline constexpr DType dtype_of<int32_t> = DType::int32;
template <>
inline constexpr DType dtype_of<int64_t> = DType::int64;
template <>
inline constexpr DType dtype_of<uint8_t> = DType::uint8;
template <>
inline constexpr DType dtype_of<uint16_t> = DType::uint16;
template <>
inline constexpr DType dtype_of<uint32_t> = DType::uint32;
template <>
inline constexpr DType dtype_of<uint64_t> = DType::uint64;
template <>
inline constexpr DType dtype_of<std::complex<float>> = DType::complex64;
template <>
inline constexpr DType dtype_of<std::complex<double>> = DType::complex128;

// A set of element types, or "that of an input".
class DTypes {
 public:
  constexpr DTypes(DType dtype) : mask_(bit(dtype)) {}  // NOLINT
  constexpr DTypes(std::initializer_list<DType> dtypes) {
    for (const DType each : dtypes) mask_ |= bit(each);
  }
  constexpr DTypes operator|(DTypes other) const {
    DTypes joined = *this;
    joined.mask_ |= other.mask_;
    return joined;
  }
  constexpr uint64_t mask() const { return mask_; }
  constexpr int32_t input() const { return input_; }

  friend constexpr DTypes same_as(int input);

 private:
  static constexpr uint64_t bit(DType dtype) { return uint64_t{1} << static_cast<int>(dtype); }

  uint64_t mask_ = 0;
  int32_t input_ = -1;
};

constexpr DTypes same_as(int input) {
  DTypes made({});
  made.input_ = input;
  return made;
}

inline constexpr DTypes any({});  // but strings
inline constexpr DTypes floats({DType::float32, DType::float64, DType::float16, DType::bfloat16});
inline constexpr DTypes integers({DType::int8, DType::int16, DType::int32, DType::int64,
                                  DType::uint8, DType::uint16, DType::uint32, DType::uint64});

// Calls body(T{}) for the one of the listed C++ types that `dtype` names; an error if none does:
//   bascule::dispatch<float, double>(x.dtype(), [&](auto zero) { using T = decltype(zero); ... });
template <class... T, class Body>
void dispatch(DType dtype, Body&& body) {
  const bool found = ((dtype == dtype_of<T> ? (body(T{}), true) : false) || ...);
  if (!found) {
    throw Error("element type " + std::to_string(static_cast<int>(dtype)) + " is not supported");
  }
}

// Elements that an operator reads: dense, row-major, as long as the run.
class Tensor {
 public:
  explicit Tensor(const bascule_tensor* tensor) : tensor_(tensor) {}

  DType dtype() const { return static_cast<DType>(tensor_->dtype); }
  Sizes shape() const { return {tensor_->shape, static_cast<size_t>(tensor_->rank)}; }
  int rank() const { return tensor_->rank; }
  int64_t dim(int axis) const {
    const int index = axis < 0 ? axis + rank() : axis;
    if (index < 0 || index >= rank()) {
      throw Error("axis " + std::to_string(axis) + " of a tensor of rank " +
                  std::to_string(rank()));
    }
    return tensor_->shape[index];
  }
  // Number of elements and of bytes.
  int64_t size() const {
    int64_t product = 1;
    for (const int64_t each : shape()) product *= each;
    return product;
  }
  int64_t bytes() const { return (size() * bits_of(dtype()) + 7) / 8; }
  const void* data() const { return tensor_->data; }

  // The elements; an error if T is not their type.
  template <class T>
  std::span<const T> elements() const {
    check<T>();
    return {static_cast<const T*>(tensor_->data), static_cast<size_t>(size())};
  }
  std::span<const std::byte> raw() const {
    return {static_cast<const std::byte*>(tensor_->data), static_cast<size_t>(bytes())};
  }

 protected:
  template <class T>
  void check() const {
    if (dtype() != dtype_of<T>) {
      throw Error("elements of type " + std::to_string(tensor_->dtype) + " were read as type " +
                  std::to_string(static_cast<int>(dtype_of<T>)));
    }
  }

  const bascule_tensor* tensor_;
};

// Elements that an operator writes.
class MutableTensor : public Tensor {
 public:
  using Tensor::Tensor;

  void* data() const { return tensor_->data; }
  template <class T>
  std::span<T> elements() const {
    check<T>();
    return {static_cast<T*>(tensor_->data), static_cast<size_t>(size())};
  }
  std::span<std::byte> raw() const {
    return {static_cast<std::byte*>(tensor_->data), static_cast<size_t>(bytes())};
  }
};

namespace detail {

// Something is asked for that is not known before a run.
struct Unknown : Error {
  explicit Unknown(const std::string& what) : Error(what + " is not known before a run") {}
};

// What bascule offers, from when the library is loaded.
inline const bascule_api*& api() {
  static const bascule_api* found = nullptr;
  return found;
}

// bascule itself knows what went wrong.
struct Known {};

// Runs `work`; 0, or 1 after an error was reported.
template <class Work>
int32_t guarded(bascule_error* error, Work&& work) noexcept {
  const auto report = [&](const char* text) { api()->set_error(error, text, std::strlen(text)); };
  try {
    work();
    return 0;
  } catch (const Known&) {
  } catch (const std::exception& raised) {
    report(raised.what());
  } catch (...) {
    report("an exception that is no std::exception");
  }
  return 1;
}

const bascule_library* describe(const bascule_api* api, bascule_error* error,
                                void (*fill)(Library&));

template <class T>
constexpr int32_t kind_of() {
  if constexpr (std::is_floating_point_v<T>) return BASCULE_FLOAT;
  if constexpr (std::is_integral_v<T>) return BASCULE_INT;
  if constexpr (std::is_same_v<T, std::string>) return BASCULE_STRING;
  if constexpr (std::is_same_v<T, Tensor>) return BASCULE_TENSOR;
  if constexpr (std::is_same_v<T, std::vector<float>>) return BASCULE_FLOATS;
  if constexpr (std::is_same_v<T, std::vector<int64_t>>) return BASCULE_INTS;
  if constexpr (std::is_same_v<T, std::vector<std::string>>) return BASCULE_STRINGS;
  return 0;
}

template <class T>
T attribute_of(const bascule_value& value, const char* name) {
  static_assert(kind_of<T>() != 0, "no attribute is of this C++ type");
  if (value.kind != kind_of<T>()) {
    throw Error("attribute '" + std::string(name) + "' was read as another type than it has");
  }
  const auto text = [&](int64_t i) {
    return std::string(value.strings[i], static_cast<size_t>(value.lengths[i]));
  };
  if constexpr (std::is_floating_point_v<T>) {
    return static_cast<T>(value.floats[0]);
  } else if constexpr (std::is_integral_v<T>) {
    return static_cast<T>(value.ints[0]);
  } else if constexpr (std::is_same_v<T, std::string>) {
    return text(0);
  } else if constexpr (std::is_same_v<T, Tensor>) {
    return Tensor(value.tensor);
  } else if constexpr (std::is_same_v<T, std::vector<float>>) {
    return {value.floats, value.floats + value.count};
  } else if constexpr (std::is_same_v<T, std::vector<int64_t>>) {
    return {value.ints, value.ints + value.count};
  } else {
    T found;
    for (int64_t i = 0; i < value.count; ++i) found.push_back(text(i));
    return found;
  }
}

// The default of an attribute, with its memory.
class AttributeValue {
 public:
  explicit AttributeValue(int32_t kind) : kind_(kind) {}  // none

  template <class T>
  static AttributeValue of(const T& value) {
    if constexpr (std::is_convertible_v<const T&, std::string> && !std::is_same_v<T, std::string>) {
      return of(std::string(value));
    } else {
      static_assert(kind_of<T>() != 0, "no attribute is of this C++ type");
      AttributeValue made(kind_of<T>());
      made.has_value_ = true;
      if constexpr (std::is_floating_point_v<T>) {
        made.floats_ = {static_cast<float>(value)};
      } else if constexpr (std::is_integral_v<T>) {
        made.ints_ = {static_cast<int64_t>(value)};
      } else if constexpr (std::is_same_v<T, std::string>) {
        made.strings_ = {value};
      } else if constexpr (std::is_same_v<T, std::vector<float>>) {
        made.floats_ = value;
      } else if constexpr (std::is_same_v<T, std::vector<int64_t>>) {
        made.ints_ = value;
      } else {
        made.strings_ = value;
      }
      return made;
    }
  }

  int32_t kind() const { return kind_; }
  // In memory of this object; NULL without a value.
  const bascule_value* finish() {
    for (const std::string& each : strings_) {
      pointers_.push_back(each.c_str());
      lengths_.push_back(static_cast<int64_t>(each.size()));
    }
    const size_t count = floats_.size() + ints_.size() + strings_.size();
    value_ = {kind_,
              static_cast<int64_t>(count),
              floats_.data(),
              ints_.data(),
              pointers_.data(),
              lengths_.data(),
              nullptr};
    return has_value_ ? &value_ : nullptr;
  }

 private:
  int32_t kind_;
  bool has_value_ = false;
  std::vector<float> floats_;
  std::vector<int64_t> ints_;
  std::vector<std::string> strings_;
  std::vector<const char*> pointers_;
  std::vector<int64_t> lengths_;
  bascule_value value_{};
};

struct Parameter {
  Parameter(const char* name, DTypes dtypes, uint32_t flags)
      : text(name),
        plain{sizeof(bascule_parameter), flags, nullptr, dtypes.mask(), dtypes.input()} {}
  const bascule_parameter* finish() {
    plain.name = text.c_str();
    return &plain;
  }
  std::string text;
  bascule_parameter plain;
};

struct Attribute {
  Attribute(const char* name, AttributeValue fallback, bool required)
      : text(name),
        value(std::move(fallback)),
        plain{sizeof(bascule_attribute), value.kind(), nullptr, nullptr, required ? 1 : 0} {}
  const bascule_attribute* finish() {
    plain.name = text.c_str();
    plain.fallback = value.finish();
    return &plain;
  }
  std::string text;
  AttributeValue value;
  bascule_attribute plain;
};

// Items and the array of pointers to their plain form.
template <class Item, class Plain>
class List {
 public:
  void add(std::unique_ptr<Item> item) { items_.push_back(std::move(item)); }
  const Plain* const* finish(int32_t* count) {
    for (const auto& each : items_) plain_.push_back(each->finish());
    *count = static_cast<int32_t>(items_.size());
    return plain_.data();
  }

 private:
  std::vector<std::unique_ptr<Item>> items_;
  std::vector<const Plain*> plain_;
};

}  // namespace detail

}  // namespace bascule BASCULE_HIDDEN
