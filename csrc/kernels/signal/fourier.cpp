// SPDX-License-Identifier: Apache-2.0
// DFT along one axis, and STFT: the DFT of windowed frames of a signal.
#include <algorithm>
#include <memory>

#include "kernels/signal/fft.h"
#include "kernels/work_view.h"
#include "runtime/kernel.h"

namespace bascule {
namespace {

// A transform of a length that is known when the kernel is made, or of the one asked for.
template <class T>
class Transforms {
 public:
  void prepare(int64_t length) {
    // Tables of very long transforms are not kept.
    if (length >= 1 && length <= (1 << 20)) known_ = std::make_shared<const Fft<T>>(length);
  }
  std::shared_ptr<const Fft<T>> of(int64_t length) const {
    if (known_ != nullptr && known_->length() == length) return known_;
    return std::make_shared<const Fft<T>>(length);
  }

 private:
  std::shared_ptr<const Fft<T>> known_;
};

// body(line, values, scratch) for lines [0, count), with buffers of `fft`'s length and scratch
// size.
template <class T, class Body>
void for_lines(RunContext& c, const Fft<T>& fft, int64_t count, Body&& body) {
  using C = std::complex<T>;
  const int64_t parts = std::min<int64_t>(c.threads(), std::max<int64_t>(count, 1));
  const int64_t size = fft.length() + fft.scratch_size();
  auto* space = static_cast<C*>(c.workspace(parts * size * static_cast<int64_t>(sizeof(C))));
  c.parallel_for(parts,
                 static_cast<double>(count) * static_cast<double>(fft.length()) * 20 /
                     static_cast<double>(parts),
                 [&](int64_t begin, int64_t end) {
                   for (int64_t part = begin; part < end; ++part) {
                     C* values = space + part * size;
                     for (int64_t i = count * part / parts; i < count * (part + 1) / parts; ++i) {
                       body(i, values, values + fft.length());
                     }
                   }
                 });
}

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
        run_typed<T, T>(c, x, axis, y_shape, length, inverses<T>());
      } else {
        run_typed<T, double>(c, x, axis, y_shape, length, transforms_);
      }
    });
  }

 private:
  template <class T>
  const Transforms<T>& inverses() const {
    if constexpr (std::is_same_v<T, float>) {
      return single_;
    } else {
      return transforms_;
    }
  }

  template <class T, class U>
  void run_typed(RunContext& c, const Tensor& x, int axis, const Shape& y_shape, int64_t length,
                 const Transforms<U>& transforms) const {
    const Shape& shape = x.shape();
    const int rank = shape.rank();
    const T* from = work_view<T>(c, x);
    Tensor& y = c.output(0, x.dtype(), y_shape);
    T* to = work_target<T>(c, y);
    const auto fft = transforms.of(length);
    const int64_t inner = shape.product(axis + 1, rank - 1);
    for_lines(c, *fft, shape.product(0, axis) * inner,
              [&](int64_t line, std::complex<U>* values, std::complex<U>* scratch) {
                const int64_t outer = line / inner, at = line % inner;
                read(from + (outer * shape[axis] * inner + at) * shape.back(), shape[axis],
                     inner * shape.back(), shape.back() == 2, length, values);
                fft->transform(values, scratch);
                write(values, length, to + (outer * y_shape[axis] * inner + at) * y_shape.back(),
                      y_shape[axis], inner * y_shape.back());
              });
    store_work(c, to, y);
  }

  void prepare(const NodeSpec& node, int64_t length) {
    if (inverse_ && node.dtype() != DType::float64) {
      single_.prepare(length);
    } else {
      transforms_.prepare(length);
    }
  }
  int64_t default_length(int64_t size) const {
    return inverse_ && onesided_ ? 2 * (size - 1) : size;
  }

  // A line of `size` elements, cut or filled up with zeros; conjugated for the inverse.
  template <class T, class U>
  void read(const T* from, int64_t size, int64_t stride, bool is_complex, int64_t length,
            std::complex<U>* values) const {
    const bool half = inverse_ && onesided_;
    const int64_t needed = half ? length / 2 + 1 : length;
    for (int64_t i = 0; i < needed; ++i) {
      if (i >= size) {
        values[i] = {};
        continue;
      }
      const U imaginary = is_complex ? static_cast<U>(from[i * stride + 1]) : U{0};
      values[i] = {static_cast<U>(from[i * stride]), inverse_ ? -imaginary : imaginary};
    }
    if (!half) return;
    // The other half is the conjugate; what is its own conjugate has no imaginary part.
    values[0].imag(0);
    if (length % 2 == 0) values[length / 2].imag(0);
    for (int64_t i = needed; i < length; ++i) values[i] = std::conj(values[length - i]);
  }

  template <class T, class U>
  void write(const std::complex<U>* values, int64_t length, T* to, int64_t count,
             int64_t stride) const {
    const U scale = inverse_ ? U{1} / static_cast<U>(length) : U{1};
    const bool real = inverse_ && onesided_;
    for (int64_t i = 0; i < count; ++i) {
      to[i * stride] = static_cast<T>(values[i].real() * scale);
      const U imaginary = inverse_ ? -values[i].imag() * scale : values[i].imag();
      if (!real) to[i * stride + 1] = static_cast<T>(imaginary);
    }
  }

  bool inverse_;
  bool onesided_;
  Transforms<double> transforms_;
  Transforms<float> single_;
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
    transforms_.prepare(length);
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
      const auto fft = transforms_.of(length);
      for_lines(c, *fft, shape[0] * frames,
                [&](int64_t line, std::complex<double>* values, std::complex<double>* scratch) {
                  const int64_t parts = shape[2];
                  const T* from = x + (line / frames * shape[1] + line % frames * step) * parts;
                  for (int64_t i = 0; i < length; ++i) {
                    const double weight = window != nullptr ? static_cast<double>(window[i]) : 1.0;
                    const double imaginary =
                        parts == 2 ? static_cast<double>(from[i * parts + 1]) : 0.0;
                    values[i] = {static_cast<double>(from[i * parts]) * weight, imaginary * weight};
                  }
                  fft->transform(values, scratch);
                  T* out = to + line * bins * 2;
                  for (int64_t i = 0; i < bins; ++i) {
                    out[2 * i] = static_cast<T>(values[i].real());
                    out[2 * i + 1] = static_cast<T>(values[i].imag());
                  }
                });
      store_work(c, to, y);
    });
  }

 private:
  bool onesided_;
  Transforms<double> transforms_;
};
BASCULE_KERNEL("STFT", Stft);

}  // namespace
}  // namespace bascule
