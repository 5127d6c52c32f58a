// SPDX-License-Identifier: Apache-2.0
// Conversion of elements from one type to another, as the standard's Cast does it.
#pragma once

#include "core/dtype.h"
#include "kernels/elementwise/tile.h"

namespace bascule {

enum class RoundMode : uint8_t { up, down, nearest };

// How values that a float8 type cannot hold are treated; the round mode is for float8e8m0 only.
struct CastOptions {
  bool saturate = true;
  RoundMode round_mode = RoundMode::up;
  bool rounds_again = false;  // float32 results are for rounding to a narrower type
};

// The function that converts runs of `from` to `to`; its `run` is null for strings and for the
// types that share bytes between elements.
TileOp cast_tile(DType from, DType to, CastOptions options);

}  // namespace bascule
