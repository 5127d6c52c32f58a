// SPDX-License-Identifier: Apache-2.0
// Where indices point: offsets in elements for the gathering and scattering operators. Every index
// is checked before anything is read or written through it.
#pragma once

#include "core/tensor.h"
#include "runtime/run_context.h"

namespace bascule {

// GatherElements and ScatterElements. Rows run along the last axis of `indices`; `base` is where
// row r starts in a tensor of shape `shape`, position 0 along `axis`; element j of it then is base
// + index * stride + j * along elements further.
struct ElementRows {
  ElementRows(const Shape& indices, const Shape& shape, int axis);

  int64_t base(int64_t r) const {
    int64_t result = 0;
    for (int i = own.rank() - 2; i >= 0; --i) {
      if (i != axis) result += r % own[i] * strides[i];
      r /= own[i];
    }
    return result;
  }

  Shape own, strides;
  int axis;
  int64_t rows, length;         // of the indices
  int64_t size, stride, along;  // of the axis
};

// ScatterElements: offset i is that of element i of `indices` in a tensor of
// shape `shape`, its position along `axis` replaced by the index.
void element_offsets(RunContext& c, const Tensor& indices, const Shape& shape, int axis,
                     int64_t* offsets);

// GatherND and ScatterND: the last axis of `indices` holds tuples that index the axes of `shape`
// after the first `batch_dims`, which both have in common. One offset per tuple.
struct TupleTargets {
  int64_t count;  // of tuples
  int64_t inner;  // elements that one tuple names
  int tuple;      // axes that it indexes
};
TupleTargets tuple_targets(const Tensor& indices, const Shape& shape, int batch_dims);
void tuple_offsets(RunContext& c, const Tensor& indices, const Shape& shape, int batch_dims,
                   const TupleTargets& targets, int64_t* offsets);

}  // namespace bascule
