// SPDX-License-Identifier: Apache-2.0
// parts: float16 bfloat16
//
// Weights of 4 bits put into units, and units made floats. Both once a model, or for many rows.
#include "nbits_units.cuh"

namespace {

// Weights as they are in a model: data [n][row_bytes], scales and zero points [n][blocks].
template <typename T>
struct Plain {
  const uint8_t* data;
  const T* scales;
  const uint8_t* zeros;  // null, or packed like the weights, rows of whole bytes
  int n, k, blocks, row_bytes, block_shift;

  // The block of a segment of a group.
  template <int segments>
  __device__ int block_of(int group, int segment) const {
    return segments == 1 ? group * together >> block_shift : group * segments + segment;
  }
  __device__ uint32_t zero(int column, int block) const {
    const int64_t row = static_cast<int64_t>(column) * ((blocks + 1) / 2);
    return zeros[row + block / 2] >> block % 2 * 4 & 15;
  }
};

// A block makes a unit. What lies beyond the weights is zeros.
template <typename T, int segments, bool has_zeros>
__device__ void pack_units(const Plain<T>& w, unsigned char* units, bool gated) {
  using Lies = Unit<segments, has_zeros>;
  const int groups = (w.k + together - 1) / together;
  const int tile = blockIdx.x / groups, group = blockIdx.x % groups;
  const int first = column_of(tile, w.n, gated), columns = gated ? w.n / 2 : w.n;
  const int left = columns - (gated ? tile / 2 : tile) * tile_columns;
  unsigned char* unit = units + static_cast<int64_t>(blockIdx.x) * Lies::bytes;
  for (int i = threadIdx.x; i < data_bytes; i += blockDim.x) {
    const int chunk = i / 16, column = chunk / 32 * 8 + chunk % 32 / 4;
    const int at = group * (together / 2) + chunk % 4 * 16 + i % 16;
    const bool exists = column < left && at < w.row_bytes;
    unit[i] = exists ? w.data[static_cast<int64_t>(first + column) * w.row_bytes + at] : 0;
  }
  // Of place `at`, column number `i` of its two, and segment `j`.
  const auto block_of = [&](int at, int i, int j) {
    const int column = at / Lies::twos + 8 * i, segment = at % Lies::twos * 2 + j;
    const int block = w.template block_of<segments>(group, segments == 1 ? 0 : segment);
    return column < left && block < w.blocks ? block : -1;
  };
  constexpr int each = segments == 1 ? 1 : 2;  // scales of a column at a place
  T* scales = reinterpret_cast<T*>(unit + data_bytes);
  for (int n = threadIdx.x; n < 8 * Lies::twos * 2 * each; n += blockDim.x) {
    const int at = n / (2 * each), i = n / each % 2, block = block_of(at, i, n % each);
    const int64_t column = first + at / Lies::twos + 8 * i;
    scales[n] = block < 0 ? narrow<T>(0.0f) : w.scales[column * w.blocks + block];
  }
  if constexpr (has_zeros) {
    uint16_t* zeros = reinterpret_cast<uint16_t*>(unit + Lies::zeros_at);
    for (int at = threadIdx.x; at < 8 * Lies::twos; at += blockDim.x) {
      uint32_t bits = 0;
      for (int n = 0; n < 4; ++n) {
        const int block = block_of(at, n / 2, n % 2);
        const int column = first + at / Lies::twos + n / 2 * 8;
        if (block >= 0) bits |= w.zero(column, block) << 4 * n;
      }
      zeros[at] = static_cast<uint16_t>(bits);
    }
  }
}

// A block makes floats of a unit, y [n, k].
template <typename T, int segments, bool has_zeros>
__device__ void expand_units(const unsigned char* units, T* y, int n, int k, bool gated) {
  using Lies = Unit<segments, has_zeros>;
  constexpr int each = segments == 1 ? 1 : 2;
  const int groups = (k + together - 1) / together;
  const int tile = blockIdx.x / groups, group = blockIdx.x % groups;
  const int first = column_of(tile, n, gated), columns = gated ? n / 2 : n;
  const int left = columns - (gated ? tile / 2 : tile) * tile_columns;
  const unsigned char* unit = units + static_cast<int64_t>(blockIdx.x) * Lies::bytes;
  const T* scales = reinterpret_cast<const T*>(unit + data_bytes);
  for (int i = threadIdx.x; i < tile_columns * together; i += blockDim.x) {
    const int column = i / together, within = i % together, at_k = group * together + within;
    if (column >= left || at_k >= k) continue;
    const int chunk = column / 8 * 32 + column % 8 * 4 + within / 32;
    const int byte = unit[chunk * 16 + within % 32 / 2];
    const int segment = within / (together / segments);
    const int at = column % 8 * Lies::twos + segment / 2, which = column / 8;
    int zero = 8;
    if constexpr (has_zeros) {
      const int bits = reinterpret_cast<const uint16_t*>(unit + Lies::zeros_at)[at];
      zero = bits >> (which * 2 + segment % 2) * 4 & 15;
    }
    const float scale = widen(scales[(at * 2 + which) * each + segment % 2]);
    const float number = static_cast<float>((byte >> within % 2 * 4 & 15) - zero);
    y[static_cast<int64_t>(first + column) * k + at_k] = narrow<T>(number * scale);
  }
}

}  // namespace

#define LAID(name, T, segments, kind, has_zeros)                                               \
  extern "C" __global__ void pack_nbits_##kind##segments##_##name(                             \
      const uint8_t* data, const T* scales, const uint8_t* zeros, unsigned char* units, int n, \
      int k, int blocks, int row_bytes, int block_shift, int gated) {                          \
    const Plain<T> plain{data, scales, zeros, n, k, blocks, row_bytes, block_shift};           \
    pack_units<T, segments, has_zeros>(plain, units, gated);                                   \
  }                                                                                            \
  extern "C" __global__ void expand_units_##kind##segments##_##name(                           \
      const unsigned char* units, T* y, int n, int k, int gated) {                             \
    expand_units<T, segments, has_zeros>(units, y, n, k, gated);                               \
  }
#define FOR_SEGMENTS(name, T, segments) \
  LAID(name, T, segments, , false) LAID(name, T, segments, zeros_, true)
#define FOR_TYPES(name, T) \
  IN_PART(name, FOR_SEGMENTS(name, T, 1) FOR_SEGMENTS(name, T, 2) FOR_SEGMENTS(name, T, 4))
FOR_TYPES(float16, float16)
FOR_TYPES(bfloat16, bfloat16)
