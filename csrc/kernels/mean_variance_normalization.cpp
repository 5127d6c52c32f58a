// SPDX-License-Identifier: Apache-2.0
// MeanVarianceNormalization: (x - mean) / (deviation + 1e-9), with the moments of the population
// over any axes. The elements of one mean are brought together first.
#include <cmath>

#include "kernels/move/strided_copy.h"
#include "kernels/normalize_rows_pick.h"
#include "kernels/work_view.h"
#include "runtime/kernel.h"

namespace bascule {
namespace {

class MeanVarianceNormalization final : public Kernel {
 public:
  static Capability capability(const NodeSpec& node) {
    return require_dtype(node, 0, FloatTypes{});
  }
  explicit MeanVarianceNormalization(const NodeSpec& node)
      : axes_(node.get_ints("axes", {0, 2, 3})) {}

  void run(RunContext& c) const override {
    visit_work_type(c.input(0).dtype(),
                    [&](auto tag) { compute<typename decltype(tag)::type>(c); });
  }

 private:
  // A tensor as rows: the axes that stay, then those that are averaged over.
  struct Rows {
    Shape order;    // the axes
    Shape sizes;    // of each, in this order
    Shape strides;  // in the tensor
    Shape back;     // of each axis of the tensor: its stride in the rows
    int64_t rows, n;
    bool moves = false;  // whether the order is another than the tensor's
  };

  Rows rows_of(const Shape& shape) const {
    bool averaged[Shape::max_rank] = {};
    for (const int64_t axis : axes_) averaged[shape.axis(axis)] = true;
    Rows rows;
    const Shape strides = shape.strides();
    for (const bool pass : {false, true}) {
      for (int axis = 0; axis < shape.rank(); ++axis) {
        if (averaged[axis] != pass) continue;
        rows.moves |= axis != rows.order.rank();
        rows.order.push_back(axis);
        rows.sizes.push_back(shape[axis]);
        rows.strides.push_back(strides[axis]);
      }
    }
    rows.n = 1;
    for (int axis = 0; axis < shape.rank(); ++axis) rows.n *= averaged[axis] ? shape[axis] : 1;
    rows.rows = rows.n == 0 ? 0 : shape.size() / rows.n;
    rows.back = shape;
    const Shape packed = rows.sizes.strides();
    for (int i = 0; i < shape.rank(); ++i) rows.back[rows.order[i]] = packed[i];
    return rows;
  }

  template <class T>
  void compute(RunContext& c) const {
    const Tensor& input = c.input(0);
    const Shape shape = input.shape();
    const Rows rows = rows_of(shape);
    const T* x = work_view<T>(c, input);
    Tensor& y = c.output(0, input.dtype(), shape);
    T* out = work_target<T>(c, y);
    if (shape.size() == 0) return;
    T* lines = out;
    if (rows.moves) {
      lines = c.workspace<T>(shape.size());
      strided_copy(c, dtype_of<T>, bytes(x), bytes(lines),
                   {rows.sizes, rows.strides, rows.sizes.strides()});
      x = lines;
    }
    const NormalizeRows<T> on = normalize_rows_of<T>();
    c.parallel_for(rows.rows, 4.0 * static_cast<double>(rows.n), [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const T* line = x + row * rows.n;
        const RowMoments<T> moments = on.moments(line, rows.n);
        const T scale = 1 / (std::sqrt(moments.variance) + static_cast<T>(1e-9));
        on.affine_row(line, lines + row * rows.n, rows.n, moments.mean, scale, 0);
      }
    });
    if (rows.moves) {
      strided_copy(c, dtype_of<T>, bytes(lines), bytes(out), {shape, rows.back, shape.strides()});
    }
    store_work<T>(c, out, y);
  }

  static const std::byte* bytes(const void* data) { return static_cast<const std::byte*>(data); }
  static std::byte* bytes(void* data) { return static_cast<std::byte*>(data); }

  std::vector<int64_t> axes_;
};
BASCULE_KERNEL("MeanVarianceNormalization", MeanVarianceNormalization, InPlace{0, 0});

}  // namespace
}  // namespace bascule
