// SPDX-License-Identifier: Apache-2.0
// instruction sets: base avx2 avx512
// Softmax, LogSoftmax and Hardmax over one axis: maximum m, then e = exp(x - m) and its sum s, then
// e / s, or (x - m) - log(s). A line with nothing but -Inf, or with NaN, gives NaN. Softmax of
// float16 rounds e and s to it, as the function does that the standard defines it by, and as the
// public suite expects it to a thousandth.
#include "simd/half.h"
#include "simd/math.h"
#include "simd/sums.h"

namespace bascule::BASCULE_ISA {
namespace {

BASCULE_INLINE F32 as_half(F32 v) { return widen_f16(narrow_f16(v)); }

// A sum beyond the range of float16 stays as it is.
BASCULE_INLINE F32 sum_as_half(F32 sum) {
  const F32 rounded = as_half(sum);
  return rounded == infinity ? sum : rounded;
}

void log_softmax_row(const float* x, float* y, int64_t n, F32 top) {
  const float sum = sum_of_costly(
      n, [&](int64_t i, int64_t count) { return exp(load(x + i, count, -infinity) - top); });
  const F32 log_sum = log(set(sum));
  for_vectors(n, [&](int64_t i, int64_t count) {
    store(y + i, load(x + i, count, 0) - top - log_sum, count);
  });
}

}  // namespace

// x and y hold n > 0 floats and may be the same memory. `half`: they stand for float16.
void softmax_row(const float* x, float* y, int64_t n, bool logarithm, bool half) {
  const F32 top = set(largest_of(x, n));
  if (logarithm) return log_softmax_row(x, y, n, top);
  const float sum = sum_of_costly(n, [&](int64_t i, int64_t count) {
    F32 e = exp(load(x + i, count, -infinity) - top);
    if (half) e = as_half(e);
    store(y + i, e, count);
    return e;
  });
  const F32 scale = 1 / (half ? sum_as_half(set(sum)) : set(sum));
  for_vectors(
      n, [&](int64_t i, int64_t count) { store(y + i, load(y + i, count, 0) * scale, count); });
}

// `columns` softmaxes side by side: line j is x[j], x[j + stride], ..., n > 0 elements.
void softmax_columns(const float* x, float* y, int64_t n, int64_t stride, int64_t columns,
                     bool logarithm, bool half) {
  for_vectors(columns, [&](int64_t j, int64_t count) {
    F32 top = set(-infinity), sum = set(0);
    for (int64_t i = 0; i < n; ++i) top = max(top, load(x + i * stride + j, count, 0));
    for (int64_t i = 0; i < n; ++i) {
      F32 e = exp(load(x + i * stride + j, count, 0) - top);
      if (half && !logarithm) e = as_half(e);
      if (!logarithm) store(y + i * stride + j, e, count);
      sum += e;
    }
    if (half && !logarithm) sum = sum_as_half(sum);
    const F32 factor = logarithm ? log(sum) : 1.0f / sum;
    for (int64_t i = 0; i < n; ++i) {
      float* out = y + i * stride + j;
      if (logarithm) {
        store(out, load(x + i * stride + j, count, 0) - top - factor, count);
      } else {
        store(out, load(out, count, 0) * factor, count);
      }
    }
  });
}

}  // namespace bascule::BASCULE_ISA

#if BASCULE_ONCE  // from here on: compiled once, for the baseline, free to use the standard library
#include <algorithm>
#include <cmath>

#include "kernels/work_view.h"
#include "runtime/kernel.h"

namespace bascule {

BASCULE_PER_ISA(void softmax_row(const float* x, float* y, int64_t n, bool logarithm, bool half);
                void softmax_columns(const float* x, float* y, int64_t n, int64_t stride,
                                     int64_t columns, bool logarithm, bool half));

namespace {

// Lines along `axis`: `outer` groups of `inner` lines of `n` elements, `inner` apart.
struct Lines {
  Lines(const Shape& shape, int64_t axis_attribute) {
    const int axis = shape.axis(axis_attribute);
    outer = shape.product(0, axis);
    n = shape[axis];
    inner = shape.product(axis + 1, shape.rank());
  }
  int64_t outer, n, inner;
};

void softmax_line(const double* x, double* y, int64_t n, int64_t stride, bool logarithm) {
  double top = x[0], sum = 0;
  for (int64_t i = 1; i < n; ++i) top = std::max(top, x[i * stride]);
  for (int64_t i = 0; i < n; ++i) sum += std::exp(x[i * stride] - top);
  const double log_sum = std::log(sum);
  for (int64_t i = 0; i < n; ++i) {
    const double shifted = x[i * stride] - top;
    y[i * stride] = logarithm ? shifted - log_sum : std::exp(shifted) / sum;
  }
}

class Softmax final : public Kernel {
 public:
  static Capability capability(const NodeSpec& node) {
    return require_dtype(node, 0, FloatTypes{});
  }
  explicit Softmax(const NodeSpec& node)
      : axis_(node.get_int("axis", -1)), logarithm_(node.op_type == "LogSoftmax") {}

  void run(RunContext& c) const override {
    const Tensor& x = c.input(0);
    const Lines lines(x.shape(), axis_);
    if (x.dtype() == DType::float64) {
      const double* from = x.data<double>();
      double* to = c.output(0, x.dtype(), x.shape()).data<double>();
      if (lines.n == 0) return;
      c.parallel_for(lines.outer * lines.inner, 50.0 * lines.n, [&](int64_t begin, int64_t end) {
        for (int64_t k = begin; k < end; ++k) {
          const int64_t at = k / lines.inner * lines.n * lines.inner + k % lines.inner;
          softmax_line(from + at, to + at, lines.n, lines.inner, logarithm_);
        }
      });
      return;
    }
    Tensor& y = c.output(0, x.dtype(), x.shape());
    if (lines.n == 0) return;
    if (lines.inner == 1) return run_rows(c, lines, x, y);
    float* to = work_target<float>(c, y);
    run_columns(c, lines, work_view<float>(c, x), to, x.dtype() == DType::float16);
    store_work(c, to, y);
  }

 private:
  void run_rows(RunContext& c, const Lines& lines, const Tensor& x, Tensor& y) const {
    const bool half = x.dtype() == DType::float16;
    const WorkRows<float> from(x, lines.n);
    const WorkTargetRows<float> to(y, lines.n);
    const int64_t parts = std::min<int64_t>(lines.outer, c.threads());
    float* space = c.workspace<float>(parts * lines.n);
    const double work = 4.0 * static_cast<double>(lines.n) * static_cast<double>(lines.outer);
    c.parallel_for(parts, work / static_cast<double>(parts), [&](int64_t first, int64_t last) {
      float* row = space + first * lines.n;
      for (int64_t k = lines.outer * first / parts; k < lines.outer * last / parts; ++k) {
        float* out = to.row(k, row);
        row_(from.row(k, row), out, lines.n, logarithm_, half);
        to.store(k, out);
      }
    });
  }

  void run_columns(RunContext& c, const Lines& lines, const float* x, float* y, bool half) const {
    const int64_t n = lines.n;
    // Groups of columns: some vectors wide, so that a line of memory is used as a whole.
    constexpr int64_t width = 64;
    const int64_t groups = (lines.inner + width - 1) / width;
    c.parallel_for(lines.outer * groups, 4.0 * n * width, [&](int64_t begin, int64_t end) {
      for (int64_t k = begin; k < end; ++k) {
        const int64_t first = k % groups * width;
        const int64_t at = k / groups * n * lines.inner + first;
        columns_(x + at, y + at, n, lines.inner, std::min(width, lines.inner - first), logarithm_,
                 half);
      }
    });
  }

  int64_t axis_;
  bool logarithm_;
  decltype(&base::softmax_row) row_ = BASCULE_PICK(softmax_row);
  decltype(&base::softmax_columns) columns_ = BASCULE_PICK(softmax_columns);
};
BASCULE_KERNEL("Softmax", Softmax, InPlace{0, 0});
BASCULE_KERNEL("LogSoftmax", Softmax, InPlace{0, 0});

// One at the first of the largest elements of a line, zero elsewhere.
class Hardmax final : public Kernel {
 public:
  static Capability capability(const NodeSpec& node) {
    return require_dtype(node, 0, FloatTypes{});
  }
  explicit Hardmax(const NodeSpec& node) : axis_(node.get_int("axis", -1)) {}
  void run(RunContext& c) const override {
    const Tensor& x = c.input(0);
    const Lines lines(x.shape(), axis_);
    visit(FloatTypes{}, x.dtype(), [&](auto tag) {
      using T = typename decltype(tag)::type;
      const T* from = x.data<T>();
      T* to = c.output(0, x.dtype(), x.shape()).template data<T>();
      if (lines.n == 0) return;
      std::fill_n(to, x.size(), T(Compute<T>(0)));
      const auto one = T(Compute<T>(1));
      c.parallel_for(
          lines.outer * lines.inner, static_cast<double>(lines.n), [&](int64_t begin, int64_t end) {
            for (int64_t k = begin; k < end; ++k) {
              const int64_t at = k / lines.inner * lines.n * lines.inner + k % lines.inner;
              const int64_t best = lines.inner == 1
                                       ? first_of_largest(from + at, lines.n)
                                       : first_of_largest(from + at, lines.n, lines.inner);
              to[at + best * lines.inner] = one;
            }
          });
    });
  }

 private:
  // Of n > 0 elements; NaN is larger than no number, and none is larger than a NaN at the front.
  template <class T>
  static int64_t first_of_largest(const T* x, int64_t n, int64_t stride) {
    int64_t best = 0;
    Compute<T> largest = x[0];
    for (int64_t i = 1; i < n; ++i) {
      const Compute<T> value = x[i * stride];
      if (value > largest) {
        best = i;
        largest = value;
      }
    }
    return best;
  }
  // Of neighbours: first what is largest, some elements at a time, then where it is.
  template <class T>
  static int64_t first_of_largest(const T* x, int64_t n) {
    constexpr int64_t width = 16;
    if (n < width) return first_of_largest(x, n, 1);
    Compute<T> largest[width];
    std::fill_n(largest, width, static_cast<Compute<T>>(x[0]));
    const auto look_at = [&](const T* values) {
      for (int64_t j = 0; j < width; ++j) {
        const Compute<T> value = values[j];
        largest[j] = value > largest[j] ? value : largest[j];
      }
    };
    for (int64_t i = 0; i + width <= n; i += width) look_at(x + i);
    look_at(x + n - width);
    const Compute<T> top = *std::max_element(largest, largest + width);
    const auto is_top = [&](T value) { return static_cast<Compute<T>>(value) == top; };
    const T* first = std::find_if(x, x + n, is_top);
    return first == x + n ? 0 : first - x;
  }

  int64_t axis_;
};
BASCULE_KERNEL("Hardmax", Hardmax);

}  // namespace
}  // namespace bascule
#endif
