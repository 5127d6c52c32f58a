// SPDX-License-Identifier: Apache-2.0
// A row of a convolution with few products to a result. Plain data, shared by code of every
// instruction set.
#pragma once

#include <cstdint>

namespace bascule {

// sums[i] = start + sum over taps of weights[t] * x[offsets[t] + i * stride], modulo 2^32. Up to
// `slack` bytes and elements behind the last ones are read and written.
struct ByteTaps {
  static constexpr int64_t slack = 64;

  const uint8_t* x;
  const int64_t* offsets;
  const int32_t* weights;
  int64_t taps;
  int64_t stride;
  int32_t start;
  int32_t* sums;
  int64_t count;
};

void sum_byte_taps(const ByteTaps& taps);

}  // namespace bascule
