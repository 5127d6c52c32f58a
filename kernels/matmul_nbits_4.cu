// SPDX-License-Identifier: Apache-2.0
// parts: 1_1_float32 1_4_float32 2_4_float32 4_4_float32 8_2_float32 float32
// parts: 1_1_float16 1_4_float16 2_4_float16 4_4_float16 8_2_float16 float16
// parts: 1_1_bfloat16 1_4_bfloat16 2_4_bfloat16 4_4_bfloat16 8_2_bfloat16 bfloat16
// Products with weights of 4 bits.
#include "matmul_nbits.cuh"

FOR_ROWS(float32, float, 4)
FOR_ROWS(float16, float16, 4)
FOR_ROWS(bfloat16, bfloat16, 4)
