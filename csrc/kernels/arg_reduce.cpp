// SPDX-License-Identifier: Apache-2.0
// ArgMax and ArgMin: the index of the first (or last) of the largest (smallest) elements along an
// axis. NaN counts as larger and smaller than any number, as in NumPy.
#include <algorithm>

#include "runtime/kernel.h"

namespace bascule {
namespace {

// Whether `x` takes the place of the best so far.
template <class T>
struct Better {
  bool largest, last;
  bool operator()(T x, T best) const {
    const bool ahead = (largest ? x > best : x < best) | (last & (x == best)) | (x != x);
    return ahead & ((best == best) | (last & (x != x)));
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
      const Better<Compute<T>> better{largest_, last_};
      if (inner > 1) {
        columns(c, from, out, outer, n, inner, better);
        return;
      }
      c.parallel_for(outer, 2.0 * static_cast<double>(n), [&](int64_t begin, int64_t end) {
        for (int64_t k = begin; k < end; ++k) {
          const T* line = from + k * n;
          Compute<T> best = line[0];
          int64_t index = 0;
          for (int64_t i = 1; i < n; ++i) {
            const Compute<T> value = line[i];
            if (better(value, best)) {
              best = value;
              index = i;
            }
          }
          out[k] = index;
        }
      });
    });
  }

 private:
  // Lines side by side, a group of them at a time.
  template <class T, class Better>
  static void columns(RunContext& c, const T* from, int64_t* out, int64_t outer, int64_t n,
                      int64_t inner, const Better& better) {
    constexpr int64_t width = 32;
    const int64_t groups = (inner + width - 1) / width;
    c.parallel_for(outer * groups, 2.0 * static_cast<double>(n * width),
                   [&](int64_t begin, int64_t end) {
                     for (int64_t k = begin; k < end; ++k) {
                       const int64_t first = k % groups * width;
                       const int64_t count = std::min(width, inner - first);
                       const T* line = from + k / groups * n * inner + first;
                       Compute<T> best[width];
                       int64_t index[width] = {};
                       for (int64_t j = 0; j < count; ++j) best[j] = line[j];
                       for (int64_t i = 1; i < n; ++i) {
                         for (int64_t j = 0; j < count; ++j) {
                           const Compute<T> value = line[i * inner + j];
                           const bool take = better(value, best[j]);
                           best[j] = take ? value : best[j];
                           index[j] = take ? i : index[j];
                         }
                       }
                       std::copy_n(index, count, out + k / groups * inner + first);
                     }
                   });
  }

  int64_t axis_;
  bool keeps_axis_, last_, largest_;
};
BASCULE_KERNEL("ArgMax", ArgReduce);
BASCULE_KERNEL("ArgMin", ArgReduce);

}  // namespace
}  // namespace bascule
