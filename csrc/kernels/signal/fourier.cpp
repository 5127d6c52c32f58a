// SPDX-License-Identifier: Apache-2.0
// DFT along one axis, and STFT: the DFT of windowed frames of a signal.
#include <memory>
#include <type_traits>

#include "kernels/signal/lines.h"
#include "kernels/work_view.h"
#include "runtime/kernel.h"

namespace bascule {
namespace {

// A transform of a length that is known when the kernel is made, or of the one asked for.
template <class Transform>
class Transforms {
 public:
  void prepare(int64_t length) {
    // Tables of very long transforms are not kept.
    if (length >= 1 && length <= (1 << 20)) known_ = std::make_shared<const Transform>(length);
  }
  std::shared_ptr<const Transform> of(int64_t length) const {
    if (known_ != nullptr && known_->length() == length) return known_;
    return std::make_shared<const Transform>(length);
  }

 private:
  std::shared_ptr<const Transform> known_;
};

// The transforms that compute in T.
template <class T>
struct Tables {
  Transforms<Fft<T>> complex;
  Transforms<RealFft<T>> real;
  void prepare(int64_t length, bool is_real) {
    if (is_real) {
      real.prepare(length);
    } else {
      complex.prepare(length);
    }
  }
};

int64_t positive(int64_t value, const char* name) {
  // Longer transforms would not fit any memory; the bound keeps sizes from overflowing.
  if (value < 1 || value > (int64_t{1} << 40)) {
    invalid(std::string(name) + " is " + std::to_string(value));
  }
  return value;
}

class Dft final : public Kernel {
 public:
  static Capability capability(const NodeSpec& node) {
    return require_dtype(node, 0, FloatTypes{});
  }
  explicit Dft(const NodeSpec& node)
      : inverse_(node.get_int("inverse", 0) != 0), onesided_(node.get_int("onesided", 0) != 0) {
    const ValueSpec& x = node.inputs[0];
    if (const Tensor* length = node.constant(1)) {
      prepare(node, length->to_int());
    } else if (!node.has_input(1) && x.shape && (!node.has_input(2) || node.constant(2))) {
      const int64_t axis = node.has_input(2) ? node.constant(2)->to_int() : -2;
      const int64_t at = axis < 0 ? axis + x.rank() : axis;
      if (at < 0 || at >= x.rank() || x.dim(static_cast<int>(at)) < 1) return;
      prepare(node, default_length(x.dim(static_cast<int>(at))));
    }
  }

  void run(RunContext& c) const override {
    const Tensor& x = c.input(0);
    const Shape& shape = x.shape();
    const int rank = shape.rank();
    if (rank < 2 || (shape.back() != 1 && shape.back() != 2)) {
      invalid("input has shape " + shape.text() + ", expected a last axis of 1 or 2");
    }
    const int axis = shape.axis(c.has_input(2) ? c.input(2).to_int() : -2);
    if (axis == rank - 1) invalid("the last axis holds real and imaginary parts");
    const int64_t length =
        positive(c.has_input(1) ? c.input(1).to_int() : default_length(shape[axis]), "dft_length");
    Shape y_shape = shape;
    y_shape[axis] = onesided_ && !inverse_ ? length / 2 + 1 : length;
    y_shape[rank - 1] = onesided_ && inverse_ ? 1 : 2;
    // Forward in double: single precision would leave the noise of large lines in small ones. The
    // inverse has the precision of its type, whose rounding the standard's own results have.
    visit_work_type(x.dtype(), [&](auto tag) {
      using T = typename decltype(tag)::type;
      if (inverse_) {
        run_typed<T, T>(c, axis, y_shape, length);
      } else {
        run_typed<T, double>(c, axis, y_shape, length);
      }
    });
  }

 private:
  template <class U>
  const Tables<U>& tables() const {
    if constexpr (std::is_same_v<U, float>) {
      return single_;
    } else {
      return double_;
    }
  }

  template <class T, class U>
  void run_typed(RunContext& c, int axis, const Shape& y_shape, int64_t length) const {
    const Tensor& x = c.input(0);
    const LineLayout from = layout_of(x.shape(), axis), to = layout_of(y_shape, axis);
    const int64_t count = x.shape().product(0, axis) * from.inner;
    const T* source = work_view<T>(c, x);
    Tensor& y = c.output(0, x.dtype(), y_shape);
    T* target = work_target<T>(c, y);
    const U scale = inverse_ ? U{1} / static_cast<U>(length) : U{1};
    if (inverse_ && onesided_) {
      const auto fft = tables<U>().real.of(length);
      for_lines<U>(c, *fft, fft->size(), count, [&](const Lines<U>& lines) {
        LineCopy<T, U>(from, lines).read(source, lines.values, length / 2 + 1);
        const Planes<U> result = fft->inverse(lines.values, lines.scratch, lines.lanes);
        LineCopy<T, U>(to, lines).write_real(*fft, result, target, scale);
      });
    } else if (!inverse_ && from.parts == 1) {
      const auto fft = tables<U>().real.of(length);
      for_lines<U>(c, *fft, fft->size(), count, [&](const Lines<U>& lines) {
        LineCopy<T, U>(from, lines).read_real(*fft, source, lines.values);
        const Planes<U> result = fft->transform(lines.values, lines.scratch, lines.lanes);
        LineCopy<T, U>(to, lines).write_spectrum(*fft, result, target);
      });
    } else {
      const auto fft = tables<U>().complex.of(length);
      // The inverse is the transform with real and imaginary parts exchanged, before and after.
      const auto turned = [&](Planes<U> x) { return inverse_ ? Planes<U>{x.im, x.re} : x; };
      const int64_t size = std::max(length, fft->scratch_size());
      for_lines<U>(c, *fft, size, count, [&](const Lines<U>& lines) {
        LineCopy<T, U>(from, lines).read(source, lines.values, length);
        const Planes<U> result =
            fft->transform(turned(lines.values), turned(lines.scratch), lines.lanes);
        LineCopy<T, U>(to, lines).write(turned(result), target, to.size, scale);
      });
    }
    store_work(c, target, y);
  }

  static LineLayout layout_of(const Shape& shape, int axis) {
    const int64_t parts = shape.back(), inner = shape.product(axis + 1, shape.rank() - 1);
    return {inner, shape[axis] * inner * parts, parts, shape[axis], inner * parts, parts};
  }

  void prepare(const NodeSpec& node, int64_t length) {
    const bool real =
        inverse_ ? onesided_ : node.inputs[0].shape && node.inputs[0].shape->back() == 1;
    if (inverse_ && node.dtype() != DType::float64) {
      single_.prepare(length, real);
    } else {
      double_.prepare(length, real);
    }
  }
  int64_t default_length(int64_t size) const {
    return inverse_ && onesided_ ? 2 * (size - 1) : size;
  }

  bool inverse_;
  bool onesided_;
  Tables<double> double_;
  Tables<float> single_;
};
BASCULE_KERNEL("DFT", Dft);

class Stft final : public Kernel {
 public:
  static Capability capability(const NodeSpec& node) {
    return require_dtype(node, 0, FloatTypes{});
  }
  explicit Stft(const NodeSpec& node) : onesided_(node.get_int("onesided", 1) != 0) {
    int64_t length = 0;
    if (const Tensor* constant = node.constant(3)) {
      length = constant->to_int();
    } else if (node.has_input(2) && node.inputs[2].rank() == 1) {
      length = node.inputs[2].dim(0);
    }
    const ValueSpec& signal = node.inputs[0];
    tables_.prepare(length, !signal.shape || signal.shape->back() == 1);
  }

  void run(RunContext& c) const override {
    const Tensor& signal = c.input(0);
    const Shape& shape = signal.shape();
    if (shape.rank() != 3 || (shape[2] != 1 && shape[2] != 2)) {
      invalid("signal has shape " + shape.text() + ", expected {batch, length, 1 or 2}");
    }
    const int64_t step = positive(c.input(1).to_int(), "frame_step");
    int64_t length = shape[1];
    if (c.has_input(2)) {
      if (c.input(2).rank() != 1) {
        invalid("window has shape " + c.input(2).shape().text() + ", expected one axis");
      }
      length = c.input(2).dim(0);
    }
    if (c.has_input(3)) {
      const int64_t asked = c.input(3).to_int();
      if (c.has_input(2) && asked != length) {
        invalid("frame_length is " + std::to_string(asked) + ", and the window has " +
                std::to_string(length) + " elements");
      }
      length = asked;
    }
    positive(length, "frame_length");
    if (length > shape[1]) {
      invalid("frames of " + std::to_string(length) + " do not fit a signal of " +
              std::to_string(shape[1]));
    }
    const int64_t frames = (shape[1] - length) / step + 1;
    const int64_t bins = onesided_ ? length / 2 + 1 : length;
    visit_work_type(signal.dtype(), [&](auto tag) {
      using T = typename decltype(tag)::type;
      const T* x = work_view<T>(c, signal);
      const T* window = c.has_input(2) ? work_view<T>(c, c.input(2)) : nullptr;
      Tensor& y = c.output(0, signal.dtype(), {shape[0], frames, bins, 2});
      T* to = work_target<T>(c, y);
      const int64_t parts = shape[2], count = shape[0] * frames;
      const LineLayout from{frames, shape[1] * parts, step * parts, length, parts, parts};
      const LineLayout spectrum{1, bins * 2, 0, bins, 2, 2};
      if (parts == 1) {
        const auto fft = tables_.real.of(length);
        for_lines<double>(c, *fft, fft->size(), count, [&](const Lines<double>& lines) {
          LineCopy<T, double>(from, lines, window).read_real(*fft, x, lines.values);
          const auto result = fft->transform(lines.values, lines.scratch, lines.lanes);
          LineCopy<T, double>(spectrum, lines).write_spectrum(*fft, result, to);
        });
      } else {
        const auto fft = tables_.complex.of(length);
        const int64_t size = std::max(length, fft->scratch_size());
        for_lines<double>(c, *fft, size, count, [&](const Lines<double>& lines) {
          LineCopy<T, double>(from, lines, window).read(x, lines.values, length);
          const auto result = fft->transform(lines.values, lines.scratch, lines.lanes);
          LineCopy<T, double>(spectrum, lines).write(result, to, bins, 1);
        });
      }
      store_work(c, to, y);
    });
  }

 private:
  bool onesided_;
  Tables<double> tables_;
};
BASCULE_KERNEL("STFT", Stft);

}  // namespace
}  // namespace bascule
