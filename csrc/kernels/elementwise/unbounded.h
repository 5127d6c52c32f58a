// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/elementwise/elementwise.h"

namespace bascule {

// The bounds of Clip that change nothing, as elements of a type.
struct Unbounded {
  alignas(8) std::byte least[8], largest[8];
};
Unbounded unbounded(DType dtype);

}  // namespace bascule
