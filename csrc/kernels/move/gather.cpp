// SPDX-License-Identifier: Apache-2.0
// Gather: whole slices of one axis, picked by index.
#include <cstring>

#include "kernels/move/indices.h"
#include "kernels/move/packed_bytes.h"
#include "kernels/move/strided_copy.h"
#include "runtime/kernel.h"

namespace bascule {
namespace {

// Data is outer x size x inner elements; the result outer x count x inner. `Inner` is a number, or
// a constant: short copies of a size that the compiler knows are no calls.
template <class T, class Index, class Inner>
void gather_rows(RunContext& c, const T* x, T* y, const Index* indices, int64_t outer, int64_t size,
                 Inner inner, int64_t count) {
  const double cost =
      2 + static_cast<double>(inner) * (std::is_same_v<T, std::string> ? 8 : sizeof(T) / 16.0);
  c.parallel_for(outer * count, cost, [&](int64_t begin, int64_t end) {
    int64_t row = begin / count, column = begin % count;
    for (int64_t i = begin; i < end; ++i) {
      const int64_t index = static_cast<int64_t>(indices[column]);
      const T* from = x + (row * size + (index < 0 ? index + size : index)) * inner;
      if constexpr (std::is_same_v<T, std::string>) {
        std::copy_n(from, static_cast<int64_t>(inner), y + i * inner);
      } else {
        std::memcpy(y + i * inner, from, static_cast<size_t>(inner) * sizeof(T));
      }
      if (++column == count) {
        column = 0;
        ++row;
      }
    }
  });
}

template <class T, class Index>
void gather(RunContext& c, const T* x, T* y, const Index* indices, int64_t outer, int64_t size,
            int64_t inner, int64_t count) {
  const auto rows_of = [&](auto width) {
    gather_rows(c, x, y, indices, outer, size, width, count);
  };
  switch (inner) {
    case 1:
      return rows_of(std::integral_constant<int64_t, 1>{});
    case 2:
      return rows_of(std::integral_constant<int64_t, 2>{});
    case 3:
      return rows_of(std::integral_constant<int64_t, 3>{});
    case 4:
      return rows_of(std::integral_constant<int64_t, 4>{});
    default:
      return rows_of(inner);
  }
}

struct Gather final : Kernel {
  static Capability capability(const NodeSpec& node) {
    return require_dtype(node, 1, IndexTypes{});
  }
  explicit Gather(const NodeSpec& node) : axis(node.get_int("axis", 0)) {}
  void run(RunContext& c) const override {
    const Tensor& input = c.input(0);
    const Tensor& indices = c.input(1);
    const int at = input.shape().axis(axis);
    const int64_t size = input.dim(at);
    const int64_t count = indices.size();
    Shape shape(input.shape().begin(), input.shape().begin() + at);
    for (const int64_t dim : indices.shape()) shape.push_back(dim);
    for (int i = at + 1; i < input.rank(); ++i) shape.push_back(input.dim(i));
    const int64_t outer = input.shape().product(0, at);
    const int64_t inner = input.shape().product(at + 1, input.rank());
    visit(IndexTypes{}, indices.dtype(), [&](auto index_tag) {
      using Index = typename decltype(index_tag)::type;
      const Index* index = indices.data<Index>();
      check_indices(index, count, size);
      if (outer == 1 && count == 1 && size <= 4 && inner > 64 && !is_packed(input.dtype())) {
        // A good part of the input: a view.
        const int64_t i = index[0] < 0 ? index[0] + size : index[0];
        std::byte* from =
            const_cast<std::byte*>(input.raw()) + i * inner * item_size(input.dtype());
        return c.alias_output(0, Tensor(input.dtype(), shape, from, input.owner()), shape);
      }
      const Tensor x = unpacked(c, input);
      MovedOutput y(c, 0, input.dtype(), shape);
      if (shape.size() == 0) return;
      visit_size(x.dtype(), [&](auto tag) {
        using T = typename decltype(tag)::type;
        gather(c, x.data<T>(), reinterpret_cast<T*>(y.data()), index, outer, size, inner, count);
      });
    });
  }
  int64_t axis;
};
BASCULE_KERNEL("Gather", Gather);

}  // namespace
}  // namespace bascule
