// SPDX-License-Identifier: Apache-2.0
// Between channels first, [N, C, pixels], and channels last, [N, pixels, C].
#pragma once

#include <algorithm>
#include <cstddef>

#include "kernels/move/transpose_tile.h"
#include "runtime/run_context.h"

namespace bascule {

// to[n][column][row] = from[n][row][column]
template <class T>
void transpose_images(RunContext& c, const T* from, T* to, int64_t count, int64_t rows,
                      int64_t columns) {
  // Blocks of columns: a few cache lines of each row.
  constexpr int64_t step = 64;
  const int64_t blocks = (columns + step - 1) / step;
  c.parallel_for(count * blocks, static_cast<double>(rows * step), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t offset = i / blocks * rows * columns;
      const int64_t column = i % blocks * step;
      transpose_tile<T>(reinterpret_cast<const std::byte*>(from + offset + column),
                        columns * static_cast<int64_t>(sizeof(T)),
                        reinterpret_cast<std::byte*>(to + offset + column * rows),
                        rows * static_cast<int64_t>(sizeof(T)), rows,
                        std::min(step, columns - column));
    }
  });
}

// The same images with channels last: in workspace, or where they are if that is the same.
template <class T>
const T* to_channels_last(RunContext& c, const T* x, int64_t count, int64_t channels,
                          int64_t pixels) {
  if (x == nullptr || channels == 1 || pixels == 1) return x;
  T* to = c.workspace<T>(count * channels * pixels);
  transpose_images(c, x, to, count, channels, pixels);
  return to;
}

}  // namespace bascule
