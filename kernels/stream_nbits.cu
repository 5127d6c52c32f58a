// SPDX-License-Identifier: Apache-2.0
// Products of a few rows with weights of 4 bits, [n, k], for 16-bit elements.
//
// Tensor cores multiply whole numbers, and scales are applied to sums over a block, so that a
// weight costs little more than being taken out of its word.
#include "stream.cuh"

namespace {

// Eight weights of a word, less a zero point: (0, 4), (1, 5), (2, 6) and (3, 7). The patterns
// become the low bits of numbers from 1024 (bfloat16: 128) on, so that all of this is exact.
template <typename T>
__device__ inline void expand(uint32_t word, int zero, uint32_t (&pairs)[4]);

#ifdef BASCULE_EMULATED
template <typename T>
__device__ inline void expand(uint32_t word, int zero, uint32_t (&pairs)[4]) {
  for (int i = 0; i < 4; ++i) {
    const int low = word >> (4 * i) & 15, high = word >> (4 * i + 16) & 15;
    pairs[i] = pack_pair<T>(static_cast<float>(low - zero), static_cast<float>(high - zero));
  }
}
#else
// (a & b) | c
__device__ inline uint32_t and_or(uint32_t a, uint32_t b, uint32_t c) {
  uint32_t y;
  asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(y) : "r"(a), "r"(b), "r"(c));
  return y;
}
template <typename Pair>
__device__ inline Pair as_pair(uint32_t bits) {
  return *reinterpret_cast<Pair*>(&bits);
}
template <typename Pair>
__device__ inline uint32_t as_bits(Pair pair) {
  return *reinterpret_cast<uint32_t*>(&pair);
}
template <>
__device__ inline void expand<float16>(uint32_t word, int zero, uint32_t (&pairs)[4]) {
  const uint32_t low = 0x64006400u + static_cast<uint32_t>(zero) * 0x00010001u;   // 1024 + zero
  const uint32_t high = 0xd400d400u + static_cast<uint32_t>(zero) * 0x00100010u;  // -64 - zero
  const __half2 offset = as_pair<__half2>(low), moved = as_pair<__half2>(high);
  const __half2 sixteenth = as_pair<__half2>(0x2c002c00u);
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const uint32_t part = i == 0 ? word : word >> 8;
    const __half2 even = as_pair<__half2>(and_or(part, 0x000f000fu, 0x64006400u));
    const __half2 odd = as_pair<__half2>(and_or(part, 0x00f000f0u, 0x64006400u));
    pairs[2 * i] = as_bits(__hsub2(even, offset));
    pairs[2 * i + 1] = as_bits(__hfma2(odd, sixteenth, moved));
  }
}
template <>
__device__ inline void expand<bfloat16>(uint32_t word, int zero, uint32_t (&pairs)[4]) {
  const uint32_t low = 0x43004300u + static_cast<uint32_t>(zero) * 0x00010001u;  // 128 + zero
  const __nv_bfloat162 offset = as_pair<__nv_bfloat162>(low);
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const uint32_t bits = and_or(word >> (4 * i), 0x000f000fu, 0x43004300u);
    pairs[i] = as_bits(__hsub2(as_pair<__nv_bfloat162>(bits), offset));
  }
}
#endif

// Weights in blocks of which `segments` or the part of one are read at once. Of scales and zero
// points a thread reads what it will need, into words of its own.
template <typename T, int block_segments, bool has_zeros>
struct Weights {
  static constexpr int together = 128, segments = block_segments;
  static constexpr int words = has_zeros ? 4 : 2;
  static constexpr int depth = 5, more_bytes = stream_threads * 4 * words;

  const uint8_t* data;
  const T* scales;
  const uint8_t* zeros;  // packed like the weights, rows of whole bytes
  int n, blocks, row_bytes;
  int block_shift;  // log2 of the size of a block
  // Where the two columns of a lane begin.
  int64_t of_scales[2], of_zeros[2];

  // Of each eight weights of a word `expand` makes such pairs.
  __device__ static int place(int i) { return i % 4 * 2 + i / 4; }
  __device__ const unsigned char* row(int column) const {
    return data + static_cast<int64_t>(column) * row_bytes;
  }
  __device__ int zero_bytes() const { return (blocks + 1) / 2; }

  // The block of weights `segment` of a group.
  __device__ int block_of(int group, int segment) const {
    return segments == 1 ? group * together >> block_shift : group * segments + segment;
  }
  // That of the weights that a lane reads.
  __device__ int own_block(int group) const {
    return block_of(group, threadIdx.x % 4 / (4 / segments));
  }

  __device__ void select(int column, int second) {
    const int64_t both[2] = {column, second};
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      of_scales[i] = both[i] * blocks;
      of_zeros[i] = both[i] * zero_bytes();
    }
  }

  __device__ void fetch(int group, unsigned char* to) const {
    uint32_t* own = reinterpret_cast<uint32_t*>(to) + threadIdx.x;
    // The scales of the sums that the lane will have: two, or of one the word that it is in.
    const int block = block_of(group, 2 * (threadIdx.x % 4) % segments);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int64_t scale = (of_scales[i] + block) & ~1, count = static_cast<int64_t>(n) * blocks;
      const int exist = block >= blocks ? 0 : scale + 1 < count ? 4 : 2;
      copy_4_bytes(own + stream_threads * i, scales + (exist ? scale : 0), exist);
    }
    if constexpr (has_zeros) {
      const int place = min(own_block(group), blocks - 1) / 2;
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int64_t word = (of_zeros[i] + place) & ~3;
        const int64_t exist = static_cast<int64_t>(n) * zero_bytes() - word;
        copy_4_bytes(own + stream_threads * (2 + i), zeros + word, exist < 4 ? exist : 4);
      }
    }
  }

  __device__ void multiply(int column, int group, const uint4& low, const uint4& high,
                           const unsigned char* more, const uint4* x, float (&sums)[4]) const {
    const uint32_t* own = reinterpret_cast<const uint32_t*>(more) + threadIdx.x;
    const uint4 packed[2] = {low, high};
    int zero[2] = {8, 8};
    if constexpr (has_zeros) {
      const int block = own_block(group);
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int byte = (column + 8 * i) * zero_bytes() + block / 2;
        zero[i] = own[stream_threads * (2 + i)] >> (byte % 4 * 8 + block % 2 * 4) & 15;
      }
    }
    float c[4] = {};
#pragma unroll
    for (int word = 0; word < 4; ++word) {
      uint32_t pairs[2][4];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const uint32_t bits = word == 0   ? packed[i].x
                              : word == 1 ? packed[i].y
                              : word == 2 ? packed[i].z
                                          : packed[i].w;
        expand<T>(bits, zero[i], pairs[i]);
      }
      const uint4 values = x[word];
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const uint32_t a[4] = {pairs[0][2 * half], pairs[1][2 * half], pairs[0][2 * half + 1],
                               pairs[1][2 * half + 1]};
        multiply_tiles<T>(c, a, half == 0 ? values.x : values.z, half == 0 ? values.y : values.w);
      }
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float scale[2];
      unpack_word<T>(own[stream_threads * i], scale);
      if constexpr (segments == 1) {
        const bool is_second = ((column + 8 * i) * blocks + block_of(group, 0)) % 2 != 0;
        scale[0] = scale[1] = is_second ? scale[1] : scale[0];
      }
      sums[2 * i] += c[2 * i] * scale[0];
      sums[2 * i + 1] += c[2 * i + 1] * scale[1];
    }
  }
};

}  // namespace

#define STREAMED(name, T, segments, kind, has_zeros)                                             \
  extern "C" __global__ void __launch_bounds__(stream_threads, 2)                                \
      stream_nbits_##kind##segments##_##name(                                                    \
          const T* x, const uint8_t* data, const T* scales, const uint8_t* zeros, T* y,          \
          const T* norm, float epsilon, int m, int n, int k, int blocks, int row_bytes,          \
          int block_shift, int slices, int gated, int constant, EPILOGUE_PARAMETERS(T)) {        \
    wait_for_previous_kernels(true);                                                             \
    const Product<T> product{x, norm, nullptr, y, epsilon, 0, m, n, k, slices, gated, constant}; \
    Weights<T, segments, has_zeros> weights{data,      scales,      zeros, n, blocks,            \
                                            row_bytes, block_shift, {},    {}};                  \
    multiply_streamed(product, weights, EPILOGUE(T));                                            \
  }
#define FOR_ZEROS(name, T, segments)   \
  STREAMED(name, T, segments, , false) \
  STREAMED(name, T, segments, zeros_, true)
#define FOR_SEGMENTS(name, T) FOR_ZEROS(name, T, 1) FOR_ZEROS(name, T, 2) FOR_ZEROS(name, T, 4)
FOR_SEGMENTS(float16, float16)
FOR_SEGMENTS(bfloat16, bfloat16)

// y[i] = swish(x) * gate, of the halves of each row of x.
#define GATE(name, T)                                                                    \
  extern "C" __global__ void gate_##name(const T* x, T* y, int64_t size, int64_t half) { \
    wait_for_previous_kernels();                                                         \
    for (int64_t i = thread_number(); i < size; i += thread_count()) {                   \
      const T* from = x + i / half * 2 * half + i % half;                                \
      const float value = widen(from[0]);                                                \
      y[i] = narrow<T>(value / (1 + expf(-value)) * widen(from[half]));                  \
    }                                                                                    \
  }
GATE(float32, float)
GATE(float16, float16)
GATE(bfloat16, bfloat16)
