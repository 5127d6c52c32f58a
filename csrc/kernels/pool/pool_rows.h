// SPDX-License-Identifier: Apache-2.0
// What the vector loops of pooling are given. Plain data, shared by code of every instruction set.
#pragma once

#include <cstdint>

namespace bascule {

// One output row of one channel: channels-first layout.
template <class T>
struct PoolRow {
  // Rows of the input under the window: rows[0] * rows[1] of them, `steps` elements apart.
  const T* x;
  int64_t rows[2];
  int64_t steps[2];
  // Along the row.
  int64_t input;
  int64_t output;
  int64_t kernel;
  int64_t stride;
  int64_t dilation;
  int64_t pad;
  const float* counts;  // what to divide by along the row, times row_count; null for a maximum
  float row_count;
  T* y;
  T* buffer;  // pool_row_buffer() elements
};

// A whole row with its padding, and room for whole vectors behind the last window.
template <class T>
constexpr int64_t pool_row_buffer(const PoolRow<T>& row) {
  const int64_t windows = (row.output + 15) * row.stride + (row.kernel - 1) * row.dilation + 1;
  const int64_t values = row.pad + row.input;
  return windows > values ? windows : values;
}

// One output position of all channels: channels-last layout. The taps are `steps` elements apart.
template <class T>
struct PoolPixel {
  const T* x;
  int64_t taps[3];
  int64_t steps[3];
  int64_t channels;
  float count;  // to divide by; not used for a maximum
  T* y;
};

struct PoolFunctions {
  void (*max_row)(const PoolRow<float>& row);
  void (*max_row_u8)(const PoolRow<uint8_t>& row);
  void (*max_row_s8)(const PoolRow<int8_t>& row);
  void (*average_row)(const PoolRow<float>& row);
  void (*max_pixel)(const PoolPixel<float>& pixel);
  void (*max_pixel_u8)(const PoolPixel<uint8_t>& pixel);
  void (*max_pixel_s8)(const PoolPixel<int8_t>& pixel);
  void (*average_pixel)(const PoolPixel<float>& pixel);
  float (*sum_plane)(const float* x, int64_t n);  // of n neighbours
  float (*max_plane)(const float* x, int64_t n);  // NaN if one is
};

const PoolFunctions& pool_functions();

}  // namespace bascule
