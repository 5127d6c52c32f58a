// SPDX-License-Identifier: Apache-2.0
// Products of float16 or bfloat16 matrices with weights that stay 16 bits wide.
#pragma once

#include "core/dtype.h"
#include "kernels/gemm/gemm.h"
#include "kernels/gemm/half_block.h"
#include "runtime/run_context.h"

namespace bascule {

// Elements of HalfBlock::scratch.
constexpr int64_t half_scratch(int64_t rows, int64_t k) {
  const int64_t few = half_few_rows * (k + 16);
  return half_sums + half_tile_rows * half_a_stride +
         (rows > half_few_rows || few < half_b ? half_b : few);
}

// Elements that the panels of a [k, columns] matrix take.
int64_t half_packed_size(DType dtype, int64_t k, int64_t columns);

// Packs all panels of a matrix; element (i, j) is at b[i * row_stride + j * column_stride].
void pack_half_panels(DType dtype, const uint16_t* b, int64_t row_stride, int64_t column_stride,
                      int64_t k, int64_t columns, uint16_t* packed);

// Runs the block on the threads of the run; `scratch` is not looked at. With `float16_sums`, short
// sums of float16 are made in it where the processor can. `by_parts`: as GemmBlock::by_parts.
void multiply_half(RunContext& c, DType dtype, const HalfBlock& block, GemmCut cut,
                   bool float16_sums, bool by_parts);

// y[m, n] = a[m, k] b[k, n] of float16 as the level avx512_fp16 computes it, on this thread; for
// tests, as it is emulated on other CPUs.
void float16_product(const uint16_t* a, const uint16_t* b, int64_t m, int64_t k, int64_t n,
                     uint16_t* y);

}  // namespace bascule
