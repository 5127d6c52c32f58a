// SPDX-License-Identifier: Apache-2.0
// What the pieces of an 8-bit product are given, for the code that cuts it into pieces.
#pragma once

#include <cmath>
#include <vector>

#include "kernels/quantize/integer_gemm.h"
#include "kernels/quantize/integer_pixels.h"
#include "kernels/quantize/pixel_tiles.h"

namespace bascule {

// The same from an output channel on.
inline IntegerFinish at_channel(IntegerFinish f, int64_t channel) {
  f.bias += channel;
  if (f.weight_zero != nullptr) f.weight_zero += channel;
  if (f.factors != nullptr) f.factors += channel;
  if (f.row_values != nullptr) f.row_values += channel;
  return f;
}

// Memory that lives as long as a kernel, for what follows from constants.
class KeptMemory {
 public:
  template <class T>
  T* workspace(int64_t count) {
    kept_.push_back(Tensor::allocate(DType::uint8, {count * static_cast<int64_t>(sizeof(T))}));
    return reinterpret_cast<T*>(kept_.back().raw());
  }

 private:
  std::vector<Tensor> kept_;
};

// A scale and a zero point.
struct ByteScale {
  float scale;
  float zero;
};

// In steps of the sum, as QLinearAdd has them. `low` is the least number of the type of all three.
inline ByteAddition add_bytes(ByteScale own, ByteScale other, ByteScale sum, bool is_first,
                              float low) {
  const float own_factor = own.scale / sum.scale, factor = other.scale / sum.scale;
  const float moved = is_first ? std::fma(factor, other.zero, own_factor * own.zero)
                               : std::fma(own_factor, own.zero, factor * other.zero);
  return {own_factor, factor, sum.zero - moved, is_first, low, low < 0};
}

// Panels that a thread reads after those of its tiles: each tile fetches a part.
struct FetchAhead {
  const int8_t* from = nullptr;
  int64_t bytes = 0;

  void set(PixelTile& tile, int64_t index, int64_t count) const {
    const int64_t steps = tile.tap_count * tile.tap_quads * panels_of(tile.columns);
    const int64_t first = bytes * index / count, last = bytes * (index + 1) / count;
    tile.next = bytes > 0 ? from + first : tile.b;
    tile.next_step = steps > 0 ? (last - first + steps - 1) / steps : 0;
  }
};

// [rows, columns] of bytes (int32 without factors), as finish says: rows of `depth` unsigned bytes,
// of which whole quads are read, times packed panels.
struct RowProduct {
  const uint8_t* a;
  int64_t a_stride;
  int64_t rows;
  int64_t depth;
  const int8_t* panels;
  int64_t columns;
  uint8_t* y;
  const uint8_t* residual;  // like y
};

// On all threads.
void multiply_rows(RunContext& c, const RowProduct& product, const IntegerFinish& finish);

// All of it on this one.
void multiply_rows(const RowProduct& product, const IntegerFinish& finish);

}  // namespace bascule
