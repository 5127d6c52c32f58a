// SPDX-License-Identifier: Apache-2.0
// Attention of many queries in float32 with factors that are rounded to TF32.
#include "flash_attention.cuh"

FLASH(float32, float, 32, 1)
FLASH(float32, float, 64, 1)
FLASH(float32, float, 64, 2)
FLASH(float32, float, 96, 1)
FLASH(float32, float, 128, 1)
