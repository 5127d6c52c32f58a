// SPDX-License-Identifier: Apache-2.0
// Element types, numbered as in onnx.TensorProto.DataType, and how many bits each takes.
#pragma once

#include <complex>
#include <cstddef>
#include <cstdint>
#include <string>

#include "core/narrow_float.h"

namespace bascule {

enum class DType : uint8_t {
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
inline constexpr int dtype_count = 29;

// Bits of one element in memory; strings are stored as std::string objects.
constexpr int bits_of(DType dtype) {
  constexpr int bits[dtype_count] = {0, 32, 8,  8,  16, 16, 32,  64, 8 * sizeof(std::string),
                                     8, 16, 64, 32, 64, 64, 128, 16, 8,
                                     8, 8,  8,  4,  4,  4,  8,   2,  2,
                                     6, 6};
  return bits[static_cast<int>(dtype)];
}

// Bytes of one element; types under 8 bits have none, see byte_size().
constexpr int64_t item_size(DType dtype) { return bits_of(dtype) / 8; }

// True for the types that share bytes between elements.
constexpr bool is_packed(DType dtype) { return bits_of(dtype) % 8 != 0; }

// Bytes of `count` elements in memory, packed types included.
constexpr int64_t byte_size(DType dtype, int64_t count) {
  return is_packed(dtype) ? (count * bits_of(dtype) + 7) / 8 : count * item_size(dtype);
}

// The name in ONNX type strings: "float", "int64", "bfloat16", ...
const char* name_of(DType dtype);

// C++ type -> DType.
template <class T>
inline constexpr DType dtype_of = DType::undefined;
template <>
inline constexpr DType dtype_of<float> = DType::float32;
template <>
inline constexpr DType dtype_of<uint8_t> = DType::uint8;
template <>
inline constexpr DType dtype_of<int8_t> = DType::int8;
template <>
inline constexpr DType dtype_of<uint16_t> = DType::uint16;
template <>
inline constexpr DType dtype_of<int16_t> = DType::int16;
template <>
inline constexpr DType dtype_of<int32_t> = DType::int32;
template <>
inline constexpr DType dtype_of<int64_t> = DType::int64;
template <>
inline constexpr DType dtype_of<std::string> = DType::string;
template <>
inline constexpr DType dtype_of<bool> = DType::boolean;
template <>
inline constexpr DType dtype_of<Float16> = DType::float16;
template <>
inline constexpr DType dtype_of<double> = DType::float64;
template <>
inline constexpr DType dtype_of<uint32_t> = DType::uint32;
template <>
inline constexpr DType dtype_of<uint64_t> = DType::uint64;
template <>
inline constexpr DType dtype_of<std::complex<float>> = DType::complex64;
template <>
inline constexpr DType dtype_of<std::complex<double>> = DType::complex128;
template <>
inline constexpr DType dtype_of<BFloat16> = DType::bfloat16;
template <>
inline constexpr DType dtype_of<Float8E4M3FN> = DType::float8e4m3fn;
template <>
inline constexpr DType dtype_of<Float8E4M3FNUZ> = DType::float8e4m3fnuz;
template <>
inline constexpr DType dtype_of<Float8E5M2> = DType::float8e5m2;
template <>
inline constexpr DType dtype_of<Float8E5M2FNUZ> = DType::float8e5m2fnuz;
template <>
inline constexpr DType dtype_of<Float8E8M0> = DType::float8e8m0;

// Tag that carries a type through a visitor: visit(dtype, [&](auto tag) { using T = typename
// decltype(tag)::type; ... }).
template <class T>
struct Tag {
  using type = T;
};

// Lists of types for visit(); a kernel names the ones it is instantiated for.
template <class... T>
struct Types {};
using FloatTypes = Types<float, double, Float16, BFloat16>;
using Float8Types = Types<Float8E4M3FN, Float8E4M3FNUZ, Float8E5M2, Float8E5M2FNUZ, Float8E8M0>;
using SignedTypes = Types<int8_t, int16_t, int32_t, int64_t>;
using UnsignedTypes = Types<uint8_t, uint16_t, uint32_t, uint64_t>;
using IntegerTypes =
    Types<int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t>;
using NumericTypes = Types<float, double, Float16, BFloat16, int8_t, int16_t, int32_t, int64_t,
                           uint8_t, uint16_t, uint32_t, uint64_t>;

// Calls body(Tag<T>{}) for the listed type that `dtype` names; false if it names none of them.
template <class... T, class Body>
bool visit(Types<T...>, DType dtype, Body&& body) {
  return ((dtype == dtype_of<T> ? (body(Tag<T>{}), true) : false) || ...);
}

template <class... T>
constexpr bool contains(Types<T...>, DType dtype) {
  return ((dtype == dtype_of<T>) || ...);
}

// The type that arithmetic on T is done in: the next wider one for 16-bit and 8-bit floats.
template <class T>
struct ComputeType {
  using type = T;
};
template <class T>
  requires NarrowFloat<T>
struct ComputeType<T> {
  using type = float;
};
template <class T>
using Compute = typename ComputeType<T>::type;

}  // namespace bascule
