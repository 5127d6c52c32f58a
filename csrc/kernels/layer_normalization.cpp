// SPDX-License-Identifier: Apache-2.0
// LayerNormalization, RMSNormalization and, with a residual added first, SkipLayerNormalization and
// SkipRMSNormalization: y = (x - mean) / sqrt(variance + epsilon) * scale + bias over the last
// axes; the RMS forms leave the mean out.
#include <algorithm>
#include <optional>

#include "kernels/broadcast.h"
#include "kernels/elementwise/gather_tile.h"
#include "kernels/normalize_rows_pick.h"
#include "kernels/work_view.h"
#include "runtime/kernel.h"

namespace bascule {
namespace {

// A tensor that is broadcast over rows: `stride` is 0 where all rows share one row of it.
template <class T>
struct RowOperand {
  const T* data = nullptr;
  int64_t stride = 0;
};

// `operand` as rows for a tensor of `shape`, whose rows are the axes from `axis` on.
template <class T>
RowOperand<T> row_operand(RunContext& c, const Tensor& operand, const Shape& shape, int axis) {
  const Shape& own = operand.shape();
  const T* data = work_view<T>(c, operand);
  const int64_t n = shape.product(axis, shape.rank());
  bool is_row = operand.size() == n && own.rank() <= shape.rank();
  for (int i = 1; is_row && i <= own.rank(); ++i) {
    const int at = shape.rank() - i;
    is_row = own[own.rank() - i] == (at >= axis ? shape[at] : 1);
  }
  // A tensor of as many elements as a row has, none of them broadcast, is that row.
  if (is_row) return {data, 0};
  if (!(broadcast(shape, own) == shape)) {
    fail("shape " + own.text() + " of scale or bias does not broadcast to " + shape.text());
  }
  const Shape* shapes[] = {&own};
  const BroadcastLoops<1> loops(shape, shapes, 1);
  T* full = c.workspace<T>(shape.size());
  gather_tile(loops, 0, reinterpret_cast<const std::byte*>(data), sizeof(T), 0, shape.size(),
              reinterpret_cast<std::byte*>(full));
  return {full, n};
}

class LayerNormalization final : public Kernel {
 public:
  static Capability capability(const NodeSpec& node) {
    const int64_t stash = node.get_int("stash_type", 1);
    if (stash != static_cast<int64_t>(DType::float32) &&
        stash != static_cast<int64_t>(DType::bfloat16)) {
      return reject("stash_type is neither float nor bfloat16");
    }
    for (size_t i = 0; i < node.inputs.size(); ++i) {
      const Capability one = require_dtype(node, i, FloatTypes{});
      if (!one.accepted()) return one;
    }
    return accept;
  }

  explicit LayerNormalization(const NodeSpec& node)
      : axis_(node.get_int("axis", -1)),
        epsilon_(node.get_float("epsilon", 1e-5f)),
        stash_(static_cast<DType>(node.get_int("stash_type", 1))),
        centered_(node.op_type.find("RMS") == std::string::npos),
        skips_(node.op_type.find("Skip") == 0) {}

  void run(RunContext& c) const override {
    visit_work_type(widest_work_dtype(c),
                    [&](auto tag) { compute<typename decltype(tag)::type>(c); });
  }

 private:
  template <class T>
  void compute(RunContext& c) const {
    const Tensor& input = c.input(0);
    const Shape shape = input.shape();
    const int axis = shape.axis(axis_);
    const int64_t rows = shape.product(0, axis), n = shape.product(axis, shape.rank());
    const int first = skips_ ? 2 : 1;
    const DType dtype = skips_ || centered_ ? input.dtype() : c.input(first).dtype();
    const RowOperand<T> scale = row_operand<T>(c, c.input(first), shape, axis);
    RowOperand<T> bias;
    if (c.has_input(first + 1)) bias = row_operand<T>(c, c.input(first + 1), shape, axis);
    RowOperand<T> skip;
    if (skips_) skip = row_operand<T>(c, c.input(1), shape, axis);
    const WorkRows<T> x(input, n);

    const WorkTargetRows<T> y(c.output(0, dtype, shape), n);
    std::optional<WorkTargetRows<T>> sums;
    if (skips_ && c.wants_output(1)) sums.emplace(c.output(1, dtype, shape), n);
    T *means = nullptr, *factors = nullptr;
    Tensor *mean_output = nullptr, *factor_output = nullptr;
    if (!skips_ && centered_) {
      Shape kept = shape;
      for (int i = axis; i < shape.rank(); ++i) kept[i] = 1;
      if (c.wants_output(1)) mean_output = &c.output(1, stash_, kept);
      if (c.wants_output(2)) factor_output = &c.output(2, stash_, kept);
      if (mean_output != nullptr) means = work_target<T>(c, *mean_output);
      if (factor_output != nullptr) factors = work_target<T>(c, *factor_output);
    }

    const NormalizeRows<T> on = normalize_rows_of<T>();
    // Some rows at a time, so that what one step leaves in the first cache the next finds there.
    constexpr int64_t step = 4;
    const auto normalize = [&](int64_t begin, int64_t end, T* space) {
      const T* from = x.row(begin, space);
      T* out = y.row(begin, space);
      for (int64_t row = begin; row < end; ++row) {
        T* const own = space + (row - begin) * n;
        const T* one = x.row(row, own);
        if (!skips_) continue;
        T* sum = sums ? sums->row(row, own) : y.row(row, own);
        on.add_row(one, skip.data + row * skip.stride, sum, n);
        if (sums) sums->store(row, sum);
      }
      LayerRows<T> r{};
      r.x = !skips_ ? from : sums ? sums->row(begin, space) : out;
      r.y = out;
      r.n = n;
      r.scale = scale.data + begin * scale.stride;
      r.scale_stride = scale.stride;
      r.bias = bias.data != nullptr ? bias.data + begin * bias.stride : nullptr;
      r.bias_stride = bias.stride;
      r.epsilon = static_cast<T>(epsilon_);
      r.centered = centered_;
      r.means = means != nullptr ? means + begin : nullptr;
      r.factors = factors != nullptr ? factors + begin : nullptr;
      on.layer_rows(r, 0, end - begin);
      for (int64_t row = begin; row < end; ++row)
        y.store(row, y.row(row, space + (row - begin) * n));
    };
    const int64_t parts = std::min<int64_t>(rows, c.threads());
    T* space = c.workspace<T>(parts * step * n);
    const double work = 4.0 * static_cast<double>(rows) * static_cast<double>(n);
    c.parallel_for(parts, work / static_cast<double>(parts), [&](int64_t begin, int64_t end) {
      const int64_t last = rows * end / parts;
      for (int64_t row = rows * begin / parts; row < last; row += step) {
        normalize(row, std::min(row + step, last), space + begin * step * n);
      }
    });
    if (mean_output != nullptr) store_work(c, static_cast<const T*>(means), *mean_output);
    if (factor_output != nullptr) store_work(c, static_cast<const T*>(factors), *factor_output);
  }

  int64_t axis_;
  float epsilon_;
  DType stash_;
  bool centered_;
  bool skips_;
};
BASCULE_KERNEL("LayerNormalization", LayerNormalization, InPlace{0, 0});
BASCULE_KERNEL("RMSNormalization", LayerNormalization, InPlace{0, 0});
BASCULE_KERNEL_IN("bascule", "SkipLayerNormalization", LayerNormalization, InPlace{0, 1});
BASCULE_KERNEL_IN("bascule", "SkipRMSNormalization", LayerNormalization, InPlace{0, 1});

}  // namespace
}  // namespace bascule
