// SPDX-License-Identifier: Apache-2.0
// Tensors as elements of the type T that a kernel computes in (float, double, int32_t,
// int64_t or uint64_t): their own memory where that is their type, else a converted copy in scratch
// memory. Each result is rounded once.
#pragma once

#include "core/tensor.h"
#include "kernels/elementwise/tile.h"
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

constexpr bool is_half(DType dtype) { return dtype == DType::float16 || dtype == DType::bfloat16; }

// The same a row of `n` elements at a time, so that no copy of the whole leaves the caches.
template <class T>
class WorkRows {
 public:
  WorkRows(const Tensor& x, int64_t n);
  // Row i: where it is, or converted into `space`.
  const T* row(int64_t i, T* space) const;

 private:
  const std::byte* data_;
  int64_t step_;
  int64_t n_;
  TileOp convert_;
};
template <class T>
class WorkTargetRows {
 public:
  WorkTargetRows(Tensor& y, int64_t n);
  // Where row i is to be written: its place, or `space`. store() then rounds it.
  T* row(int64_t i, T* space) const;
  void store(int64_t i, const T* values) const;

 private:
  std::byte* data_;
  int64_t step_;
  int64_t n_;
  TileOp convert_;
};

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
