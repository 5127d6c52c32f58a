// SPDX-License-Identifier: Apache-2.0
// GatherElements and GatherND: elements, or slices, picked by indices of every axis.
#include <cstring>

#include "kernels/move/element_offsets.h"
#include "kernels/move/indices.h"
#include "kernels/move/packed_bytes.h"
#include "kernels/move/strided_copy.h"
#include "runtime/kernel.h"

namespace bascule {
namespace {

// Output i is `inner` elements of `input` from offsets[i] on.
void gather(RunContext& c, const Tensor& input, const Shape& shape, const int64_t* offsets,
            int64_t count, int64_t inner) {
  const Tensor moved = unpacked(c, input);
  MovedOutput output(c, 0, input.dtype(), shape);
  visit_size(moved.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    const T* x = moved.data<T>();
    T* y = reinterpret_cast<T*>(output.data());
    c.parallel_for(count, 1 + static_cast<double>(inner), [&](int64_t begin, int64_t end) {
      if (inner == 1) {
        for (int64_t i = begin; i < end; ++i) y[i] = x[offsets[i]];
      } else {
        for (int64_t i = begin; i < end; ++i) std::copy_n(x + offsets[i], inner, y + i * inner);
      }
    });
  });
}

template <class T, class Index>
void gather_rows(RunContext& c, const T* x, const Index* indices, const ElementRows& rows, T* y) {
  c.parallel_for(rows.rows, 2.0 * static_cast<double>(rows.length),
                 [&](int64_t begin, int64_t end) {
                   for (int64_t r = begin; r < end; ++r) {
                     const Index* index = indices + r * rows.length;
                     check_indices(index, rows.length, rows.size);
                     const T* from = x + rows.base(r);
                     T* to = y + r * rows.length;
                     for (int64_t j = 0; j < rows.length; ++j) {
                       const auto at = static_cast<int64_t>(index[j]);
                       to[j] = from[(at < 0 ? at + rows.size : at) * rows.stride + j * rows.along];
                     }
                   }
                 });
}

struct GatherElements final : Kernel {
  static Capability capability(const NodeSpec& node) {
    return require_dtype(node, 1, IndexTypes{});
  }
  explicit GatherElements(const NodeSpec& node) : axis(node.get_int("axis", 0)) {}
  void run(RunContext& c) const override {
    const Tensor& x = c.input(0);
    const Tensor& indices = c.input(1);
    const ElementRows rows(indices.shape(), x.shape(), x.shape().axis(axis));
    const Tensor moved = unpacked(c, x);
    MovedOutput y(c, 0, x.dtype(), indices.shape());
    visit(IndexTypes{}, indices.dtype(), [&](auto index_tag) {
      visit_size(moved.dtype(), [&](auto tag) {
        using T = typename decltype(tag)::type;
        using Index = typename decltype(index_tag)::type;
        gather_rows(c, moved.data<T>(), indices.data<Index>(), rows,
                    reinterpret_cast<T*>(y.data()));
      });
    });
  }
  int64_t axis;
};
BASCULE_KERNEL("GatherElements", GatherElements);

struct GatherND final : Kernel {
  static Capability capability(const NodeSpec& node) {
    return require_dtype(node, 1, Types<int64_t>{});
  }
  explicit GatherND(const NodeSpec& node)
      : batch_dims(static_cast<int>(
            std::clamp<int64_t>(node.get_int("batch_dims", 0), -1, Shape::max_rank + 1))) {}
  void run(RunContext& c) const override {
    const Tensor& x = c.input(0);
    const Tensor& indices = c.input(1);
    const TupleTargets targets = tuple_targets(indices, x.shape(), batch_dims);
    int64_t* offsets = c.workspace<int64_t>(targets.count);
    tuple_offsets(c, indices, x.shape(), batch_dims, targets, offsets);
    Shape shape(indices.shape().begin(), indices.shape().end() - 1);
    for (int i = batch_dims + targets.tuple; i < x.rank(); ++i) shape.push_back(x.dim(i));
    gather(c, x, shape, offsets, targets.count, targets.inner);
  }
  int batch_dims;
};
BASCULE_KERNEL("GatherND", GatherND);

}  // namespace
}  // namespace bascule
