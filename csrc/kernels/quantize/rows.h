// SPDX-License-Identifier: Apache-2.0
// What the loops over rows of quantized numbers are given. Plain data, shared by code of every
// instruction set.
#pragma once

#include <cstdint>

namespace bascule {

// Scale and zero point of a row: one for all elements, or one for each.
struct Affine {
  const float* scale = nullptr;
  const float* zero = nullptr;  // null: all zero
  bool each = false;
};

// y = clamp(round(x / scale) + zero, low, high), ties to even; NaN becomes low. `bytes` of y are 1
// or 2; signed and unsigned types store the same bits.
struct QuantizeRow {
  const float* x;
  Affine affine;
  float low;
  float high;
  int bytes;
  void* y;
  int64_t n;
};

// y = clamp(round(x * scale) + zero, low, high): sums of products to 8 bits. One zero point.
struct RequantizeRow {
  const int32_t* x;
  const float* scale;
  bool each;
  float zero;
  float low;
  float high;
  void* y;
  int64_t n;
};

// y = (x - zero) * scale.
enum class QuantizedSource : uint8_t { i8, u8, i16, u16, i32, f32 };
struct DequantizeRow {
  const void* x;
  QuantizedSource source;
  Affine affine;
  float* y;
  int64_t n;
};

}  // namespace bascule
