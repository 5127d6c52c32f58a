// SPDX-License-Identifier: Apache-2.0
// Tensors as elements of the type T that a kernel computes in (float, double, int64_t or
// uint64_t): their own memory where that is their type, else a converted copy in scratch memory.
// Each result is rounded once.
#pragma once

#include "core/tensor.h"
#include "runtime/run_context.h"

namespace bascule {

// The elements of a numeric tensor as T.
template <class T>
const T* work_view(RunContext& c, const Tensor& x);

// Memory for the results of `y` as T: its own, or scratch memory. store_work() then rounds them.
template <class T>
T* work_target(RunContext& c, Tensor& y);
template <class T>
void store_work(RunContext& c, const T* values, Tensor& y);

// float64 where one of the inputs is, float32 otherwise.
DType widest_work_dtype(const RunContext& c);

// body(Tag<double>) for float64 tensors, body(Tag<float>) for the others.
template <class Body>
void visit_work_type(DType dtype, Body&& body) {
  if (dtype == DType::float64) {
    body(Tag<double>{});
  } else {
    body(Tag<float>{});
  }
}

}  // namespace bascule
