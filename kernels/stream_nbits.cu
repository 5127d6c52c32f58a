// SPDX-License-Identifier: Apache-2.0
// parts: 1_float16 2_float16 4_float16 1_bfloat16 2_bfloat16 4_bfloat16
//
// Products of a few rows with weights of 4 bits, [n, k], for 16-bit elements.
//
// Tensor cores multiply whole numbers, and scales are applied to sums over a block, so that a
// weight costs little more than being taken out of its word.
#include "stream.cuh"

namespace {

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

// Weights in blocks of which `segments` or the part of one are read at once. Four lanes read what
// belongs to their two columns: scales by twos, and the bytes with the zero points of such two.
template <typename T, int block_segments, bool has_zeros>
struct Weights {
  static constexpr int together = 128, segments = block_segments;
  static constexpr int twos = segments == 4 ? 2 : 1;  // of scales, of a column
  static constexpr int words = has_zeros ? 2 : 1;
  static constexpr int depth = 6, more_bytes = stream_threads * 4 * words;
  static constexpr int noted_of_group = 8;  // for each segment, what is to be taken off, and a sum

  const uint8_t* data;
  const T* scales;
  const uint8_t* zeros;  // packed like the weights, rows of whole bytes
  int n, blocks, row_bytes;
  int block_shift;  // log2 of the size of a block
  int rows;         // of x
  float* noted;
  const float* own_noted[2];  // of the sums 2t and 2t + 1
  // Where the column begins whose scales this lane reads.
  int64_t of_scales, of_zeros;

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

  __device__ void select(int column, int second) {
    const int64_t own = threadIdx.x % 4 / twos % 2 == 0 ? column : second;
    of_scales = own * blocks;
    of_zeros = own * zero_bytes();
  }

  __device__ void fetch(int group, unsigned char* to) const {
    uint32_t* own = reinterpret_cast<uint32_t*>(to) + threadIdx.x;
    const int block = block_of(group, threadIdx.x % twos * 2);
    if constexpr (segments == 1) {  // the word that it is in
      const int64_t scale = (of_scales + block) & ~1, count = static_cast<int64_t>(n) * blocks;
      const int exist = block >= blocks ? 0 : scale + 1 < count ? 4 : 2;
      copy_4_bytes(own, scales + (exist ? scale : 0), exist);
    } else {  // there is an even number of blocks
      copy_4_bytes(own, scales + (of_scales + block), block < blocks ? 4 : 0);
    }
    if constexpr (has_zeros) {
      const int64_t word = (of_zeros + min(block, blocks - 1) / 2) & ~3;
      const int64_t exist = static_cast<int64_t>(n) * zero_bytes() - word;
      copy_4_bytes(own + stream_threads, zeros + word, exist < 4 ? exist : 4);
    }
  }

  // Sums of x over a segment, as they are and weighed by what `expand` adds.
  __device__ void note(int row, int k, int end, const uint4& raw) const {
    constexpr int lanes = together / segments / 8;  // that have a segment
    float values[8];
    unpack<T>(raw, values);
    float even = values[0] + values[2] + (values[4] + values[6]);
    float odd = values[1] + values[3] + (values[5] + values[7]);
#pragma unroll
    for (int step = 1; step < lanes; step *= 2) {
      even += __shfl_xor_sync(0xffffffffu, even, step);
      odd += __shfl_xor_sync(0xffffffffu, odd, step);
    }
    if (threadIdx.x % lanes == 0 && k < end) {
      const int group = row * (end / together) + k / together;
      float* to = noted + group * noted_of_group + k % together / 8 / lanes * 2;
      const float zero = has_zeros ? 0 : 8;
      to[0] = even * (Added<T>::even + zero) + odd * (Added<T>::odd + zero);
      to[1] = even + odd;
    }
  }

  // Sums 2t and 2t + 1 are those of a segment of a row each.
  __device__ void begin(int groups) {
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const int sum = threadIdx.x % 4 * 2 + j, row = min(sum / segments, rows - 1);
      own_noted[j] = noted + row * groups * noted_of_group + sum % segments * 2;
    }
  }

  __device__ void multiply(int column, int group, const uint4& low, const uint4& high,
                           const unsigned char* more, const uint4* x, float (&sums)[4]) const {
    const int t = threadIdx.x % 4;
    // The lanes that have read for the two columns of this one.
    const uint32_t* own = reinterpret_cast<const uint32_t*>(more) + (threadIdx.x - t);
    const int of_lane[2] = {t % twos, twos + t % twos};
    float c[2][4] = {};
#pragma unroll
    for (int word = 0; word < 4; ++word) {
      const auto bits_of = [&](const uint4& packed) {
        return word == 0 ? packed.x : word == 1 ? packed.y : word == 2 ? packed.z : packed.w;
      };
      uint32_t pairs[2][4];
      expand<T>(bits_of(low), pairs[0]);
      expand<T>(bits_of(high), pairs[1]);
      const uint4 values = x[word];
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const uint32_t a[4] = {pairs[0][2 * half], pairs[1][2 * half], pairs[0][2 * half + 1],
                               pairs[1][2 * half + 1]};
        multiply_tiles<T>(c[half], a, half == 0 ? values.x : values.z,
                          half == 0 ? values.y : values.w);
      }
    }
    float2 of_x[2];  // what is to be taken off, and a sum
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      of_x[j] = *reinterpret_cast<const float2*>(own_noted[j] + group * noted_of_group);
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float scale[2], zero[2] = {0, 0};
      unpack_word<T>(own[of_lane[i]], scale);
      const int block = block_of(group, 2 * t % segments);
      if constexpr (segments == 1) {
        const bool is_second = ((column + 8 * i) * blocks + block) % 2 != 0;
        scale[0] = scale[1] = is_second ? scale[1] : scale[0];
      }
      if constexpr (has_zeros) {
        const int byte = (column + 8 * i) * zero_bytes() + block / 2;
        const uint32_t pair = own[stream_threads + of_lane[i]] >> (byte % 4 * 8);
        zero[0] = static_cast<float>((segments == 1 ? pair >> block % 2 * 4 : pair) & 15);
        zero[1] = segments == 1 ? zero[0] : static_cast<float>(pair >> 4 & 15);
      }
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        float sum = c[0][2 * i + j] + c[1][2 * i + j] - of_x[j].x;
        if constexpr (has_zeros) sum -= zero[j] * of_x[j].y;
        sums[2 * i + j] += sum * scale[j];
      }
    }
  }
};

}  // namespace

#define STREAMED(name, T, segments, kind, has_zeros)                                            \
  extern "C" __global__ void __launch_bounds__(stream_threads, 2)                               \
      stream_nbits_##kind##segments##_##name(                                                   \
          const T* x, const uint8_t* data, const T* scales, const uint8_t* zeros, T* y,         \
          const T* norm, float epsilon, int m, int n, int k, int blocks, int row_bytes,         \
          int block_shift, int slices, int depth, int gated, int constant,                      \
          EPILOGUE_PARAMETERS(T)) {                                                             \
    wait_for_previous_kernels(true);                                                            \
    const Product<T> product{x, norm, nullptr, y,     epsilon, 0,       m,                      \
                             n, k,    slices,  depth, gated,   constant};                       \
    Weights<T, segments, has_zeros> weights{data,        scales, zeros,   n, blocks, row_bytes, \
                                            block_shift, m,      nullptr, 0, 0};                \
    multiply_streamed(product, weights, EPILOGUE(T));                                           \
  }
#define FOR_ZEROS(name, T, segments) \
  IN_PART(segments##_##name,         \
          STREAMED(name, T, segments, , false) STREAMED(name, T, segments, zeros_, true))
#define FOR_SEGMENTS(name, T) FOR_ZEROS(name, T, 1) FOR_ZEROS(name, T, 2) FOR_ZEROS(name, T, 4)
FOR_SEGMENTS(float16, float16)
FOR_SEGMENTS(bfloat16, bfloat16)
