// SPDX-License-Identifier: Apache-2.0
// Functions of one byte as tables. Plain data, shared by code of every instruction set.
#pragma once

#include <cstdint>

namespace bascule {

struct ByteTable {
  alignas(64) uint8_t values[256];
};

// y[i] = table[x[i]]; x and y may be the same memory.
void look_up_bytes(const ByteTable& table, const uint8_t* x, uint8_t* y, int64_t n);

}  // namespace bascule
