// SPDX-License-Identifier: Apache-2.0
// Unique: the different elements, or slices along an axis, in order of value or of appearance.
#include <algorithm>
#include <complex>
#include <numeric>
#include <vector>

#include "kernels/move/strided_copy.h"
#include "runtime/kernel.h"

namespace bascule {
namespace {

using OrderedTypes =
    Types<float, double, Float16, BFloat16, int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t,
          uint32_t, uint64_t, bool, std::complex<float>, std::complex<double>, std::string>;

// A total order: NaN equals itself and is larger than every number. Complex numbers are ordered by
// their real parts first.
template <class T>
int compare(const T& a, const T& b) {
  if constexpr (std::is_floating_point_v<T> || NarrowFloat<T>) {
    const auto x = static_cast<Compute<T>>(a), y = static_cast<Compute<T>>(b);
    if (x != x || y != y) return static_cast<int>(x != x) - static_cast<int>(y != y);
    return static_cast<int>(x > y) - static_cast<int>(x < y);
  } else {
    return static_cast<int>(a > b) - static_cast<int>(a < b);
  }
}

template <class T>
int compare(const std::complex<T>& a, const std::complex<T>& b) {
  const int real = compare(a.real(), b.real());
  return real != 0 ? real : compare(a.imag(), b.imag());
}

struct Groups {
  std::vector<int64_t> first;  // first appearance of each different item
  std::vector<int64_t> counts;
  std::vector<int64_t> inverse;  // of each item: its group
};

// The groups of equal items, each `length` elements, in order of value or of appearance.
template <class T>
Groups group(const T* items, int64_t count, int64_t length, bool sorted) {
  const auto order = [&](int64_t a, int64_t b) {
    for (int64_t i = 0; i < length; ++i) {
      const int sign = compare(items[a * length + i], items[b * length + i]);
      if (sign != 0) return sign;
    }
    return 0;
  };
  std::vector<int64_t> sequence(static_cast<size_t>(count));
  std::iota(sequence.begin(), sequence.end(), 0);
  std::stable_sort(sequence.begin(), sequence.end(),
                   [&](int64_t a, int64_t b) { return order(a, b) < 0; });
  Groups groups;
  groups.inverse.resize(sequence.size());
  for (size_t i = 0; i < sequence.size(); ++i) {
    if (i == 0 || order(sequence[i - 1], sequence[i]) != 0) {
      groups.first.push_back(sequence[i]);
      groups.counts.push_back(0);
    }
    ++groups.counts.back();
    groups.inverse[static_cast<size_t>(sequence[i])] =
        static_cast<int64_t>(groups.first.size()) - 1;
  }
  if (sorted) return groups;
  std::vector<size_t> by_appearance(groups.first.size());
  std::iota(by_appearance.begin(), by_appearance.end(), size_t{0});
  std::sort(by_appearance.begin(), by_appearance.end(),
            [&](size_t a, size_t b) { return groups.first[a] < groups.first[b]; });
  Groups result;
  std::vector<int64_t> place(by_appearance.size());
  for (const size_t old : by_appearance) {
    place[old] = static_cast<int64_t>(result.first.size());
    result.first.push_back(groups.first[old]);
    result.counts.push_back(groups.counts[old]);
  }
  for (const int64_t old : groups.inverse) {
    result.inverse.push_back(place[static_cast<size_t>(old)]);
  }
  return result;
}

struct Unique final : Kernel {
  static Capability capability(const NodeSpec& node) {
    return require_dtype(node, 0, OrderedTypes{});
  }
  explicit Unique(const NodeSpec& node)
      : flat(!node.has("axis")),
        axis(node.get_int("axis", 0)),
        sorted(node.get_int("sorted", 1) != 0) {}
  void run(RunContext& c) const override {
    const Tensor& x = c.input(0);
    const Shape view = flat ? Shape{x.size()} : x.shape();
    const int at = view.axis(axis);
    const int64_t count = view[at];
    const int64_t outer = view.product(0, at), inner = view.product(at + 1, view.rank());
    const int64_t length = outer * inner;
    // Items lie together: [axis, outer, inner].
    Tensor items = x;
    if (outer != 1) {
      items = Tensor::allocate(x.dtype(), {count, outer, inner});
      strided_copy(c, x.dtype(), x.raw(), items.raw(),
                   {{count, outer, inner}, {inner, count * inner, 1}, {length, inner, 1}});
    }
    visit(OrderedTypes{}, x.dtype(), [&](auto tag) {
      using T = typename decltype(tag)::type;
      const Groups groups = group(items.data<T>(), count, length, sorted);
      Shape shape = view;
      const auto found = static_cast<int64_t>(groups.first.size());
      shape[at] = found;
      T* y = c.output(0, x.dtype(), shape).template data<T>();
      for (int64_t o = 0; o < outer; ++o) {
        for (const int64_t item : groups.first) {
          y = std::copy_n(items.data<T>() + item * length + o * inner, inner, y);
        }
      }
      write(c, 1, groups.first);
      write(c, 2, groups.inverse);
      write(c, 3, groups.counts);
    });
  }

 private:
  static void write(RunContext& c, int i, const std::vector<int64_t>& values) {
    if (!c.wants_output(i)) return;
    Tensor& y = c.output(i, DType::int64, {static_cast<int64_t>(values.size())});
    std::copy(values.begin(), values.end(), y.data<int64_t>());
  }
  bool flat;
  int64_t axis;
  bool sorted;
};
BASCULE_KERNEL("Unique", Unique);

}  // namespace
}  // namespace bascule
