// SPDX-License-Identifier: Apache-2.0
// Attention of many queries in float32, with factors that are rounded to TF32.
#include "flash_attention.cuh"

FLASH(float32, float, 32, 64, 1, 1, 3)
FLASH(float32, float, 64, 16, 1, 4, 3)
FLASH(float32, float, 64, 64, 1, 1, 3)
FLASH(float32, float, 64, 128, 2, 1, 2)
FLASH(float32, float, 96, 64, 1, 1, 3)
FLASH(float32, float, 128, 64, 1, 1, 2)
