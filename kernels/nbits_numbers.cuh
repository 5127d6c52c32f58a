// SPDX-License-Identifier: Apache-2.0
// Weights of 4 bits as numbers that tensor cores multiply.
#pragma once

#include "tensor_core.cuh"

// Eight weights of a word as numbers: (0, 4), (1, 5), (2, 6) and (3, 7). Their patterns become the
// low bits of numbers from a power of two on, so that this takes an instruction for a pair; what is
// thus added to even and to odd ones is taken off the sums.
template <typename T>
struct Added {
  static constexpr float even = 1024, odd = 64;
};
template <>
struct Added<bfloat16> {
  static constexpr float even = 128, odd = 128;
};

template <typename T>
__device__ inline void expand(uint32_t word, uint32_t (&pairs)[4]);

#ifdef BASCULE_EMULATED
template <typename T>
__device__ inline void expand(uint32_t word, uint32_t (&pairs)[4]) {
  for (int i = 0; i < 4; ++i) {
    const float added = i % 2 == 0 ? Added<T>::even : Added<T>::odd;
    const int low = word >> (4 * i) & 15, high = word >> (4 * i + 16) & 15;
    pairs[i] = pack_pair<T>(low + added, high + added);
  }
}
#else
// (a & b) | c
__device__ inline uint32_t and_or(uint32_t a, uint32_t b, uint32_t c) {
  uint32_t y;
  asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(y) : "r"(a), "r"(b), "r"(c));
  return y;
}
template <>
__device__ inline void expand<float16>(uint32_t word, uint32_t (&pairs)[4]) {
  const uint32_t further = word >> 8;
  pairs[0] = and_or(word, 0x000f000fu, 0x64006400u);
  pairs[1] = and_or(word, 0x00f000f0u, 0x54005400u);
  pairs[2] = and_or(further, 0x000f000fu, 0x64006400u);
  pairs[3] = and_or(further, 0x00f000f0u, 0x54005400u);
}
template <>
__device__ inline void expand<bfloat16>(uint32_t word, uint32_t (&pairs)[4]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) pairs[i] = and_or(word >> (4 * i), 0x000f000fu, 0x43004300u);
}
#endif

__device__ inline uint32_t word_of(const uint4& words, int i) {
  return i == 0 ? words.x : i == 1 ? words.y : i == 2 ? words.z : words.w;
}
