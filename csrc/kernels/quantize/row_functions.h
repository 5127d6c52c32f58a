// SPDX-License-Identifier: Apache-2.0
// The loops over rows of quantized numbers for the active instruction set.
#pragma once

#include "kernels/quantize/rows.h"
#include "simd/isa.h"

namespace bascule {

struct QuantizedRows {
  void (*quantize)(const QuantizeRow& r);
  void (*requantize)(const RequantizeRow& r);
  void (*dequantize)(const DequantizeRow& r);
  // Widens [low, high] to hold n elements; NaN does not count.
  void (*range_of)(const float* x, int64_t n, float* low, float* high);
};
const QuantizedRows& quantized_rows();

}  // namespace bascule
