// SPDX-License-Identifier: Apache-2.0
// ArgMax and ArgMin: the index of the first (or last) of the largest (smallest) elements along an
// axis. NaN counts as larger and smaller than any number, as in NumPy.
#include <algorithm>
#include <limits>
#include <type_traits>

#include "kernels/reduce_loops.h"
#include "runtime/kernel.h"

namespace bascule {

BASCULE_PER_ISA(ReduceLoops<float> reduce_loops());

namespace {

// Whether `x` takes the place of the best so far.
template <class T, bool largest, bool last>
struct Better {
  bool operator()(T x, T best) const {
    // Of numbers only the comparison counts; NaN wins, and the first NaN stays.
    const bool ahead = (largest ? x > best : x < best) | (last & (x == best));
    if constexpr (std::is_integral_v<T>) return ahead;
    const bool is_nan = x != x;
    return (ahead | is_nan) & ((best == best) | (last & is_nan));
  }
};

class ArgReduce final : public Kernel {
 public:
  static Capability capability(const NodeSpec& node) {
    return require_dtype(node, 0, NumericTypes{});
  }
  explicit ArgReduce(const NodeSpec& node)
      : axis_(node.get_int("axis", 0)),
        keeps_axis_(node.get_int("keepdims", 1) != 0),
        last_(node.get_int("select_last_index", 0) != 0),
        largest_(node.op_type == "ArgMax") {}

  void run(RunContext& c) const override {
    const Tensor& x = c.input(0);
    // A scalar is a line of one element.
    const Shape shape = x.rank() == 0 ? Shape{1} : x.shape();
    const int axis = shape.axis(axis_);
    const int64_t n = shape[axis], inner = shape.product(axis + 1, shape.rank());
    const int64_t outer = shape.product(0, axis);
    if (n == 0 && outer * inner > 0) fail("the axis is empty: there is no index to give");
    Shape kept = shape;
    if (keeps_axis_ && x.rank() > 0) {
      kept[axis] = 1;
    } else {
      kept.erase(axis);
    }
    int64_t* out = c.output(0, DType::int64, kept).data<int64_t>();
    visit(NumericTypes{}, x.dtype(), [&](auto tag) {
      using T = typename decltype(tag)::type;
      const T* from = x.data<T>();
      const bool are_short = inner == 1 && n <= short_row;
      if (std::is_same_v<T, float> && inner == 1 && !are_short) {
        return rows(c, x.data<float>(), out, outer, n);
      }
      const auto with = [&](auto better) {
        if (are_short) return short_rows(c, from, out, outer, n, better);
        columns(c, from, out, outer, n, inner, better);
      };
      using C = Compute<T>;
      if (largest_) {
        last_ ? with(Better<C, true, true>{}) : with(Better<C, true, false>{});
      } else {
        last_ ? with(Better<C, false, true>{}) : with(Better<C, false, false>{});
      }
    });
  }

 private:
  // Lines that are looked through side by side.
  static constexpr int64_t group_width = 32;

  // Rows of float: the extreme in vectors, then where it is.
  void rows(RunContext& c, const float* from, int64_t* out, int64_t outer, int64_t n) const {
    const auto fold = BASCULE_PICK(reduce_loops)().row;
    c.parallel_for(outer, static_cast<double>(n), [&](int64_t begin, int64_t end) {
      for (int64_t k = begin; k < end; ++k) {
        const float* line = from + k * n;
        const float best = fold(largest_ ? Fold::max : Fold::min, line, n, 0);
        const auto is_best = [&](float x) { return best != best ? x != x : x == best; };
        int64_t index = last_ ? n - 1 : 0;
        while (!is_best(line[index])) index += last_ ? -1 : 1;
        out[k] = index;
      }
    });
  }

  // Lines side by side, a group of them at a time.
  template <class T, class Better>
  static void columns(RunContext& c, const T* from, int64_t* out, int64_t outer, int64_t n,
                      int64_t inner, const Better& better) {
    if (n > std::numeric_limits<int32_t>::max()) fail("an axis of 2^31 elements is too long");
    const int64_t groups = (inner + group_width - 1) / group_width;
    c.parallel_for(outer * groups, 2.0 * static_cast<double>(n * group_width),
                   [&](int64_t begin, int64_t end) {
                     for (int64_t k = begin; k < end; ++k) {
                       const int64_t first = k % groups * group_width;
                       group(from + k / groups * n * inner + first, n, inner,
                             std::min(group_width, inner - first), better,
                             out + k / groups * inner + first);
                     }
                   });
  }

  // Rows of few elements become columns, a group of them at a time.
  static constexpr int64_t short_row = 32;
  template <class T, class Better>
  static void short_rows(RunContext& c, const T* from, int64_t* out, int64_t outer, int64_t n,
                         const Better& better) {
    c.parallel_for(outer, 2.0 * static_cast<double>(n), [&](int64_t begin, int64_t end) {
      Compute<T> lines[short_row * group_width];
      for (int64_t k = begin; k < end; k += group_width) {
        const int64_t count = std::min(group_width, end - k);
        for (int64_t j = 0; j < count; ++j) {
          for (int64_t i = 0; i < n; ++i) {
            lines[i * group_width + j] = static_cast<Compute<T>>(from[(k + j) * n + i]);
          }
        }
        group(lines, n, group_width, count, better, out + k);
      }
    });
  }

  // Full groups have a fixed width and indices as wide as the elements: that vectorizes.
  template <class T, class Better>
  static void group(const T* line, int64_t n, int64_t stride, int64_t count, const Better& better,
                    int64_t* out) {
    using Index = std::conditional_t<sizeof(Compute<T>) == 4, int32_t, int64_t>;
    Compute<T> best[group_width] = {};
    Index index[group_width] = {};
    const auto fold_row = [&](int64_t i, int64_t width) {
      for (int64_t j = 0; j < width; ++j) {
        const Compute<T> value = line[i * stride + j];
        const bool take = better(value, best[j]);
        best[j] = take ? value : best[j];
        index[j] = take ? static_cast<Index>(i) : index[j];
      }
    };
    for (int64_t j = 0; j < count; ++j) best[j] = line[j];
    if (count == group_width) {
      for (int64_t i = 1; i < n; ++i) fold_row(i, group_width);
    } else {
      for (int64_t i = 1; i < n; ++i) fold_row(i, count);
    }
    std::copy_n(index, count, out);
  }

  int64_t axis_;
  bool keeps_axis_, last_, largest_;
};
BASCULE_KERNEL("ArgMax", ArgReduce);
BASCULE_KERNEL("ArgMin", ArgReduce);

}  // namespace
}  // namespace bascule
