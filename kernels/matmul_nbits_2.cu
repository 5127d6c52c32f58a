// SPDX-License-Identifier: Apache-2.0
// Products with weights of 2 bits.
#include "matmul_nbits.cuh"

FOR_ROWS(float32, float, 2)
FOR_ROWS(float16, float16, 2)
FOR_ROWS(bfloat16, bfloat16, 2)
