// SPDX-License-Identifier: Apache-2.0
// ArgMax and ArgMin: the index of the first (or last) of the largest (smallest) elements along an
// axis. NaN counts as larger and smaller than any number, as in NumPy.
#include "runtime/kernel.h"

namespace bascule {
namespace {

// Whether `x` takes the place of the best so far.
template <class T>
struct Better {
  bool largest, last;
  bool operator()(T x, T best) const {
    if (best != best) return last && x != x;
    if (x != x) return true;
    if (last && x == best) return true;
    return largest ? x > best : x < best;
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
      c.parallel_for(outer * inner, 2.0 * static_cast<double>(n), [&](int64_t begin, int64_t end) {
        for (int64_t k = begin; k < end; ++k) {
          const T* line = from + k / inner * n * inner + k % inner;
          Compute<T> best = line[0];
          int64_t index = 0;
          for (int64_t i = 1; i < n; ++i) {
            const Compute<T> value = line[i * inner];
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
  int64_t axis_;
  bool keeps_axis_, last_, largest_;
};
BASCULE_KERNEL("ArgMax", ArgReduce);
BASCULE_KERNEL("ArgMin", ArgReduce);

}  // namespace
}  // namespace bascule
