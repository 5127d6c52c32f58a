// SPDX-License-Identifier: Apache-2.0
// A mask in the registers of a warp, where tensor cores leave the scores that it is added to.
#pragma once

#include "attention.cuh"

// An unsigned integer of so many bytes.
template <int bytes>
struct Unsigned {
  using type = uint32_t;
};
template <>
struct Unsigned<1> {
  using type = uint8_t;
};
template <>
struct Unsigned<2> {
  using type = uint16_t;
};

// Elements of a mask for two neighbouring keys, as they are in memory; 0 where there are none.
template <bool aligned, typename E, int words>
__device__ inline void load_pair(uint32_t (&to)[words], const E* at, int count) {
  constexpr int bits = 8 * sizeof(E);
  if constexpr (!aligned) {
    const uint32_t first = count > 0 ? at[0] : 0, second = count > 1 ? at[1] : 0;
    to[0] = bits == 32 ? first : first | second << bits % 32;
    if constexpr (bits == 32) to[1] = second;
  } else if constexpr (bits == 32) {
    const uint2 pair = count > 0 ? *reinterpret_cast<const uint2*>(at) : make_uint2(0, 0);
    to[0] = pair.x;
    to[1] = pair.y;
  } else {
    using Pair = typename Unsigned<2 * sizeof(E)>::type;
    to[0] = count > 0 ? *reinterpret_cast<const Pair*>(at) : 0;
  }
}

// For queries of type T: the part of a mask that belongs to `TILES` x `GROUPS` tiles of 16 rows and
// 8 keys, of which a lane has rows lane / 4 (`half` 0) and lane / 4 + 8 (`half` 1) and two keys.
template <typename T, int TILES, int GROUPS>
struct MaskTiles {
  const Attention& a;
  const unsigned char* data;  // the head's; null: there is none
  int itemsize;
  int row;        // the lane's first row
  int begin = 0;  // its first key
  uint32_t pairs[TILES][2][GROUPS][sizeof(T) / 2];

  // `start`: where the head's begins, in elements.
  __device__ MaskTiles(const Attention& a, const void* mask, int64_t start, int row)
      : a(a), data(static_cast<const unsigned char*>(mask)), row(row) {
    const int wide = sizeof(wide_t<T>);
    itemsize = a.mask_kind == mask_boolean ? 1 : a.mask_kind == mask_wide ? wide : sizeof(T);
    if (data != nullptr) data += start * itemsize;
  }

  template <typename E>
  __device__ const E* row_of(int m, int half) const {
    const int query = min(row + m * 16 + half * 8, a.queries - 1);
    return reinterpret_cast<const E*>(data + query * (a.mask_row * itemsize));
  }

  // Asks for all elements from the lane's key `first` on, before any of them is waited for.
  __device__ void load(int first) {
    begin = first;
    // Whether every row begins at a multiple of a pair, and has pairs alone.
    const int64_t bits = reinterpret_cast<int64_t>(data) | a.mask_row * itemsize;
    const bool aligned = ((bits | itemsize * (a.mask_keys | begin)) & (2 * itemsize - 1)) == 0;
    if (a.mask_kind == mask_boolean) {
      aligned ? load_pairs<true, uint8_t>() : load_pairs<false, uint8_t>();
    } else if (a.mask_kind == mask_narrow) {
      using Bits = typename Unsigned<sizeof(T)>::type;
      aligned ? load_pairs<true, Bits>() : load_pairs<false, Bits>();
    }
  }

  template <bool aligned, typename E>
  __device__ void load_pairs() {
#pragma unroll
    for (int m = 0; m < TILES; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const E* keys = row_of<E>(m, half) + begin;
#pragma unroll
        for (int n = 0; n < GROUPS; ++n) {
          load_pair<aligned>(pairs[m][half][n], keys + n * 8, a.mask_keys - begin - n * 8);
        }
      }
    }
  }

  // What is added to a score; `j` is 0 or 1, of the two keys.
  template <int kind>
  __device__ float value(int m, int half, int n, int j) const {
    if constexpr (kind == mask_boolean) {
      return (pairs[m][half][n][0] >> 8 * j & 0xff) != 0 ? 0.0f : negative_infinity();
    } else if constexpr (kind == mask_narrow) {
      T pair[2];
      memcpy(pair, pairs[m][half][n], sizeof(pair));
      return widen(pair[j]);
    } else {  // of a rare type, which is not kept
      const int key = begin + n * 8 + j;
      return key < a.mask_keys ? row_of<float>(m, half)[key] : 0.0f;
    }
  }
};
