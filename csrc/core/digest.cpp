// SPDX-License-Identifier: Apache-2.0
// Eight sums of 64 bits take a stripe of 64 bytes at a time: word by word, each adds the product of
// the two halves of its word, masked with the key, and its neighbour's word. Every 16 stripes the
// sums are scrambled; at the end they are folded twice, under different keys.
#include "core/digest.h"

#include <algorithm>
#include <cstring>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace bascule {

namespace {

constexpr size_t lanes = 8;
constexpr size_t stripe = lanes * sizeof(uint64_t);
constexpr size_t stripes = 16;
constexpr size_t block = stripe * stripes;
constexpr uint64_t odd32 = 0x9E3779B1;
constexpr uint64_t odd64 = 0x9E3779B185EBCA87;

uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  return x ^ (x >> 31);
}

uint64_t fold(uint64_t a, uint64_t b) {
  const auto product = static_cast<unsigned __int128>(a) * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

// The words that the key stands for.
struct Masks {
  explicit Masks(const Digest& key) {
    uint64_t state = key.low;
    for (uint64_t& word : words) {
      state += odd64;
      word = mix(state) ^ mix(state ^ key.high);
      state ^= key.high;
    }
  }
  uint64_t words[stripes + 4 * lanes];
};

struct Sums {
  uint64_t sum[lanes];

  void add(const unsigned char* from, size_t count, const uint64_t* mask) {
#if defined(__SSE2__)
    // As below. Compilers find the multiplication of halves, but only at half the speed.
    const auto load = [](const void* at) {
      return _mm_loadu_si128(static_cast<const __m128i*>(at));
    };
    constexpr size_t pairs = lanes / 2;
    __m128i sums[pairs];
    for (size_t i = 0; i < pairs; ++i) sums[i] = load(sum + 2 * i);
    for (size_t s = 0; s < count; ++s, from += stripe) {
      for (size_t i = 0; i < pairs; ++i) {
        const __m128i word = load(from + 2 * i * sizeof(uint64_t));
        const __m128i masked = _mm_xor_si128(word, load(mask + s + 2 * i));
        const __m128i product = _mm_mul_epu32(masked, _mm_srli_epi64(masked, 32));
        const __m128i neighbour = _mm_shuffle_epi32(word, _MM_SHUFFLE(1, 0, 3, 2));
        sums[i] = _mm_add_epi64(sums[i], _mm_add_epi64(product, neighbour));
      }
    }
    std::memcpy(sum, sums, sizeof(sum));
#else
    for (size_t s = 0; s < count; ++s) {
      uint64_t word[lanes];
      std::memcpy(word, from + s * stripe, stripe);
      for (size_t i = 0; i < lanes; ++i) {
        const uint64_t masked = word[i] ^ mask[s + i];
        sum[i] += (masked & 0xFFFFFFFF) * (masked >> 32) + word[i ^ 1];
      }
    }
#endif
  }

  void scramble(const uint64_t* mask) {
    for (size_t i = 0; i < lanes; ++i) sum[i] = ((sum[i] ^ (sum[i] >> 47)) ^ mask[i]) * odd32;
  }

  uint64_t folded(const uint64_t* mask, uint64_t start) const {
    for (size_t i = 0; i < lanes; i += 2) start += fold(sum[i] ^ mask[i], sum[i + 1] ^ mask[i + 1]);
    return mix(start);
  }
};

}  // namespace

Digest digest_of(const void* data, size_t bytes, const Digest& key) {
  const Masks masks(key);
  const uint64_t* scramble_mask = masks.words + stripes + lanes;
  Sums sums;
  std::copy_n(masks.words, lanes, sums.sum);
  const auto* from = static_cast<const unsigned char*>(data);
  size_t left = bytes;
  for (; left >= block; left -= block, from += block) {
    sums.add(from, stripes, masks.words);
    sums.scramble(scramble_mask);
  }
  sums.add(from, left / stripe, masks.words);
  unsigned char rest[stripe] = {};
  if (left % stripe > 0) std::memcpy(rest, from + left / stripe * stripe, left % stripe);
  sums.add(rest, 1, masks.words + stripes - 1);
  sums.scramble(scramble_mask);
  return {sums.folded(masks.words + stripes, bytes * odd64),
          sums.folded(masks.words + stripes + 2 * lanes, ~(bytes * odd32))};
}

}  // namespace bascule
