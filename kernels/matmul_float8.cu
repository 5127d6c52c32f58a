// SPDX-License-Identifier: Apache-2.0
// QLinearMatMul where an operand or the result is float8, the others 8-bit integers: the product of
// the numbers less their zero points in float32, scaled and rounded.
#include "quantized.cuh"
#include "quantized_operands.cuh"

namespace {

constexpr int tile = 16;

// The types of bytes, numbered on from those of Lines.
__device__ float decode(uint8_t byte, int kind) {
  switch (kind) {
    case 3:
      return static_cast<int8_t>(byte);
    case 4:
      return byte;
    case 5:
      return widen(float8_e4m3fn{byte});
    case 6:
      return widen(float8_e4m3fnuz{byte});
    case 7:
      return widen(float8_e5m2{byte});
    default:
      return widen(float8_e5m2fnuz{byte});
  }
}

__device__ float zero_point(const Lines& zero, int64_t matrix, int64_t line) {
  if (zero.values == nullptr) return 0;
  const int64_t i = matrix * zero.matrix_step + line * zero.line_step;
  return decode(static_cast<const uint8_t*>(zero.values)[i], zero.kind);
}

__device__ uint8_t encode(float x, float scale, float zero, int kind) {
  switch (kind) {
    case 3:
      return op::quantize_linear<int8_t, float>(x, scale, zero, true);
    case 4:
      return op::quantize_linear<uint8_t, float>(x, scale, zero, true);
    case 5:
      return op::quantize_linear<float8_e4m3fn, float>(x, scale, zero, true).bits;
    case 6:
      return op::quantize_linear<float8_e4m3fnuz, float>(x, scale, zero, true).bits;
    case 7:
      return op::quantize_linear<float8_e5m2, float>(x, scale, zero, true).bits;
    default:
      return op::quantize_linear<float8_e5m2fnuz, float>(x, scale, zero, true).bits;
  }
}

}  // namespace

// A block makes 16 x 16 results, a thread one.
extern "C" __global__ void __launch_bounds__(256)
    matmul_float8(const uint8_t* __restrict__ a, const uint8_t* __restrict__ b, int a_kind,
                  int b_kind, Lines a_zero, Lines b_zero, int64_t m, int64_t n, int64_t k,
                  Batch batch, uint8_t* __restrict__ y, Lines a_scale, Lines b_scale, Lines y_scale,
                  Lines y_zero) {
  __shared__ float of_a[tile][tile + 1], of_b[tile][tile + 1];
  const int64_t column_tiles = (n + tile - 1) / tile, row_tiles = (m + tile - 1) / tile;
  const int i = threadIdx.x / tile, j = threadIdx.x % tile;
  const int64_t column = blockIdx.x % column_tiles * tile + j;
  const int64_t row = blockIdx.x / column_tiles % row_tiles * tile + i;
  const int64_t item = blockIdx.x / column_tiles / row_tiles;
  int64_t a_item, b_item;
  batch.find(item, a_item, b_item);
  a += a_item * m * k;
  b += b_item * k * n;
  const float from_a = row < m ? zero_point(a_zero, a_item, row) : 0.0f;
  const float from_b = column < n ? zero_point(b_zero, b_item, column) : 0.0f;
  float sum = 0;
  for (int64_t first = 0; first < k; first += tile) {
    const int64_t left = first + j, right = first + i;
    of_a[i][j] = row < m && left < k ? decode(a[row * k + left], a_kind) - from_a : 0.0f;
    of_b[i][j] = column < n && right < k ? decode(b[right * n + column], b_kind) - from_b : 0.0f;
    __syncthreads();
    for (int l = 0; l < tile && first + l < k; ++l) sum = fmaf(of_a[i][l], of_b[l][j], sum);
    __syncthreads();
  }
  if (row >= m || column >= n) return;
  sum *= a_scale.number(a_item, row) * b_scale.number(b_item, column);
  const float zero = zero_point(y_zero, 0, 0);
  y[(item * m + row) * n + column] = encode(sum, y_scale.number(0, 0), zero, y_zero.kind);
}
