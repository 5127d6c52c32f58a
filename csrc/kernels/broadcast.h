// SPDX-License-Identifier: Apache-2.0
// Walking over operands that are broadcast to one output shape, with as few loops as possible.
#pragma once

#include <cstdint>

#include "core/shape.h"

namespace bascule {

// The loops over an output of some shape: neighbouring axes along which every operand moves (or
// stands still) in the same way are one loop, axes of size 1 are none. Operands are dense.
template <int max_operands>
class BroadcastLoops {
 public:
  // `shapes` broadcast to `output` (checked by whoever computed `output`).
  BroadcastLoops(const Shape& output, const Shape* const* shapes, int operands)
      : operands_(operands) {
    int64_t next[max_operands];  // stride of the coming axis, per operand
    for (int k = 0; k < operands; ++k) next[k] = 1;
    for (int axis = output.rank() - 1; axis >= 0; --axis) {
      const int64_t size = output[axis];
      if (size == 1) continue;
      int64_t stride[max_operands];
      bool joins = rank_ > 0;
      for (int k = 0; k < operands; ++k) {
        const int own = axis - (output.rank() - shapes[k]->rank());
        const int64_t own_size = own >= 0 ? (*shapes[k])[own] : 1;
        stride[k] = own_size == 1 ? 0 : next[k];
        next[k] *= own_size;
        joins = joins && stride[k] == strides_[rank_ - 1][k] * sizes_[rank_ - 1];
      }
      if (joins) {
        sizes_[rank_ - 1] *= size;
        continue;
      }
      for (int k = 0; k < operands; ++k) strides_[rank_][k] = stride[k];
      sizes_[rank_++] = size;
    }
    if (rank_ == 0) {
      sizes_[0] = 1;
      for (int k = 0; k < operands; ++k) strides_[0][k] = 0;
      rank_ = 1;
    }
  }

  // Length of the innermost loop, and the step of operand k in it: 1 or 0.
  int64_t inner_size() const { return sizes_[0]; }
  bool steps(int k) const { return strides_[0][k] != 0; }
  // Whether operand k has an element of its own for every output element, in the same order.
  bool is_dense(int k) const {
    int64_t stride = 1;
    for (int axis = 0; axis < rank_; ++axis) {
      if (strides_[axis][k] != stride) return false;
      stride *= sizes_[axis];
    }
    return true;
  }
  // Whether operand k is one element.
  bool is_single(int k) const {
    for (int axis = 0; axis < rank_; ++axis) {
      if (strides_[axis][k] != 0) return false;
    }
    return true;
  }

  // body(offsets, first, count) for runs along the innermost loop that together are the output
  // elements [begin, end): `first` is the first output element, offsets[k] where operand k is.
  template <class Body>
  void for_runs(int64_t begin, int64_t end, Body&& body) const {
    int64_t index[Shape::max_rank];
    int64_t offsets[max_operands] = {};
    int64_t rest = begin;
    for (int axis = 0; axis < rank_; ++axis) {
      index[axis] = rest % sizes_[axis];
      rest /= sizes_[axis];
      for (int k = 0; k < operands_; ++k) offsets[k] += index[axis] * strides_[axis][k];
    }
    for (int64_t first = begin; first < end;) {
      const int64_t left = sizes_[0] - index[0];
      const int64_t count = end - first < left ? end - first : left;
      body(static_cast<const int64_t*>(offsets), first, count);
      first += count;
      if (first >= end) return;
      for (int k = 0; k < operands_; ++k) offsets[k] -= index[0] * strides_[0][k];
      index[0] = 0;
      for (int axis = 1; axis < rank_; ++axis) {
        ++index[axis];
        for (int k = 0; k < operands_; ++k) offsets[k] += strides_[axis][k];
        if (index[axis] < sizes_[axis]) break;
        for (int k = 0; k < operands_; ++k) offsets[k] -= sizes_[axis] * strides_[axis][k];
        index[axis] = 0;
      }
    }
  }

  // The two innermost loops as one block, for operand k.
  struct Block {
    int64_t inner_size, outer_size;      // outer_size is 1 where there is one loop only
    int64_t inner_stride, outer_stride;  // in elements
  };
  Block block(int k) const {
    if (rank_ == 1) return {sizes_[0], 1, strides_[0][k], 0};
    return {sizes_[0], sizes_[1], strides_[0][k], strides_[1][k]};
  }

  // body(offset, position, first, count): runs inside blocks, `position` elements into the block
  // that for operand k begins at `offset`.
  template <class Body>
  void for_block_runs(int k, int64_t begin, int64_t end, Body&& body) const {
    const int64_t block_size = sizes_[0] * (rank_ > 1 ? sizes_[1] : 1);
    for (int64_t first = begin; first < end;) {
      int64_t rest = first / block_size, offset = 0;
      const int64_t position = first % block_size;
      for (int axis = 2; axis < rank_; ++axis) {
        offset += rest % sizes_[axis] * strides_[axis][k];
        rest /= sizes_[axis];
      }
      const int64_t left = block_size - position;
      const int64_t count = end - first < left ? end - first : left;
      body(offset, position, first, count);
      first += count;
    }
  }

 private:
  int operands_;
  int rank_ = 0;
  int64_t sizes_[Shape::max_rank];                  // innermost first
  int64_t strides_[Shape::max_rank][max_operands];  // in elements
};

}  // namespace bascule
