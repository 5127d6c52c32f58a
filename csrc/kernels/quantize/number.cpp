// SPDX-License-Identifier: Apache-2.0
#include "kernels/quantize/number.h"

#include <algorithm>
#include <cstring>

#include "kernels/gemm/convert.h"

namespace bascule {

namespace {

constexpr NarrowFormat const* format_of(DType dtype) {
  switch (dtype) {
    case DType::float8e4m3fn:
      return &format_e4m3fn;
    case DType::float8e4m3fnuz:
      return &format_e4m3fnuz;
    case DType::float8e5m2:
      return &format_e5m2;
    case DType::float8e5m2fnuz:
      return &format_e5m2fnuz;
    case DType::float4e2m1:
      return &format_e2m1;
    case DType::float6e2m3:
      return &format_e2m3;
    case DType::float6e3m2:
      return &format_e3m2;
    default:
      return nullptr;
  }
}

float decode(DType dtype, uint8_t pattern) {
  const int bits = bits_of(dtype);
  if (const NarrowFormat* format = format_of(dtype)) return decode_narrow(pattern, *format);
  if (dtype == DType::float8e8m0) {
    Float8E8M0 value;
    value.bits = pattern;
    return value;
  }
  const bool has_sign = dtype == DType::int8 || dtype == DType::int4 || dtype == DType::int2;
  const bool negative = has_sign && (pattern >> (bits - 1)) != 0;
  return static_cast<float>(negative ? static_cast<int>(pattern) - (1 << bits) : pattern);
}

template <class T>
void copy_as_floats(const std::byte* from, int64_t first, int64_t count, float* to) {
  const T* x = reinterpret_cast<const T*>(from) + first;
  for (int64_t i = 0; i < count; ++i) to[i] = static_cast<float>(x[i]);
}

}  // namespace

QuantizedType quantized_type(DType dtype) {
  switch (dtype) {
    case DType::uint8:
      return {true, 0, 255, nullptr};
    case DType::int8:
      return {true, -128, 127, nullptr};
    case DType::uint16:
      return {true, 0, 65535, nullptr};
    case DType::int16:
      return {true, -32768, 32767, nullptr};
    case DType::uint4:
      return {true, 0, 15, nullptr};
    case DType::int4:
      return {true, -8, 7, nullptr};
    case DType::uint2:
      return {true, 0, 3, nullptr};
    case DType::int2:
      return {true, -2, 1, nullptr};
    default:
      return {false, 0, 0, format_of(dtype)};
  }
}

PatternTable pattern_table(DType dtype) {
  PatternTable table{};
  const int patterns = 1 << bits_of(dtype);
  for (int i = 0; i < patterns; ++i) table.values[i] = decode(dtype, static_cast<uint8_t>(i));
  return table;
}

void to_floats(const Tensor& tensor, int64_t first, int64_t count, float* to) {
  const DType dtype = tensor.dtype();
  const std::byte* raw = tensor.raw();
  switch (dtype) {
    case DType::float32:
      std::memcpy(to, raw + first * 4, static_cast<size_t>(count) * 4);
      return;
    case DType::float16:
    case DType::bfloat16:
      return widen_row(dtype, raw + first * 2, to, count);
    case DType::int32:
      return copy_as_floats<int32_t>(raw, first, count, to);
    case DType::uint16:
      return copy_as_floats<uint16_t>(raw, first, count, to);
    case DType::int16:
      return copy_as_floats<int16_t>(raw, first, count, to);
    case DType::uint8:
      return copy_as_floats<uint8_t>(raw, first, count, to);
    case DType::int8:
      return copy_as_floats<int8_t>(raw, first, count, to);
    default:
      break;
  }
  const int bits = bits_of(dtype);
  for (int64_t i = 0; i < count; ++i) {
    const uint8_t pattern =
        bits == 8 ? static_cast<uint8_t>(raw[first + i]) : get_packed(raw, bits, first + i);
    to[i] = decode(dtype, pattern);
  }
}

const float* zero_points(RunContext& c, const Shape& scale) {
  if (!c.has_input(2)) return nullptr;
  const Tensor& zero = c.input(2);
  if (zero.size() != scale.size()) {
    invalid("the zero point has shape " + zero.shape().text() + ", expected that of scale, " +
            scale.text());
  }
  float* zeros = c.workspace<float>(zero.size());
  to_floats(zero, 0, zero.size(), zeros);
  const bool nothing = std::all_of(zeros, zeros + zero.size(), [](float z) { return z == 0; });
  return nothing ? nullptr : zeros;
}

}  // namespace bascule
