// SPDX-License-Identifier: Apache-2.0
// One elementwise operation over a run of elements. Every elementwise kernel, fused chains
// included, is loops over these functions, so that fusing changes no bit. Plain data: fit for files
// that are compiled per instruction set.
#pragma once

#include <cstdint>

namespace bascule {

struct TileOp;

// y[i] = f(a[i], b[i], c[i]) for n >= 0 elements; operands that f does not have are null. y may be
// the memory of an operand whose elements have the size of y's.
using TileFunction = void (*)(const TileOp& op, const void* a, const void* b, const void* c,
                              void* y, int64_t n);

struct TileOp {
  TileFunction run = nullptr;
  TileFunction run_b_single = nullptr;  // like run, with one element at b for all; may be absent
  TileFunction run_a_single = nullptr;  // like run, with one element at a for all; may be absent
  TileFunction inner = nullptr;         // what `run` calls, if it converts around another function
  TileFunction inner_b = nullptr;       // what `run` calls after that
  const TileOp* nested = nullptr;       // an operation that `run` applies to operand b first
  int operands = 1;
  float alpha = 0;  // parameters from attributes
  float beta = 0;
};

// For one of the 16-bit float types. The last three run op.inner on float32 operands.
struct HalfFunctions {
  TileFunction widen;           // to float32
  TileFunction narrow;          // from float32
  TileFunction widened;         // result narrowed again
  TileFunction widened_test;    // result bytes
  TileFunction widened_bounds;  // result narrowed again, operands b and c are one element each
};

// Elements that functions with buffers of their own work on at a time.
inline constexpr int64_t tile_size = 512;

}  // namespace bascule
