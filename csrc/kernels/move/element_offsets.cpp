// SPDX-License-Identifier: Apache-2.0
#include "kernels/move/element_offsets.h"

#include "kernels/move/indices.h"

namespace bascule {

ElementRows::ElementRows(const Shape& indices, const Shape& shape, int axis_)
    : own(indices), strides(shape.strides()), axis(axis_) {
  bool fits = own.rank() == shape.rank();
  for (int i = 0; fits && i < own.rank(); ++i) fits = i == axis || own[i] <= shape[i];
  if (!fits) {
    invalid("indices of shape " + own.text() + " do not fit data of shape " + shape.text() +
            " along axis " + std::to_string(axis));
  }
  const int last = own.rank() - 1;
  length = own[last];
  rows = own.size() == 0 ? 0 : own.product(0, last);
  size = shape[axis];
  stride = strides[axis];
  along = axis == last ? 0 : 1;
}

void element_offsets(RunContext& c, const Tensor& indices, const Shape& shape, int axis,
                     int64_t* offsets) {
  const ElementRows rows(indices.shape(), shape, axis);
  visit(IndexTypes{}, indices.dtype(), [&](auto tag) {
    using Index = typename decltype(tag)::type;
    c.parallel_for(rows.rows, static_cast<double>(rows.length), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        const Index* index = indices.data<Index>() + r * rows.length;
        check_indices(index, rows.length, rows.size);
        const int64_t base = rows.base(r);
        int64_t* out = offsets + r * rows.length;
        for (int64_t j = 0; j < rows.length; ++j) {
          const auto at = static_cast<int64_t>(index[j]);
          out[j] = base + (at < 0 ? at + rows.size : at) * rows.stride + j * rows.along;
        }
      }
    });
  });
}

TupleTargets tuple_targets(const Tensor& indices, const Shape& shape, int batch_dims) {
  const Shape& own = indices.shape();
  bool fits = own.rank() > 0 && batch_dims >= 0 && batch_dims < own.rank() &&
              batch_dims <= shape.rank() && own.back() <= shape.rank() - batch_dims;
  for (int i = 0; fits && i < batch_dims; ++i) fits = own[i] == shape[i];
  if (!fits) {
    invalid("indices of shape " + own.text() + " do not fit data of shape " + shape.text() +
            " with " + std::to_string(batch_dims) + " batch dimensions");
  }
  const int tuple = static_cast<int>(own.back());
  return {own.product(0, own.rank() - 1), shape.product(batch_dims + tuple, shape.rank()), tuple};
}

void tuple_offsets(RunContext& c, const Tensor& indices, const Shape& shape, int batch_dims,
                   const TupleTargets& targets, int64_t* offsets) {
  const int64_t batches = shape.product(0, batch_dims);
  if (targets.count == 0 || batches == 0) return;
  const int64_t per_batch = targets.count / batches;
  const int64_t batch_stride = shape.product(batch_dims, shape.rank());
  const Shape strides = shape.strides();
  c.parallel_for(targets.count, 4.0 * targets.tuple, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t* index = indices.data<int64_t>() + i * targets.tuple;
      int64_t offset = i / per_batch * batch_stride;
      for (int k = 0; k < targets.tuple; ++k) {
        offset += checked_index(index[k], shape[batch_dims + k]) * strides[batch_dims + k];
      }
      offsets[i] = offset;
    }
  });
}

}  // namespace bascule
