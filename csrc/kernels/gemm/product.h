// SPDX-License-Identifier: Apache-2.0
// Batches of matrix products of every element type: the common part of MatMul and Gemm.
#pragma once

#include <cmath>
#include <initializer_list>
#include <limits>

#include "core/tensor.h"
#include "kernels/gemm/gemm.h"
#include "kernels/wrapping.h"
#include "runtime/node.h"
#include "runtime/run_context.h"

namespace bascule {

// factor * value for integers: modulo 2^bits by a whole factor; by another one in double, cut
// toward zero and to the range of T.
template <class T>
T scaled_integer(float factor, T value) {
  constexpr float beyond = 9223372036854775808.0F;  // 2^63
  if (std::abs(factor) < beyond && std::trunc(factor) == factor) {
    return wrapping_multiply(static_cast<T>(static_cast<int64_t>(factor)), value);
  }
  const double exact = static_cast<double>(factor) * static_cast<double>(value);
  using Limits = std::numeric_limits<T>;
  if (std::isnan(exact)) return 0;
  if (exact <= static_cast<double>(Limits::min())) return Limits::min();
  if (exact >= static_cast<double>(Limits::max())) return Limits::max();
  return static_cast<T>(exact);
}

// A constant operand B, packed once: `count` matrices [k, n].
struct PackedOperand {
  Tensor panels;  // empty: not packed
  int64_t count = 0;
  int64_t k = 0;
  int64_t n = 0;

  bool present() const { return count > 0; }
  // Packs the last two axes of a tensor of rank >= 2 (transposed: [n, k]); one axis is a column.
  // Types without a packed form leave it empty. `inputs`: the node's constant that the tensor is,
  // or none if it is made of attributes.
  static PackedOperand pack(const NodeSpec& node, std::initializer_list<size_t> inputs,
                            const Tensor& b, bool transposed);
};

// Y = activation(alpha * A' B' + bias + residual) for each matrix of a batch.
struct Product {
  DType dtype;
  int64_t m = 0;
  int64_t n = 0;
  int64_t k = 0;
  Shape batch;  // of Y; A and B are broadcast to it by their strides, in elements
  const std::byte* a = nullptr;
  Shape a_strides;
  bool transpose_a = false;  // [k, m] instead of [m, k]
  const std::byte* b = nullptr;
  Shape b_strides;
  bool transpose_b = false;               // [n, k] instead of [k, n]
  const PackedOperand* packed = nullptr;  // instead of b; strides still count
  float alpha = 1;
  const std::byte* bias = nullptr;      // [n]
  const std::byte* residual = nullptr;  // like Y
  Activation activation;
  GemmCut cut = GemmCut::best;
  bool float16_sums = false;  // see multiply_half
  bool by_parts = false;      // see GemmBlock; of packed float32 or float16
  std::byte* y = nullptr;
};

// Whether a node was chosen to make short sums of float16 in it; an attribute no model can have.
inline bool sums_in_float16(const NodeSpec& node) {
  return node.get_int("bascule.float16_sums", 0) != 0;
}

// Whether a node was chosen not to multiply by parts; an attribute no model can have.
inline bool multiplies_whole(const NodeSpec& node) {
  return node.get_int("bascule.whole_products", 0) != 0;
}

// Whether each sample of an operand A, [batch, rows..., k] or [rows, k], has rows enough for a
// product by parts.
inline bool is_by_parts(const NodeSpec& node, int64_t k, int64_t columns) {
  const ValueSpec& a = node.inputs[0];
  const bool has_parts = a.dtype == DType::float32 || a.dtype == DType::float16;
  if (multiplies_whole(node) || !has_parts || !a.shape || a.shape->size() < 2) return false;
  int64_t rows = 1;
  for (size_t axis = a.shape->size() > 2 ? 1 : 0; axis + 1 < a.shape->size(); ++axis) {
    if ((*a.shape)[axis] < 0) return false;
    rows *= (*a.shape)[axis];
  }
  return pays_by_parts(rows, k, columns);
}

using ProductTypes = Types<float, double, Float16, BFloat16, int32_t, int64_t, uint32_t, uint64_t>;

// Whether an activation can be had for this type.
bool has_activation(DType dtype, const Activation& activation);

void run_product(RunContext& c, const Product& product);

}  // namespace bascule
