// SPDX-License-Identifier: Apache-2.0
// TopK: the k largest or smallest elements along an axis; ties go to the lower index, and NaN is
// larger than every number, as NumPy sorts it.
#include <algorithm>
#include <bit>
#include <limits>

#include "kernels/move/int_list.h"
#include "runtime/kernel.h"

namespace bascule {
namespace {

__extension__ typedef unsigned __int128 Wide128;

// A number whose unsigned order is the order of the values; both zeros are one.
template <class T>
auto order_key(T value) {
  if constexpr (std::is_integral_v<T>) {
    using U = std::make_unsigned_t<T>;
    constexpr U flip = std::is_signed_v<T> ? U(U{1} << (8 * sizeof(T) - 1)) : U{0};
    return static_cast<U>(static_cast<U>(value) ^ flip);
  } else if constexpr (NarrowFloat<T>) {
    return order_key(static_cast<float>(value));
  } else {
    using U = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
    constexpr U sign = U{1} << (8 * sizeof(U) - 1);
    if (value != value) return std::numeric_limits<U>::max();
    const U bits = std::bit_cast<U>(value == 0 ? T{0} : value);
    return static_cast<U>(bits & sign ? ~bits : bits | sign);
  }
}

// Key and index in one number: the larger number is the better element.
template <class T>
using Entry = std::conditional_t<sizeof(decltype(order_key(T()))) == 8, Wide128, uint64_t>;

template <class T>
Entry<T> make_entry(T value, bool largest, int64_t index) {
  auto key = order_key(value);
  if (!largest) key = static_cast<decltype(key)>(~key);
  return (static_cast<Entry<T>>(key) << 32) | (0xffffffffu - static_cast<uint32_t>(index));
}

template <class Entry>
int64_t index_of(Entry entry) {
  return 0xffffffffu - static_cast<uint32_t>(entry);
}

// The best k >= 1 of n elements that are `stride` apart, best first, into best[k].
template <bool largest, class T>
void select(const T* x, int64_t stride, int64_t n, int64_t k, Entry<T>* best) {
  // A heap whose front is the worst kept so far.
  const auto worse = std::greater<Entry<T>>{};
  for (int64_t i = 0; i < k; ++i) best[i] = make_entry(x[i * stride], largest, i);
  std::make_heap(best, best + k, worse);
  const auto value = [&](int64_t i) { return static_cast<Compute<T>>(x[i * stride]); };
  const auto last = [&] { return value(index_of(best[0])); };
  Compute<T> bound = last();
  for (int64_t i = k; i < n; ++i) {
    // Most elements end here; NaN does not, being no less than anything.
    if (largest ? value(i) <= bound : value(i) >= bound) continue;
    const Entry<T> entry = make_entry(x[i * stride], largest, i);
    if (entry <= best[0]) continue;
    std::pop_heap(best, best + k, worse);
    best[k - 1] = entry;
    std::push_heap(best, best + k, worse);
    bound = last();
  }
  std::sort(best, best + k, worse);
}

struct TopK final : Kernel {
  static Capability capability(const NodeSpec& node) {
    return require_dtype(node, 0, NumericTypes{});
  }
  explicit TopK(const NodeSpec& node)
      : axis(node.get_int("axis", -1)), largest(node.get_int("largest", 1) != 0) {}
  void run(RunContext& c) const override {
    const Tensor& x = c.input(0);
    const int at = x.shape().axis(axis);
    const int64_t n = x.dim(at);
    const int64_t k = c.input(1).to_int();
    if (k < 0) invalid("k argument [" + std::to_string(k) + "] must not be negative");
    if (k > n) {
      invalid("k argument [" + std::to_string(k) +
              "] should not be greater than specified axis dim value [" + std::to_string(n) + "]");
    }
    if (n > int64_t{0xffffffff}) fail("TopK: the axis is too long");
    Shape shape = x.shape();
    shape[at] = k;
    const int64_t inner = shape.product(at + 1, shape.rank());
    const int64_t rows = shape.product(0, at) * inner;
    visit(NumericTypes{}, x.dtype(), [&](auto tag) {
      using T = typename decltype(tag)::type;
      auto* entries = c.workspace<Entry<T>>(rows * k);
      T* values = c.output(0, x.dtype(), shape).template data<T>();
      int64_t* indices = c.output(1, DType::int64, shape).template data<int64_t>();
      if (k == 0) return;
      c.parallel_for(rows, 4 * static_cast<double>(n), [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) {
          const int64_t outer = r / inner, column = r % inner;
          const T* row = x.data<T>() + outer * n * inner + column;
          Entry<T>* best = entries + r * k;
          if (largest) {
            select<true>(row, inner, n, k, best);
          } else {
            select<false>(row, inner, n, k, best);
          }
          for (int64_t i = 0; i < k; ++i) {
            const int64_t index = index_of(best[i]);
            const int64_t place = (outer * k + i) * inner + column;
            values[place] = row[index * inner];
            indices[place] = index;
          }
        }
      });
    });
  }
  int64_t axis;
  bool largest;
};
BASCULE_KERNEL("TopK", TopK);

}  // namespace
}  // namespace bascule
