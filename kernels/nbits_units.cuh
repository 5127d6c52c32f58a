// SPDX-License-Identifier: Apache-2.0
// How weights of 4 bits, [n, k], lie for stream_nbits.cu: in units, which follow each other as they
// are read. A unit is what a warp multiplies at once, 16 columns by 128 of k, with its scales and
// zero points. Units of a tile of columns follow each other along k.
#pragma once

#include "common.cuh"

constexpr int tile_columns = 16;
constexpr int together = 128;     // of k
constexpr int data_bytes = 1024;  // of a unit

// How a unit lies: 16 bytes of each lane's column g, and as many of g + 8, then scales and zero
// points as lanes take them, those of both columns side by side. A row of x and part of k that has
// one scale is a segment.
template <int segments, bool has_zeros>
struct Unit {
  static constexpr int twos = segments == 4 ? 2 : 1;  // of segments, of a column
  static constexpr int scale_bytes = segments == 1 ? 4 : 8;
  static constexpr int zeros_at = data_bytes + 8 * twos * scale_bytes;
  static constexpr int bytes = zeros_at + (has_zeros ? 16 * twos : 0);

  // Which of these places a lane takes.
  __device__ static int place(int lane) {
    return segments == 4 ? lane / 4 * 2 + lane % 2 : lane / 4;
  }
};

// Columns are numbered so that a tile and that of its gate follow each other.
__device__ inline int column_of(int tile, int n, bool gated) {
  return gated ? tile / 2 * tile_columns + tile % 2 * (n / 2) : tile * tile_columns;
}
