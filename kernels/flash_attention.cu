// SPDX-License-Identifier: Apache-2.0
// Attention of many queries in float16 and bfloat16.
#include "flash_attention.cuh"

#define SIZES(name, T)   \
  FLASH(name, T, 32, 1)  \
  FLASH(name, T, 64, 1)  \
  FLASH(name, T, 64, 2)  \
  FLASH(name, T, 96, 1)  \
  FLASH(name, T, 128, 1) \
  FLASH(name, T, 256, 1)
SIZES(float16, float16)
SIZES(bfloat16, bfloat16)
