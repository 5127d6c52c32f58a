// SPDX-License-Identifier: Apache-2.0
// The number types that tensors are quantized to.
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "core/tensor.h"
#include "runtime/run_context.h"

namespace bascule {

// What QuantizeLinear must know of a type.
struct QuantizedType {
  bool integer = false;
  float low = 0;  // of integers
  float high = 0;
  const NarrowFormat* format = nullptr;  // of the others
};

// `integer` is false and `format` null for types that are not for quantized numbers.
QuantizedType quantized_type(DType dtype);

inline bool is_quantized_type(DType dtype) {
  const QuantizedType type = quantized_type(dtype);
  return type.integer || type.format != nullptr;
}

// The values of all bit patterns of a type of up to 8 bits.
struct PatternTable {
  float values[256];
};
PatternTable pattern_table(DType dtype);

// Elements [first, first + count) of a tensor of a quantized type, float type or int32 as floats.
void to_floats(const Tensor& tensor, int64_t first, int64_t count, float* to);

// Input 2 of a node, one zero point for each of its scales, as floats; nullptr when it is left out
// or all zeros, which change nothing but the sign of a zero.
const float* zero_points(RunContext& c, const Shape& scale);

}  // namespace bascule
