// SPDX-License-Identifier: Apache-2.0
// The functions of normalize_rows.h for float and double.
#pragma once

#include "kernels/normalize_rows.h"
#include "simd/isa.h"

namespace bascule {

BASCULE_PER_ISA(NormalizeRows<float> normalize_rows());
NormalizeRows<double> normalize_rows_double();

// The functions for T of the instruction set in use.
template <class T>
NormalizeRows<T> normalize_rows_of() {
  if constexpr (sizeof(T) == sizeof(double)) {
    return normalize_rows_double();
  } else {
    return BASCULE_PICK(normalize_rows)();
  }
}

}  // namespace bascule
