// SPDX-License-Identifier: Apache-2.0
// Products of 8-bit integers with zero points, exact in 32 bits, as they are or requantized.
#include "quantized_operands.cuh"

namespace {

constexpr int tile = 64, quads = 8, depth = 4 * quads, tile_threads = 256;

// What the sums become: themselves, or bytes.
struct Result {
  int32_t* sums;  // or null
  uint8_t* bytes;
  Lines a_scale, b_scale, y_scale, y_zero;

  __device__ void store(int32_t sum, int64_t index, int64_t a_item, int64_t row, int64_t b_item,
                        int64_t column) const {
    if (sums != nullptr) {
      sums[index] = sum;
      return;
    }
    const float scale =
        a_scale.number(a_item, row) * b_scale.number(b_item, column) / y_scale.number(0, 0);
    const float moved = rintf(static_cast<float>(sum) * scale) + y_zero.integer(0, 0);
    const float low = y_zero.kind == 3 ? -128.0f : 0.0f, high = low + 255.0f;
    const float value = moved > low ? (moved < high ? moved : high) : low;  // NaN becomes low
    bytes[index] = static_cast<uint8_t>(static_cast<int>(value));
  }
};

// Bytes are multiplied as signed ones: unsigned ones are moved by 128, with their zero points. Four
// along k lie in a word. A block makes 64 x 64 results, a thread 4 x 4 of them.
__device__ void multiply_bytes(const uint8_t* a, const uint8_t* b, bool a_unsigned, bool b_unsigned,
                               const Lines& a_zero, const Lines& b_zero, int64_t m, int64_t n,
                               int64_t k, const Batch& batch, const Result& result) {
  __shared__ uint32_t a_tile[quads][tile + 4], b_tile[quads][tile + 4];
  const int64_t column_tiles = (n + tile - 1) / tile, row_tiles = (m + tile - 1) / tile;
  const int64_t first_column = blockIdx.x % column_tiles * tile;
  const int64_t first_row = blockIdx.x / column_tiles % row_tiles * tile;
  const int64_t item = blockIdx.x / column_tiles / row_tiles;
  int64_t a_item, b_item;
  batch.find(item, a_item, b_item);
  a += a_item * m * k;
  b += b_item * k * n;
  const uint32_t a_flip = a_unsigned ? 0x80 : 0, b_flip = b_unsigned ? 0x80 : 0;
  const int column = threadIdx.x % 16 * 4, row = threadIdx.x / 16 * 4;
  int sums[4][4] = {}, a_sums[4] = {}, b_sums[4] = {};
  for (int64_t first_k = 0; first_k < k; first_k += depth) {
    for (int i = threadIdx.x; i < tile * quads; i += tile_threads) {
      // Beyond the edges are zeros, which add nothing to any sum.
      uint32_t word = 0;
      const int a_line = i / quads, a_quad = i % quads;
      for (int j = 0; j < 4; ++j) {
        const int64_t inner = first_k + a_quad * 4 + j, line = first_row + a_line;
        if (line < m && inner < k) word |= (a[line * k + inner] ^ a_flip) << (8 * j);
      }
      a_tile[a_quad][a_line] = word;
      word = 0;
      const int b_line = i % tile, b_quad = i / tile;
      for (int j = 0; j < 4; ++j) {
        const int64_t inner = first_k + b_quad * 4 + j, line = first_column + b_line;
        if (line < n && inner < k) word |= (b[inner * n + line] ^ b_flip) << (8 * j);
      }
      b_tile[b_quad][b_line] = word;
    }
    __syncthreads();
#pragma unroll
    for (int quad = 0; quad < quads; ++quad) {
      int left[4], right[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        left[i] = static_cast<int>(a_tile[quad][row + i]);
        right[i] = static_cast<int>(b_tile[quad][column + i]);
        a_sums[i] = __dp4a(left[i], 0x01010101, a_sums[i]);
        b_sums[i] = __dp4a(right[i], 0x01010101, b_sums[i]);
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) sums[i][j] = __dp4a(left[i], right[j], sums[i][j]);
      }
    }
    __syncthreads();
  }
  for (int i = 0; i < 4 && first_row + row + i < m; ++i) {
    for (int j = 0; j < 4 && first_column + column + j < n; ++j) {
      const int64_t r = first_row + row + i, c = first_column + column + j;
      // Modulo 2^32, like the sums.
      const uint32_t za = a_zero.integer(a_item, r) - static_cast<int>(a_flip);
      const uint32_t zb = b_zero.integer(b_item, c) - static_cast<int>(b_flip);
      const uint32_t corrected = static_cast<uint32_t>(sums[i][j]) - za * b_sums[j] -
                                 zb * a_sums[i] + static_cast<uint32_t>(k) * za * zb;
      result.store(static_cast<int32_t>(corrected), (item * m + r) * n + c, a_item, r, b_item, c);
    }
  }
}

}  // namespace

extern "C" __global__ void __launch_bounds__(256)
    matmul_integer(const uint8_t* __restrict__ a, const uint8_t* __restrict__ b, int a_unsigned,
                   int b_unsigned, Lines a_zero, Lines b_zero, int64_t m, int64_t n, int64_t k,
                   Batch batch, int32_t* __restrict__ y) {
  multiply_bytes(a, b, a_unsigned != 0, b_unsigned != 0, a_zero, b_zero, m, n, k, batch,
                 Result{y, nullptr, {}, {}, {}, {}});
}

extern "C" __global__ void __launch_bounds__(256)
    matmul_quantized(const uint8_t* __restrict__ a, const uint8_t* __restrict__ b, int a_unsigned,
                     int b_unsigned, Lines a_zero, Lines b_zero, int64_t m, int64_t n, int64_t k,
                     Batch batch, uint8_t* __restrict__ y, Lines a_scale, Lines b_scale,
                     Lines y_scale, Lines y_zero) {
  multiply_bytes(a, b, a_unsigned != 0, b_unsigned != 0, a_zero, b_zero, m, n, k, batch,
                 Result{nullptr, y, a_scale, b_scale, y_scale, y_zero});
}
