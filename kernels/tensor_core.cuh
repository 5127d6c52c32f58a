// SPDX-License-Identifier: Apache-2.0
// Products of small tiles by tensor cores, from compute capability 8.0 on, of 16-bit elements or of
// floats, of which only the 10 leading bits of the mantissa count.
//
// A tile is spread over the 32 lanes of a warp. With g = lane / 4 and t = lane % 4, a lane holds,
// two neighbours in k in each register,
//   of A, 16 x 16:  (g, 2t), (g + 8, 2t), (g, 2t + 8), (g + 8, 2t + 8),
//   of B, 16 x 8:   (2t, g), (2t + 8, g),
//   of C, 16 x 8:   (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1), as floats.
// With floats A is 16 x 8 and B 8 x 8, a register holds one element, and in the place of 2t is t,
// of 2t + 8 is t + 4, but in C.
#pragma once

#include "common.cuh"

template <typename T>
constexpr bool is_bfloat16 = false;
template <>
constexpr bool is_bfloat16<bfloat16> = true;

// Two elements in a register, the first in its low half.
template <typename T>
__device__ inline uint32_t pack_pair(float low, float high) {
  uint32_t bits;
  if constexpr (is_bfloat16<T>) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    memcpy(&bits, &pair, 4);
  } else {
    const __half2 pair = __floats2half2_rn(low, high);
    memcpy(&bits, &pair, 4);
  }
  return bits;
}

// Four 8 x 8 tiles: lane i gives the address of row i % 8 of tile i / 8, in shared memory, and
// takes elements (g, 2t) and (g, 2t + 1) of each tile, or with `transposed` (2t, g) and (2t + 1,
// g).
template <bool transposed>
__device__ inline void load_tiles(uint32_t (&tiles)[4], const void* row) {
#ifdef BASCULE_EMULATED
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  for (int i = 0; i < 4; ++i) {
    uint16_t pair[2];
    for (int j = 0; j < 2; ++j) {
      const int r = transposed ? 2 * t + j : g, c = transposed ? g : 2 * t + j;
      const auto from = __shfl_sync(0xffffffffu, reinterpret_cast<uintptr_t>(row), 8 * i + r);
      pair[j] = reinterpret_cast<const uint16_t*>(from)[c];
    }
    memcpy(&tiles[i], pair, 4);
  }
#else
  const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  if constexpr (transposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(tiles[0]), "=r"(tiles[1]), "=r"(tiles[2]), "=r"(tiles[3])
                 : "r"(address)
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(tiles[0]), "=r"(tiles[1]), "=r"(tiles[2]), "=r"(tiles[3])
                 : "r"(address)
                 : "memory");
  }
#endif
}

// The bits of a float, rounded to the nearest that a product takes; what it does not take is cut
// off otherwise.
__device__ inline uint32_t round_bits(uint32_t x) {
#if !defined(BASCULE_EMULATED) && __CUDA_ARCH__ >= 800
  uint32_t y;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(y) : "f"(__uint_as_float(x)));
  return y;
#else
  const bool finite = (x & 0x7f800000) != 0x7f800000;
  return finite ? (x + 0x1000) & 0xffffe000 : x;
#endif
}

// c += a b
template <typename T>
__device__ inline void multiply_tiles(float (&c)[4], const uint32_t (&a)[4], uint32_t b0,
                                      uint32_t b1) {
#ifdef BASCULE_EMULATED
  constexpr int pair = 4 / sizeof(T), depth = 8 * pair;
  static float all_a[32][16][depth], all_b[32][depth][8];
  auto& tile_a = all_a[threadIdx.x / 32];
  auto& tile_b = all_b[threadIdx.x / 32];
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  T held[pair];
  for (int i = 0; i < 4; ++i) {
    memcpy(held, &a[i], 4);
    for (int j = 0; j < pair; ++j) {
      tile_a[g + i % 2 * 8][(t + i / 2 * 4) * pair + j] = widen(held[j]);
    }
  }
  for (int i = 0; i < 2; ++i) {
    memcpy(held, i == 0 ? &b0 : &b1, 4);
    for (int j = 0; j < pair; ++j) tile_b[(t + 4 * i) * pair + j][g] = widen(held[j]);
  }
  __syncwarp();
  for (int i = 0; i < 4; ++i) {
    for (int k = 0; k < depth; ++k) c[i] += tile_a[g + i / 2 * 8][k] * tile_b[k][2 * t + i % 2];
  }
  __syncwarp();
#elif __CUDA_ARCH__ >= 800
  if constexpr (sizeof(T) == 4) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  } else if constexpr (!is_bfloat16<T>) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  } else {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
#endif
}
