// SPDX-License-Identifier: Apache-2.0
// Attention of many queries in float16.
#include "flash_attention.cuh"

FLASH(float16, float16, 32, 64, 1, 1, 4)
FLASH(float16, float16, 64, 16, 1, 4, 4)
FLASH(float16, float16, 64, 64, 1, 1, 3)
FLASH(float16, float16, 64, 128, 2, 1, 3)
FLASH(float16, float16, 96, 64, 1, 1, 3)
FLASH(float16, float16, 128, 16, 1, 4, 3)
FLASH(float16, float16, 128, 64, 1, 1, 3)
FLASH(float16, float16, 256, 64, 1, 1, 2)
