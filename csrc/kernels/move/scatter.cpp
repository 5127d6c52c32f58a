// SPDX-License-Identifier: Apache-2.0
// ScatterElements and ScatterND: a copy of the data with updates written, or combined, in order.
#include <complex>
#include <string_view>

#include "kernels/move/element_offsets.h"
#include "kernels/move/indices.h"
#include "kernels/move/packed_bytes.h"
#include "kernels/move/strided_copy.h"
#include "kernels/work_view.h"
#include "kernels/wrapping.h"
#include "runtime/kernel.h"

namespace bascule {
namespace {

enum class Reduction { none, add, mul, max, min };

Reduction reduction_of(const NodeSpec& node) {
  const std::string name = node.get_string("reduction", "none");
  static constexpr std::string_view names[] = {"none", "add", "mul", "max", "min"};
  for (int i = 0; i < 5; ++i) {
    if (name == names[i]) return static_cast<Reduction>(i);
  }
  invalid("reduction '" + name + "' is not one of none, add, mul, max, min");
}

// Updates may hit one place more than once: they are applied in order, and threads share long
// slices by columns.
template <class T, class Combine>
void apply(RunContext& c, T* y, const T* updates, const int64_t* offsets, int64_t count,
           int64_t inner, Combine combine) {
  const auto columns = [&](int64_t begin, int64_t end) {
    for (int64_t i = 0; i < count; ++i) {
      T* to = y + offsets[i];
      const T* from = updates + i * inner;
      for (int64_t j = begin; j < end; ++j) to[j] = combine(to[j], from[j]);
    }
  };
  if (inner == 1) {
    for (int64_t i = 0; i < count; ++i) y[offsets[i]] = combine(y[offsets[i]], updates[i]);
    return;
  }
  if (inner < 1024) return columns(0, inner);
  c.parallel_for(inner, static_cast<double>(count), columns);
}

// Types that updates are combined in. 16-bit floats are combined in float32, and rounded once.
using CombinedTypes = Types<float, double, int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t,
                            uint32_t, uint64_t, bool, std::complex<float>, std::complex<double>>;
using OrderedTypes = Types<float, double, int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t,
                           uint32_t, uint64_t, bool>;

template <class T>
void combine(RunContext& c, Reduction reduction, T* y, const T* updates, const int64_t* offsets,
             int64_t count, int64_t inner) {
  const auto each = [&](auto operation) { apply(c, y, updates, offsets, count, inner, operation); };
  // Types of their own, so that they are inlined.
  if (reduction == Reduction::add) return each([](T a, T b) { return wrapping_add(a, b); });
  if (reduction == Reduction::mul) return each([](T a, T b) { return wrapping_multiply(a, b); });
  if constexpr (contains(OrderedTypes{}, dtype_of<T>)) {
    if (reduction == Reduction::max) return each([](T a, T b) { return a > b || a != a ? a : b; });
    if (reduction == Reduction::min) return each([](T a, T b) { return a < b || a != a ? a : b; });
  }
}

void scatter(RunContext& c, const Tensor& data, const Tensor& updates, Reduction reduction,
             const int64_t* offsets, int64_t count, int64_t inner) {
  if (updates.dtype() != data.dtype()) {
    invalid(std::string("updates of type ") + name_of(updates.dtype()) +
            " do not fit data of type " + name_of(data.dtype()));
  }
  if (reduction != Reduction::none && is_half(data.dtype())) {
    const float* from = work_view<float>(c, data);
    Tensor& y = c.output(0, data.dtype(), data.shape());
    float* sums = work_target<float>(c, y);
    std::copy_n(from, data.size(), sums);
    combine(c, reduction, sums, work_view<float>(c, updates), offsets, count, inner);
    return store_work<float>(c, sums, y);
  }
  const Tensor source = unpacked_view(c, data);
  const Tensor changes = unpacked(c, updates);
  MovedOutput output(c, 0, data.dtype(), data.shape());
  if (output.data() != source.raw()) {
    copy_run(c, source.dtype(), source.raw(), output.data(), source.size());
  }
  if (reduction == Reduction::none) {
    visit_size(source.dtype(), [&](auto tag) {
      using T = typename decltype(tag)::type;
      apply(c, reinterpret_cast<T*>(output.data()), changes.data<T>(), offsets, count, inner,
            [](const T&, const T& b) { return b; });
    });
  } else {
    visit(CombinedTypes{}, source.dtype(), [&](auto tag) {
      using T = typename decltype(tag)::type;
      combine(c, reduction, reinterpret_cast<T*>(output.data()), changes.data<T>(), offsets, count,
              inner);
    });
  }
}

Capability scatter_capability(const NodeSpec& node) {
  const Capability indices = require_dtype(node, 1, IndexTypes{});
  if (!indices.accepted()) return indices;
  const Reduction reduction = reduction_of(node);
  if (reduction == Reduction::none || is_half(node.dtype())) return accept;
  const bool is_sum = reduction == Reduction::add || reduction == Reduction::mul;
  return is_sum ? require_dtype(node, 0, CombinedTypes{}) : require_dtype(node, 0, OrderedTypes{});
}

struct ScatterElements final : Kernel {
  static Capability capability(const NodeSpec& node) { return scatter_capability(node); }
  explicit ScatterElements(const NodeSpec& node)
      : axis(node.get_int("axis", 0)), reduction(reduction_of(node)) {}
  void run(RunContext& c) const override {
    const Tensor& x = c.input(0);
    const Tensor& indices = c.input(1);
    const Tensor& updates = c.input(2);
    if (!(indices.shape() == updates.shape())) {
      invalid("indices of shape " + indices.shape().text() + " and updates of shape " +
              updates.shape().text() + " must have one shape");
    }
    int64_t* offsets = c.workspace<int64_t>(indices.size());
    element_offsets(c, indices, x.shape(), x.shape().axis(axis), offsets);
    scatter(c, x, updates, reduction, offsets, indices.size(), 1);
  }
  int64_t axis;
  Reduction reduction;
};
BASCULE_KERNEL("ScatterElements", ScatterElements, InPlace{0, 0});

struct ScatterND final : Kernel {
  static Capability capability(const NodeSpec& node) {
    const Capability indices = require_dtype(node, 1, Types<int64_t>{});
    return indices.accepted() ? scatter_capability(node) : indices;
  }
  explicit ScatterND(const NodeSpec& node) : reduction(reduction_of(node)) {}
  void run(RunContext& c) const override {
    const Tensor& x = c.input(0);
    const Tensor& indices = c.input(1);
    const Tensor& updates = c.input(2);
    const TupleTargets targets = tuple_targets(indices, x.shape(), 0);
    Shape expected(indices.shape().begin(), indices.shape().end() - 1);
    for (int i = targets.tuple; i < x.rank(); ++i) expected.push_back(x.dim(i));
    if (!(updates.shape() == expected)) {
      invalid("updates of shape " + updates.shape().text() + " must have shape " + expected.text());
    }
    int64_t* offsets = c.workspace<int64_t>(targets.count);
    tuple_offsets(c, indices, x.shape(), 0, targets, offsets);
    scatter(c, x, updates, reduction, offsets, targets.count, targets.inner);
  }
  Reduction reduction;
};
BASCULE_KERNEL("ScatterND", ScatterND, InPlace{0, 0});

// A cache with new rows written along one axis, each sample of the batch at its own place.
struct TensorScatter final : Kernel {
  explicit TensorScatter(const NodeSpec& node)
      : axis(node.get_int("axis", -2)), circular(node.get_string("mode", "linear") == "circular") {}
  void run(RunContext& c) const override {
    const Tensor& cache = c.input(0);
    const Tensor& update = c.input(1);
    const int at = cache.shape().axis(axis);
    Shape expected = cache.shape();
    if (update.rank() == cache.rank()) expected[at] = update.dim(at);
    if (at == 0 || !(update.shape() == expected) || update.dtype() != cache.dtype() ||
        update.dim(at) > cache.dim(at)) {
      invalid("update of shape " + update.shape().text() + " does not fit a cache of shape " +
              cache.shape().text() + " along axis " + std::to_string(at));
    }
    const int64_t batch = cache.dim(0), size = cache.dim(at), count = update.dim(at);
    const Tensor* starts = c.has_input(2) ? &c.input(2) : nullptr;
    if (starts != nullptr) check_starts(*starts, batch, size, count);
    const int64_t outer = cache.shape().product(0, at);
    const int64_t inner = cache.shape().product(at + 1, cache.rank());
    const DType dtype = cache.dtype();
    const Tensor rows = unpacked(c, update);
    const Tensor source = unpacked_view(c, cache);
    MovedOutput y(c, 0, dtype, cache.shape());
    if (y.data() != source.raw()) {
      copy_run(c, source.dtype(), source.raw(), y.data(), source.size());
    }
    if (update.size() == 0) return;
    visit_size(source.dtype(), [&](auto tag) {
      using T = typename decltype(tag)::type;
      T* out = reinterpret_cast<T*>(y.data());
      c.parallel_for(outer, static_cast<double>(count * inner), [&](int64_t begin, int64_t end) {
        for (int64_t o = begin; o < end; ++o) {
          const int64_t start =
              starts != nullptr ? starts->data<int64_t>()[o / (outer / batch)] : 0;
          for (int64_t i = 0; i < count; ++i) {
            const int64_t place = circular ? (start % size + i) % size : start + i;
            std::copy_n(rows.data<T>() + (o * count + i) * inner, inner,
                        out + (o * size + place) * inner);
          }
        }
      });
    });
  }

 private:
  void check_starts(const Tensor& starts, int64_t batch, int64_t size, int64_t count) const {
    if (starts.dtype() != DType::int64 || starts.size() != batch) {
      invalid("write_indices must be " + std::to_string(batch) + " int64 numbers");
    }
    for (const int64_t start : starts.elements<int64_t>()) {
      if (start < 0 || (!circular && start > size - count)) {
        invalid("write index " + std::to_string(start) + " does not leave room for " +
                std::to_string(count) + " of " + std::to_string(size));
      }
    }
  }
  int64_t axis;
  bool circular;
};
BASCULE_KERNEL("TensorScatter", TensorScatter, InPlace{0, 0});

}  // namespace
}  // namespace bascule
