// SPDX-License-Identifier: Apache-2.0
// 16-bit floats to float32 and back.
#pragma once

#include "core/dtype.h"
#include "core/tensor.h"
#include "runtime/run_context.h"

namespace bascule {

// Rows of n elements of float16 or bfloat16; strides are in elements.
void widen_rows(DType dtype, const std::byte* from, int64_t from_stride, float* to,
                int64_t to_stride, int64_t rows, int64_t n);
void narrow_rows(DType dtype, const float* from, int64_t from_stride, std::byte* to,
                 int64_t to_stride, int64_t rows, int64_t n);
// One row.
inline void widen_row(DType dtype, const std::byte* from, float* to, int64_t n) {
  widen_rows(dtype, from, n, to, n, 1, n);
}
inline void narrow_row(DType dtype, const float* from, std::byte* to, int64_t n) {
  narrow_rows(dtype, from, n, to, n, 1, n);
}

// The same on the threads of a run.
void widen(RunContext& c, DType dtype, const std::byte* from, float* to, int64_t n);
void narrow(RunContext& c, DType dtype, const float* from, std::byte* to, int64_t n);
// Elements of a tensor as floats in workspace, or where they are if they are floats.
const float* as_floats(RunContext& c, const Tensor& tensor);

}  // namespace bascule
