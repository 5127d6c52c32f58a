// SPDX-License-Identifier: Apache-2.0
// Resize: nearest copies elements; linear and cubic interpolation run axis by axis, those that
// shrink most first. Floats of 32 bits and less, and integers of 8 bits, are interpolated as
// float32, the wider types as float64.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <string>

#include "kernels/interpolated.h"
#include "kernels/resize/resize_rows.h"
#include "kernels/resize/taps.h"
#include "runtime/kernel.h"

namespace bascule {
namespace {

// Whether sizes keep the quotient of the axes.
enum class Aspect : uint8_t { stretch, not_larger, not_smaller };

struct AxisList {
  std::array<ResizedAxis, Shape::max_rank> items;
  int count = 0;

  void add(const ResizedAxis& axis) { items[static_cast<size_t>(count++)] = axis; }
  ResizedAxis* begin() { return items.data(); }
  ResizedAxis* end() { return items.data() + count; }
  const ResizedAxis* begin() const { return items.data(); }
  const ResizedAxis* end() const { return items.data() + count; }
};

// One axis of x, which has this shape, into y.
template <class T>
void resize_axis(RunContext& c, const Sampling& sampling, T extrapolation, const ResizedAxis& axis,
                 const Shape& shape, const T* x, T* y) {
  const Taps<T> taps = make_taps<T>(c, sampling, axis);
  const ResizeFunctions<T>& loops = resize_functions<T>();
  const int64_t outer = shape.product(0, axis.axis);
  const int64_t inner = shape.product(axis.axis + 1, shape.rank());
  const double cost = static_cast<double>(taps.count) / 4;
  // Not for every element: outputs to extrapolate have no taps.
  const bool extrapolates = std::any_of(taps.indices, taps.indices + axis.output,
                                        [](int32_t index) { return index < 0; });
  if (inner == 1 && !extrapolates) {
    c.parallel_for(outer, cost * static_cast<double>(axis.output), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        loops.blend_row(x + i * axis.input, taps.indices, taps.weights, taps.count, axis.output,
                        y + i * axis.output);
      }
    });
    return;
  }
  c.parallel_for(
      outer * axis.output, cost * static_cast<double>(inner), [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          const int64_t o = i % axis.output;
          if (taps.indices[o] < 0) {
            std::fill_n(y + i * inner, inner, extrapolation);
          } else {
            loops.blend_runs(x + i / axis.output * axis.input * inner, inner, taps.indices + o,
                             taps.weights + o, axis.output, taps.count, inner, y + i * inner);
          }
        }
      });
}

template <class S>
void interpolate(RunContext& c, const Sampling& sampling, double extrapolation, AxisList axes,
                 const Tensor& x, Tensor& y) {
  using Element = Interpolated<S>;
  using T = typename Element::Work;
  // Shrink first; of equal axes the last one first, since the passes over runs are the faster.
  std::stable_sort(axes.begin(), axes.end(), [](const ResizedAxis& a, const ResizedAxis& b) {
    const double left = static_cast<double>(a.output) / static_cast<double>(a.input);
    const double right = static_cast<double>(b.output) / static_cast<double>(b.input);
    return left != right ? left < right : a.axis > b.axis;
  });
  const S outside = Element::from(extrapolation);
  const T* results[Element::parts];
  for (int part = 0; part < Element::parts; ++part) {
    const T* from;
    if constexpr (std::is_same_v<S, T>) {
      from = x.data<T>();
    } else {
      T* wide = c.workspace<T>(x.size());
      for (int64_t i = 0; i < x.size(); ++i) wide[i] = Element::part(x.data<S>()[i], part);
      from = wide;
    }
    Shape shape = x.shape();
    for (const ResizedAxis& axis : axes) {
      Shape next = shape;
      next[axis.axis] = axis.output;
      const bool last = &axis == axes.end() - 1;
      T* to = last && std::is_same_v<S, T> ? y.data<T>() : c.workspace<T>(next.size());
      resize_axis(c, sampling, Element::part(outside, part), axis, shape, from, to);
      from = to;
      shape = next;
    }
    results[part] = from;
  }
  if constexpr (!std::is_same_v<S, T>) {
    for (int64_t i = 0; i < y.size(); ++i) {
      T parts[Element::parts];
      for (int part = 0; part < Element::parts; ++part) parts[part] = results[part][i];
      y.data<S>()[i] = Element::join(parts);
    }
  }
}

// `count` runs of `bytes` bytes from x + indices[i] * bytes.
template <size_t bytes>
void gather_runs(const std::byte* x, const int32_t* indices, int64_t count, std::byte* y) {
  for (int64_t i = 0; i < count; ++i) {
    std::memcpy(y + i * static_cast<int64_t>(bytes), x + indices[i] * static_cast<int64_t>(bytes),
                bytes);
  }
}

// Copies elements, whatever they are. `fill` is one element, for what is outside.
void copy_nearest(RunContext& c, const Sampling& sampling, const AxisList& axes, const Tensor& x,
                  Tensor& y, const std::byte* fill) {
  const int rank = x.rank();
  std::array<const int32_t*, Shape::max_rank> tables{};
  int last = 0;
  bool extrapolates = false;
  for (const ResizedAxis& axis : axes) {
    int32_t* indices = c.workspace<int32_t>(axis.output);
    fill_taps(sampling, axis, indices, nullptr);
    extrapolates |=
        std::any_of(indices, indices + axis.output, [](int32_t index) { return index < 0; });
    tables[static_cast<size_t>(axis.axis)] = indices;
    last = std::max(last, axis.axis);
  }
  // A row: all of the last resized axis, in runs of what lies behind it.
  const int64_t item = item_size(x.dtype());
  const int64_t run = x.shape().product(last + 1, rank) * item;
  const int64_t row = y.dim(last);
  const int64_t rows = y.shape().product(0, last);
  const int32_t* along = tables[static_cast<size_t>(last)];
  const auto fill_run = [&](std::byte* to, int64_t bytes) {
    for (int64_t i = 0; i < bytes; i += item) std::memcpy(to + i, fill, static_cast<size_t>(item));
  };
  c.parallel_for(rows, static_cast<double>(row * run) / 8, [&](int64_t begin, int64_t end) {
    int64_t previous = -2;
    for (int64_t r = begin; r < end; ++r) {
      // The source row, -1 when it is outside.
      int64_t from = 0;
      int64_t stride = 1;
      int64_t rest = r;
      for (int axis = last - 1; axis >= 0; --axis) {
        int64_t i = rest % y.dim(axis);
        rest /= y.dim(axis);
        if (tables[static_cast<size_t>(axis)] != nullptr) i = tables[static_cast<size_t>(axis)][i];
        from = i < 0 || from < 0 ? -1 : from + i * stride;
        stride *= x.dim(axis);
      }
      std::byte* to = y.raw() + r * row * run;
      if (from == previous) {
        std::memcpy(to, to - row * run, static_cast<size_t>(row * run));
        continue;
      }
      previous = from;
      if (from < 0) {
        fill_run(to, row * run);
        continue;
      }
      const std::byte* source = x.raw() + from * x.dim(last) * run;
      if (extrapolates) {
        for (int64_t i = 0; i < row; ++i) {
          if (along[i] < 0) {
            fill_run(to + i * run, run);
          } else {
            std::memcpy(to + i * run, source + along[i] * run, static_cast<size_t>(run));
          }
        }
      } else if (run == 1) {
        gather_runs<1>(source, along, row, to);
      } else if (run == 2) {
        gather_runs<2>(source, along, row, to);
      } else if (run == 4) {
        gather_runs<4>(source, along, row, to);
      } else if (run == 8) {
        gather_runs<8>(source, along, row, to);
      } else {
        for (int64_t i = 0; i < row; ++i) {
          std::memcpy(to + i * run, source + along[i] * run, static_cast<size_t>(run));
        }
      }
    }
  });
}

// Strings are copied by their numbers. What is outside stays empty.
void copy_nearest_strings(RunContext& c, const Sampling& sampling, const AxisList& axes,
                          const Tensor& x, Tensor& y) {
  Tensor numbers(DType::int64, x.shape(), c.workspace<int64_t>(x.size()));
  Tensor chosen(DType::int64, y.shape(), c.workspace<int64_t>(y.size()));
  std::iota(numbers.data<int64_t>(), numbers.data<int64_t>() + x.size(), int64_t{0});
  const int64_t nothing = -1;
  copy_nearest(c, sampling, axes, numbers, chosen, reinterpret_cast<const std::byte*>(&nothing));
  for (int64_t i = 0; i < y.size(); ++i) {
    const int64_t number = chosen.data<int64_t>()[i];
    if (number >= 0) y.data<std::string>()[i] = x.data<std::string>()[number];
  }
}

class Resize final : public Kernel {
 public:
  static Capability capability(const NodeSpec& node) {
    const bool is_nearest = node.get_string("mode", "nearest") == "nearest";
    if (is_nearest && node.dtype() == DType::string) return accept;
    return require_dtype(node, 0, InterpolatedTypes{});
  }

  explicit Resize(const NodeSpec& node)
      : sampling_(node),
        extrapolation_(static_cast<double>(node.get_float("extrapolation_value", 0))),
        has_axes_(node.has("axes")),
        axes_(node.get_ints("axes")) {
    const std::string aspect = node.get_string("keep_aspect_ratio_policy", "stretch");
    if (aspect == "not_larger") {
      aspect_ = Aspect::not_larger;
    } else if (aspect == "not_smaller") {
      aspect_ = Aspect::not_smaller;
    } else if (aspect != "stretch") {
      invalid("attribute 'keep_aspect_ratio_policy' is '" + aspect + "'");
    }
  }

  void run(RunContext& c) const override {
    const Tensor& x = c.input(0);
    Shape shape = x.shape();
    AxisList axes;
    for (const ResizedAxis& axis : find_axes(c, x)) {
      if (axis.input == 0 && axis.output > 0) {
        fail("axis " + std::to_string(axis.axis) + " is empty and cannot be resized to " +
             std::to_string(axis.output));
      }
      if (axis.input > std::numeric_limits<int32_t>::max()) {
        fail("axis " + std::to_string(axis.axis) + " is longer than 2^31");
      }
      shape[axis.axis] = axis.output;
      if (!axis.is_identity(sampling_)) axes.add(axis);
    }
    if (axes.count == 0) {
      c.alias_output(0, x, shape);
      return;
    }
    Tensor& y = c.output(0, x.dtype(), shape);
    if (y.size() == 0) return;
    if (sampling_.mode == ResizeMode::nearest) {
      if (x.dtype() == DType::string) return copy_nearest_strings(c, sampling_, axes, x, y);
      std::byte fill[16] = {};
      visit(InterpolatedTypes{}, x.dtype(), [&](auto tag) {
        using S = typename decltype(tag)::type;
        const S value = Interpolated<S>::from(extrapolation_);
        std::memcpy(fill, &value, sizeof(value));
      });
      copy_nearest(c, sampling_, axes, x, y, fill);
      return;
    }
    visit(InterpolatedTypes{}, x.dtype(), [&](auto tag) {
      interpolate<typename decltype(tag)::type>(c, sampling_, extrapolation_, axes, x, y);
    });
  }

 private:
  AxisList find_axes(RunContext& c, const Tensor& x) const {
    AxisList axes;
    const int count = has_axes_ ? static_cast<int>(axes_.size()) : x.rank();
    uint32_t seen = 0;
    for (int i = 0; i < count; ++i) {
      const int axis = has_axes_ ? x.shape().axis(axes_[static_cast<size_t>(i)]) : i;
      if ((seen & (1u << axis)) != 0) {
        invalid("attribute 'axes' names axis " + std::to_string(axis) + " twice");
      }
      seen |= 1u << axis;
      axes.add({axis, x.dim(axis), x.dim(axis)});
    }
    const bool has_scales = c.has_input(2) && c.input(2).size() > 0;
    const bool has_sizes = c.has_input(3) && c.input(3).size() > 0;
    if (has_scales == has_sizes && count > 0) fail("expected either scales or sizes");
    const Tensor* given = has_scales ? &c.input(2) : has_sizes ? &c.input(3) : nullptr;
    if (given != nullptr && given->size() != count) {
      fail(std::string(has_scales ? "scales" : "sizes") + " has " + std::to_string(given->size()) +
           " elements, expected " + std::to_string(count));
    }
    if (has_scales) use_scales(*given, axes);
    if (has_sizes) use_sizes(*given, axes);
    if (sampling_.coordinates == Coordinates::tf_crop_and_resize) use_region(c, axes);
    return axes;
  }

  static void use_scales(const Tensor& scales, AxisList& axes) {
    const float* scale = scales.data<float>();
    for (ResizedAxis& axis : axes) {
      // Lengths are float32 products, as in other runtimes: 10 * 0.7f is 7.
      const float output = *scale * static_cast<float>(axis.input);
      if (!(*scale > 0 && output <= 1e12f)) {
        invalid("the scale of axis " + std::to_string(axis.axis) + " is " + std::to_string(*scale));
      }
      if (*scale != 1) axis.output = static_cast<int64_t>(output);
      axis.numerator = static_cast<double>(*scale++);
      axis.is_given = true;
    }
  }

  void use_sizes(const Tensor& sizes, AxisList& axes) const {
    const int64_t* size = sizes.data<int64_t>();
    for (ResizedAxis& axis : axes) {
      axis.output = *size++;
      if (axis.output < 0) {
        invalid("the size of axis " + std::to_string(axis.axis) + " is " +
                std::to_string(axis.output));
      }
      axis.numerator = static_cast<double>(axis.output);
      axis.denominator = static_cast<double>(std::max<int64_t>(axis.input, 1));
    }
    if (aspect_ == Aspect::stretch || axes.count == 0) return;
    const auto [least, largest] = std::minmax_element(
        axes.begin(), axes.end(),
        [](const ResizedAxis& a, const ResizedAxis& b) { return a.scale() < b.scale(); });
    const ResizedAxis leading = aspect_ == Aspect::not_larger ? *least : *largest;
    for (ResizedAxis& axis : axes) {
      axis.numerator = leading.numerator;
      axis.denominator = leading.denominator;
      const double output = axis.numerator * static_cast<double>(axis.input) / axis.denominator;
      axis.output = static_cast<int64_t>(output + 0.5);
    }
  }

  static void use_region(RunContext& c, AxisList& axes) {
    const Tensor& region = c.input(1);
    if (region.size() != 2 * axes.count) {
      fail("roi has " + std::to_string(region.size()) + " elements, expected " +
           std::to_string(2 * axes.count));
    }
    visit(FloatTypes{}, region.dtype(), [&](auto tag) {
      using S = typename decltype(tag)::type;
      const S* value = region.data<S>();
      const auto at = [&](int i) { return static_cast<double>(static_cast<Compute<S>>(value[i])); };
      for (int i = 0; i < axes.count; ++i) {
        ResizedAxis& axis = axes.items[static_cast<size_t>(i)];
        axis.region_begin = at(i);
        axis.region_end = at(i + axes.count);
      }
    });
  }

  Sampling sampling_;
  double extrapolation_;
  bool has_axes_;
  std::vector<int64_t> axes_;
  Aspect aspect_ = Aspect::stretch;
};
BASCULE_KERNEL("Resize", Resize);

}  // namespace
}  // namespace bascule
