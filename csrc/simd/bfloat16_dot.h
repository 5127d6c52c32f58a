// SPDX-License-Identifier: Apache-2.0
// Whether products of bfloat16 by dot-product instructions pay.
#pragma once

namespace bascule {

// True where this CPU has AVX512-BF16 at twice the rate of float32, and no lower level of
// instructions was asked for. Zen 4 and 5 have; where Intel's processors have the instruction
// without AMX, it was measured at half the rate of float32.
bool has_fast_bfloat16_dot();

}  // namespace bascule
