// SPDX-License-Identifier: Apache-2.0
// 16-bit floats to float32 and back, a row at a time.
#pragma once

#include "core/dtype.h"
#include "core/tensor.h"
#include "runtime/run_context.h"

namespace bascule {

// n elements of float16 or bfloat16.
void widen_row(DType dtype, const std::byte* from, float* to, int64_t n);
void narrow_row(DType dtype, const float* from, std::byte* to, int64_t n);

// The same on the threads of a run.
void widen(RunContext& c, DType dtype, const std::byte* from, float* to, int64_t n);
void narrow(RunContext& c, DType dtype, const float* from, std::byte* to, int64_t n);
// Elements of a tensor as floats in workspace, or where they are if they are floats.
const float* as_floats(RunContext& c, const Tensor& tensor);

}  // namespace bascule
