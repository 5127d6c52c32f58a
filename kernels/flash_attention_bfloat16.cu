// SPDX-License-Identifier: Apache-2.0
// Attention of many queries in bfloat16.
#include "flash_attention.cuh"

FLASH(bfloat16, bfloat16, 32, 64, 1, 1, 4)
FLASH(bfloat16, bfloat16, 64, 16, 1, 4, 4)
FLASH(bfloat16, bfloat16, 64, 64, 1, 1, 3)
FLASH(bfloat16, bfloat16, 64, 128, 2, 1, 3)
FLASH(bfloat16, bfloat16, 96, 64, 1, 1, 3)
FLASH(bfloat16, bfloat16, 128, 16, 1, 4, 3)
FLASH(bfloat16, bfloat16, 128, 64, 1, 1, 3)
FLASH(bfloat16, bfloat16, 256, 64, 1, 1, 2)
