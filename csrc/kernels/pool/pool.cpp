// SPDX-License-Identifier: Apache-2.0
// MaxPool, AveragePool and LpPool, channels first or (domain `bascule`) last. Maxima and averages
// of float32 and of 16-bit floats, and maxima of bytes, run on vector loops, the rest element by
// element.
#include <cmath>
#include <limits>

#include "kernels/pool/geometry.h"
#include "kernels/pool/pool_rows.h"
#include "kernels/work_view.h"
#include "runtime/kernel.h"

namespace bascule {
namespace {

// Where the elements are. A plane is what the windows move over; elements of neighbouring positions
// are `step` apart. Channels first: [N * C planes], step 1; channels last: step C.
struct Layout {
  int64_t batch;
  int64_t channels;
  bool channels_last;
  WindowAxes axes;
  Shape output;

  int64_t inputs() const { return axes[0].input * axes[1].input * axes[2].input; }
  int64_t outputs() const { return axes[0].output * axes[1].output * axes[2].output; }
  int64_t taps() const { return axes[0].kernel * axes[1].kernel * axes[2].kernel; }
};

Layout make_layout(const PoolAttributes& attributes, const Shape& shape, bool channels_last) {
  if (shape.rank() < 3) fail("the input has shape " + shape.text() + ", expected 3 axes or more");
  const int rank = shape.rank() - 2;
  const int first = channels_last ? 1 : 2;
  Layout layout;
  layout.batch = shape[0];
  layout.channels = shape[channels_last ? shape.rank() - 1 : 1];
  layout.channels_last = channels_last;
  layout.axes = attributes.axes(shape.begin() + first, rank);
  layout.output = shape;
  for (int i = 0; i < rank; ++i) {
    layout.output[first + i] = layout.axes[static_cast<size_t>(max_spatial - rank + i)].output;
  }
  return layout;
}

// The taps of one window that are inside the input. Offsets count positions, not elements.
struct Window {
  WindowAxis::Range range[3];
  int64_t offset;  // of the first tap
  int64_t steps[3];

  Window(const WindowAxes& axes, int64_t o0, int64_t o1, int64_t o2)
      : range{axes[0].window(o0), axes[1].window(o1), axes[2].window(o2)},
        offset((range[0].start * axes[1].input + range[1].start) * axes[2].input + range[2].start),
        steps{axes[0].dilation * axes[1].input * axes[2].input, axes[1].dilation * axes[2].input,
              axes[2].dilation} {}

  // To position o along the last axis.
  void move(const WindowAxis& axis, int64_t o) {
    offset -= range[2].start;
    range[2] = axis.window(o);
    offset += range[2].start;
  }

  int64_t count(bool padded) const {
    if (padded) return range[0].padded * range[1].padded * range[2].padded;
    return range[0].count * range[1].count * range[2].count;
  }

  // body(offset of the tap) in memory order.
  template <class Body>
  void for_taps(Body&& body) const {
    for (int64_t i = 0; i < range[0].count; ++i) {
      for (int64_t j = 0; j < range[1].count; ++j) {
        const int64_t from = offset + i * steps[0] + j * steps[1];
        for (int64_t k = 0; k < range[2].count; ++k) body(from + k * steps[2]);
      }
    }
  }
};

// fold(x, step, window, index of the output) for every output element.
template <class T, class Fold>
void for_windows(RunContext& c, const Layout& layout, const T* x, Fold&& fold) {
  const WindowAxes& axes = layout.axes;
  const int64_t planes = layout.batch * layout.channels;
  const int64_t step = layout.channels_last ? layout.channels : 1;
  const double cost = static_cast<double>(layout.outputs() * layout.taps());
  c.parallel_for(planes, cost, [&](int64_t begin, int64_t end) {
    for (int64_t plane = begin; plane < end; ++plane) {
      const int64_t image = plane / layout.channels;
      const int64_t channel = plane % layout.channels;
      const int64_t base = layout.channels_last
                               ? image * layout.inputs() * layout.channels + channel
                               : plane * layout.inputs();
      int64_t at = layout.channels_last ? image * layout.outputs() * layout.channels + channel
                                        : plane * layout.outputs();
      for (int64_t o0 = 0; o0 < axes[0].output; ++o0) {
        for (int64_t o1 = 0; o1 < axes[1].output; ++o1) {
          for (int64_t o2 = 0; o2 < axes[2].output; ++o2, at += step) {
            fold(x + base, step, Window(axes, o0, o1, o2), at, plane);
          }
        }
      }
    }
  });
}

// Channels first: row by row. `counts` is null for a maximum.
template <class T>
void run_rows(RunContext& c, const Layout& layout, void (*fold)(const PoolRow<T>&), const T* x,
              T* y, const float* counts, bool count_padded) {
  const WindowAxes& axes = layout.axes;
  const WindowAxis& width = axes[2];
  PoolRow<T> shape{};
  shape.steps[0] = axes[0].dilation * axes[1].input * width.input;
  shape.steps[1] = axes[1].dilation * width.input;
  shape.input = width.input;
  shape.output = width.output;
  shape.kernel = width.kernel;
  shape.stride = width.stride;
  shape.dilation = width.dilation;
  shape.pad = width.pad_begin;
  shape.counts = counts;

  const int64_t rows = axes[0].output * axes[1].output;
  const int64_t total = layout.batch * layout.channels * rows;
  const int64_t parts = std::min<int64_t>(c.threads(), total);
  const int64_t buffer_size = pool_row_buffer(shape);
  T* buffers = c.workspace<T>(parts * buffer_size);
  const auto run_row = [&](int64_t i, PoolRow<T> row) {
    const int64_t plane = i / rows;
    const WindowAxis::Range depth = axes[0].window(i % rows / axes[1].output);
    const WindowAxis::Range height = axes[1].window(i % axes[1].output);
    row.x =
        x + plane * layout.inputs() + (depth.start * axes[1].input + height.start) * width.input;
    row.rows[0] = depth.count;
    row.rows[1] = height.count;
    row.row_count = static_cast<float>(count_padded ? depth.padded * height.padded
                                                    : depth.count * height.count);
    row.y = y + i * width.output;
    fold(row);
  };
  const double taps = static_cast<double>(axes[0].kernel * axes[1].kernel + width.kernel);
  const double cost = static_cast<double>(width.input + width.output) * taps / 8;
  c.parallel_for(parts, cost * static_cast<double>(total) / static_cast<double>(parts),
                 [&](int64_t begin, int64_t end) {
                   for (int64_t part = begin; part < end; ++part) {
                     PoolRow<T> row = shape;
                     row.buffer = buffers + part * buffer_size;
                     for (int64_t i = total * part / parts; i < total * (part + 1) / parts; ++i) {
                       run_row(i, row);
                     }
                   }
                 });
}

template <class T>
void max_rows(RunContext& c, const Layout& layout, const T* x, T* y) {
  const PoolFunctions& functions = pool_functions();
  if constexpr (std::is_same_v<T, float>) {
    run_rows(c, layout, functions.max_row, x, y, nullptr, false);
  } else if constexpr (std::is_same_v<T, uint8_t>) {
    run_rows(c, layout, functions.max_row_u8, x, y, nullptr, false);
  } else {
    run_rows(c, layout, functions.max_row_s8, x, y, nullptr, false);
  }
}

void average_rows(RunContext& c, const Layout& layout, const float* x, float* y,
                  bool count_padded) {
  const WindowAxis& width = layout.axes[2];
  float* counts = c.workspace<float>(width.output);
  for (int64_t o = 0; o < width.output; ++o) {
    const WindowAxis::Range range = width.window(o);
    counts[o] = static_cast<float>(count_padded ? range.padded : range.count);
  }
  run_rows(c, layout, pool_functions().average_row, x, y, counts, count_padded);
}

// Channels last: position by position.
template <class T>
void run_pixels(RunContext& c, const Layout& layout, void (*fold)(const PoolPixel<T>&), const T* x,
                T* y, bool count_padded) {
  const WindowAxes& axes = layout.axes;
  const int64_t rows = axes[0].output * axes[1].output;
  const double cost = static_cast<double>(axes[2].output * layout.taps() * layout.channels) / 8;
  c.parallel_for(layout.batch * rows, cost, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const T* image = x + i / rows * layout.inputs() * layout.channels;
      Window window(axes, i % rows / axes[1].output, i % axes[1].output, 0);
      PoolPixel<T> pixel;
      for (int axis = 0; axis < 3; ++axis) {
        pixel.taps[axis] = window.range[axis].count;
        pixel.steps[axis] = window.steps[axis] * layout.channels;
      }
      pixel.channels = layout.channels;
      for (int64_t o = 0; o < axes[2].output; ++o) {
        window.move(axes[2], o);
        pixel.x = image + window.offset * layout.channels;
        pixel.taps[2] = window.range[2].count;
        pixel.count = static_cast<float>(window.count(count_padded));
        pixel.y = y + (i * axes[2].output + o) * layout.channels;
        fold(pixel);
      }
    }
  });
}

template <class T>
void max_pixels(RunContext& c, const Layout& layout, const T* x, T* y) {
  const PoolFunctions& functions = pool_functions();
  if constexpr (std::is_same_v<T, float>) {
    run_pixels(c, layout, functions.max_pixel, x, y, false);
  } else if constexpr (std::is_same_v<T, uint8_t>) {
    run_pixels(c, layout, functions.max_pixel_u8, x, y, false);
  } else {
    run_pixels(c, layout, functions.max_pixel_s8, x, y, false);
  }
}

class Pool : public Kernel {
 public:
  explicit Pool(const NodeSpec& node)
      : attributes_(node), channels_last_(node.get_int("channels_last", 0) != 0) {}

 protected:
  PoolAttributes attributes_;
  bool channels_last_;
};

using MaxTypes = Types<float, double, Float16, BFloat16, int8_t, uint8_t>;

class MaxPool final : public Pool {
 public:
  static Capability capability(const NodeSpec& node) { return require_dtype(node, 0, MaxTypes{}); }

  explicit MaxPool(const NodeSpec& node)
      : Pool(node), column_major_(node.get_int("storage_order", 0) != 0) {}

  void run(RunContext& c) const override {
    const Tensor& x = c.input(0);
    const Layout layout = make_layout(attributes_, x.shape(), channels_last_);
    Tensor& y = c.output(0, x.dtype(), layout.output);
    int64_t* indices = nullptr;
    if (c.wants_output(1)) indices = c.output(1, DType::int64, layout.output).data<int64_t>();
    if (y.size() == 0) return;
    if (indices == nullptr && run_vectors(c, layout, x, y)) return;
    visit(MaxTypes{}, x.dtype(), [&](auto tag) {
      using T = typename decltype(tag)::type;
      run_typed<T>(c, layout, x.data<T>(), y.data<T>(), indices);
    });
  }

 private:
  // Whether there is a vector loop for it.
  bool run_vectors(RunContext& c, const Layout& layout, const Tensor& x, Tensor& y) const {
    if (is_half(x.dtype())) {
      float* to = work_target<float>(c, y);
      (channels_last_ ? max_pixels<float> : max_rows<float>)(c, layout, work_view<float>(c, x), to);
      store_work(c, to, y);
      return true;
    }
    return visit(Types<float, uint8_t, int8_t>{}, x.dtype(), [&](auto tag) {
      using T = typename decltype(tag)::type;
      (channels_last_ ? max_pixels<T> : max_rows<T>)(c, layout, x.data<T>(), y.data<T>());
    });
  }

  template <class T>
  void run_typed(RunContext& c, const Layout& layout, const T* x, T* y, int64_t* indices) const {
    using U = Compute<T>;
    for_windows(c, layout, x,
                [&](const T* from, int64_t step, const Window& window, int64_t at, int64_t plane) {
                  U best = std::numeric_limits<U>::has_infinity
                               ? -std::numeric_limits<U>::infinity()
                               : std::numeric_limits<U>::lowest();
                  int64_t place = -1;
                  window.for_taps([&](int64_t offset) {
                    const U value = static_cast<U>(from[offset * step]);
                    if (value > best || value != value || place < 0) {
                      best = value;
                      place = offset;
                    }
                  });
                  y[at] = static_cast<T>(best);
                  if (indices != nullptr) indices[at] = index(layout, plane, place);
                });
  }

  // Of a position in the whole input, in the order that the operator asks for; -1 for none.
  int64_t index(const Layout& layout, int64_t plane, int64_t place) const {
    if (place < 0) return -1;
    const WindowAxes& axes = layout.axes;
    if (column_major_) {
      const int64_t i2 = place % axes[2].input;
      const int64_t i1 = place / axes[2].input % axes[1].input;
      const int64_t i0 = place / axes[2].input / axes[1].input;
      place = (i2 * axes[1].input + i1) * axes[0].input + i0;
    }
    return plane * layout.inputs() + place;
  }

  bool column_major_;
};
BASCULE_KERNEL("MaxPool", MaxPool);
BASCULE_KERNEL_IN("bascule", "MaxPool", MaxPool);

class AveragePool final : public Pool {
 public:
  static Capability capability(const NodeSpec& node) {
    return require_dtype(node, 0, FloatTypes{});
  }

  explicit AveragePool(const NodeSpec& node)
      : Pool(node), count_padded_(node.get_int("count_include_pad", 0) != 0) {}

  void run(RunContext& c) const override {
    const Tensor& x = c.input(0);
    const Layout layout = make_layout(attributes_, x.shape(), channels_last_);
    Tensor& y = c.output(0, x.dtype(), layout.output);
    if (y.size() == 0) return;
    if (x.dtype() == DType::float64) {
      auto* to = y.data<double>();
      for_windows(c, layout, x.data<double>(),
                  [&](const double* from, int64_t step, const Window& window, int64_t at, int64_t) {
                    double sum = 0;
                    window.for_taps([&](int64_t offset) { sum += from[offset * step]; });
                    to[at] = sum / static_cast<double>(window.count(count_padded_));
                  });
      return;
    }
    const float* from = work_view<float>(c, x);
    float* to = work_target<float>(c, y);
    if (channels_last_) {
      run_pixels(c, layout, pool_functions().average_pixel, from, to, count_padded_);
    } else {
      average_rows(c, layout, from, to, count_padded_);
    }
    store_work(c, to, y);
  }

 private:
  bool count_padded_;
};
BASCULE_KERNEL("AveragePool", AveragePool);
BASCULE_KERNEL_IN("bascule", "AveragePool", AveragePool);

// (sum |x|^p)^(1/p)
class LpPool final : public Pool {
 public:
  static Capability capability(const NodeSpec& node) {
    return require_dtype(node, 0, FloatTypes{});
  }

  explicit LpPool(const NodeSpec& node)
      : Pool(node), p_(static_cast<double>(node.get_int("p", 2))) {}

  void run(RunContext& c) const override {
    const Tensor& x = c.input(0);
    const Layout layout = make_layout(attributes_, x.shape(), channels_last_);
    Tensor& y = c.output(0, x.dtype(), layout.output);
    if (y.size() == 0) return;
    visit(FloatTypes{}, x.dtype(), [&](auto tag) {
      using T = typename decltype(tag)::type;
      T* to = y.data<T>();
      for_windows(c, layout, x.data<T>(),
                  [&](const T* from, int64_t step, const Window& window, int64_t at, int64_t) {
                    double sum = 0;
                    window.for_taps([&](int64_t offset) {
                      sum += std::pow(std::abs(static_cast<double>(from[offset * step])), p_);
                    });
                    to[at] = static_cast<T>(static_cast<Compute<T>>(std::pow(sum, 1 / p_)));
                  });
    });
  }

 private:
  double p_;
};
BASCULE_KERNEL("LpPool", LpPool);

}  // namespace
}  // namespace bascule
