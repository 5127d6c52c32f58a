// SPDX-License-Identifier: Apache-2.0
// Sums of bytes that have a scale and a zero point each. Plain data, shared by code of every
// instruction set.
#pragma once

#include <cstdint>

namespace bascule {

// y[i] = saturate(round(a[i] * a_factor + (b[i] * b_factor + offset))).
struct ByteSum {
  const void* a;
  const void* b;
  bool a_steps, b_steps;  // else one element for all
  float a_factor, b_factor, offset;
  void* y;
  int64_t count;
};

void sum_bytes(const ByteSum& sum, bool is_signed);

}  // namespace bascule
