// SPDX-License-Identifier: Apache-2.0
// MaxUnpool and Col2Im: elements put back where a pooling or a window took them from.
#include <algorithm>
#include <complex>
#include <string>

#include "kernels/move/int_list.h"
#include "kernels/move/strided_copy.h"
#include "kernels/wrapping.h"
#include "runtime/kernel.h"

namespace bascule {
namespace {

// A list attribute of `count` numbers, all `fallback` when absent.
std::vector<int64_t> numbers(const NodeSpec& node, const char* name, size_t count,
                             int64_t fallback) {
  std::vector<int64_t> result = node.get_ints(name, std::vector<int64_t>(count, fallback));
  if (result.size() != count) {
    invalid(std::string(name) + " must have " + std::to_string(count) + " numbers");
  }
  return result;
}

struct MaxUnpool final : Kernel {
  static Capability capability(const NodeSpec& node) {
    return require_dtype(node, 0, FloatTypes{});
  }
  explicit MaxUnpool(const NodeSpec& node)
      : kernel(node.get_ints("kernel_shape")),
        strides(numbers(node, "strides", kernel.size(), 1)),
        pads(numbers(node, "pads", 2 * kernel.size(), 0)) {
    for (const auto* list : {&kernel, &strides, &pads}) {
      for (const int64_t n : *list) {
        if (n < 0 || n > (int64_t{1} << 30))
          invalid("MaxUnpool: " + std::to_string(n) + " is out of range");
      }
    }
  }
  void run(RunContext& c) const override {
    const Tensor& x = c.input(0);
    const Tensor& indices = c.input(1);
    const auto axes = static_cast<int>(kernel.size());
    if (x.rank() != axes + 2 || !(indices.shape() == x.shape()) ||
        indices.dtype() != DType::int64) {
      invalid("indices of shape " + indices.shape().text() + " do not fit an input of shape " +
              x.shape().text());
    }
    // Indices count in this shape; a larger one may be asked for.
    Shape pooled = x.shape();
    for (int i = 0; i < axes; ++i) {
      const auto k = static_cast<size_t>(i);
      pooled[i + 2] = checked_size(
          (x.dim(i + 2) - 1) * strides[k] + kernel[k] - pads[k] - pads[k + kernel.size()],
          "MaxUnpool: a size");
    }
    const Shape shape = c.has_input(2) ? int_list(c.input(2)) : pooled;
    bool fits = shape.rank() == pooled.rank();
    for (int i = 0; fits && i < shape.rank(); ++i) fits = shape[i] >= pooled[i];
    if (!fits) {
      invalid("output_shape " + shape.text() + " is smaller than " + pooled.text());
    }
    const int64_t size = pooled.size();
    for (const int64_t index : indices.elements<int64_t>()) {
      if (index < 0 || index >= size) {
        invalid("index " + std::to_string(index) + " is not in [0, " + std::to_string(size) + ")");
      }
    }
    const Shape strides_out = shape.strides();
    Tensor& y = c.output(0, x.dtype(), shape);
    visit_size(x.dtype(), [&](auto tag) {
      using T = typename decltype(tag)::type;
      if constexpr (!std::is_same_v<T, std::string>) {
        std::fill_n(y.data<T>(), y.size(), T{});
        const int64_t* index = indices.data<int64_t>();
        if (shape == pooled) {
          for (int64_t i = 0; i < x.size(); ++i) y.data<T>()[index[i]] = x.data<T>()[i];
          return;
        }
        for (int64_t i = 0; i < x.size(); ++i) {
          int64_t rest = index[i], offset = 0;
          for (int axis = shape.rank() - 1; axis >= 0; --axis) {
            offset += rest % pooled[axis] * strides_out[axis];
            rest /= pooled[axis];
          }
          y.data<T>()[offset] = x.data<T>()[i];
        }
      }
    });
  }
  std::vector<int64_t> kernel, strides, pads;
};
BASCULE_KERNEL("MaxUnpool", MaxUnpool);

// Input: [batch, channels * block elements, windows]. Windows overlap: their elements are summed,
// strings one behind the other.
struct Col2Im final : Kernel {
  using Supported =
      Types<float, double, Float16, BFloat16, int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t,
            uint32_t, uint64_t, bool, std::complex<float>, std::complex<double>, std::string>;
  static Capability capability(const NodeSpec& node) { return require_dtype(node, 0, Supported{}); }
  explicit Col2Im(const NodeSpec& node)
      : strides(node.get_ints("strides")),
        pads(node.get_ints("pads")),
        dilations(node.get_ints("dilations")) {}
  void run(RunContext& c) const override {
    const Tensor& x = c.input(0);
    const Layout layout = layout_of(x.shape(), int_list(c.input(1)), int_list(c.input(2)));
    const int64_t pixels = layout.image.size();
    Shape shape{x.dim(0), layout.channels};
    for (const int64_t size : layout.image) shape.push_back(size);
    visit(Supported{}, x.dtype(), [&](auto tag) {
      using T = typename decltype(tag)::type;
      T* y = c.output(0, x.dtype(), shape).template data<T>();
      Compute<T>* sums;
      if constexpr (NarrowFloat<T>) {
        sums = c.workspace<float>(shape.size());
      } else {
        sums = y;
      }
      const int64_t each = layout.elements * layout.windows;
      c.parallel_for(x.dim(0) * layout.channels, static_cast<double>(each) * 4,
                     [&](int64_t begin, int64_t end) {
                       for (int64_t i = begin; i < end; ++i) {
                         std::fill_n(sums + i * pixels, pixels, Compute<T>{});
                         add(layout, x.data<T>() + i * each, sums + i * pixels);
                       }
                       if constexpr (NarrowFloat<T>) {
                         for (int64_t k = begin * pixels; k < end * pixels; ++k) y[k] = T(sums[k]);
                       }
                     });
    });
  }

 private:
  struct Layout {
    Shape image, block, counts, strides, pads, dilations;
    int64_t channels, elements, windows;
  };

  static Shape list(const std::vector<int64_t>& given, int count, int64_t fallback) {
    if (given.empty()) return Shape::filled(count, fallback);
    if (given.size() != static_cast<size_t>(count)) {
      invalid("Col2Im: an attribute must have " + std::to_string(count) + " numbers");
    }
    return Shape(given);
  }

  Layout layout_of(const Shape& x, const Shape& image, const Shape& block) const {
    const int axes = image.rank();
    if (x.rank() != 3 || axes < 1 || block.rank() != axes || axes > Shape::max_rank / 2) {
      invalid("Col2Im: input " + x.text() + ", image " + image.text() + " and block " +
              block.text() + " do not fit each other");
    }
    Layout layout{image,
                  block,
                  image,
                  list(strides, axes, 1),
                  list(pads, 2 * axes, 0),
                  list(dilations, axes, 1),
                  0,
                  1,
                  1};
    for (int i = 0; i < axes; ++i) {
      constexpr int64_t most = int64_t{1} << 30;
      const int64_t before = layout.pads[i], after = layout.pads[i + axes];
      for (const int64_t n : {image[i], block[i], layout.strides[i], layout.dilations[i]}) {
        if (n < 1 || n > most) invalid("Col2Im: sizes, strides and dilations must be positive");
      }
      if (before < 0 || after < 0 || before > most || after > most) {
        invalid("Col2Im: pads must not be negative");
      }
      const int64_t room = image[i] + before + after - layout.dilations[i] * (block[i] - 1) - 1;
      layout.counts[i] = room < 0 ? 0 : room / layout.strides[i] + 1;
    }
    layout.elements = block.size();
    layout.windows = layout.counts.size();
    layout.channels = x[1] / layout.elements;
    if (x[1] % layout.elements != 0 || x[2] != layout.windows) {
      invalid("Col2Im: input " + x.text() + " does not have " + std::to_string(layout.windows) +
              " windows of " + std::to_string(layout.elements) + " elements");
    }
    return layout;
  }

  // The windows along an axis whose element that begins at `start` lies in the image.
  struct Range {
    int64_t begin, end;
  };
  static Range inside(int64_t start, int64_t stride, int64_t count, int64_t size) {
    const auto first_at = [&](int64_t place) {  // the first window that is there or beyond
      return place <= start ? 0 : std::min(count, (place - start + stride - 1) / stride);
    };
    return {first_at(0), first_at(size)};
  }

  template <class T>
  static void add(const Layout& layout, const T* x, Compute<T>* image) {
    for (int64_t element = 0; element < layout.elements; ++element, x += layout.windows) {
      int64_t start[Shape::max_rank];
      int64_t rest = element;
      for (int i = layout.image.rank() - 1; i >= 0; --i) {
        start[i] = rest % layout.block[i] * layout.dilations[i] - layout.pads[i];
        rest /= layout.block[i];
      }
      add_element(layout, start, 0, layout.windows, layout.image.size(), x, image);
    }
  }

  // Adds one element of each window. Along the axes from `axis` on there are `windows` windows and
  // `pixels` pixels.
  template <class T>
  static void add_element(const Layout& layout, const int64_t* start, int axis, int64_t windows,
                          int64_t pixels, const T* x, Compute<T>* image) {
    const int64_t stride = layout.strides[axis];
    const Range range = inside(start[axis], stride, layout.counts[axis], layout.image[axis]);
    if (axis == layout.image.rank() - 1) return add_row(x, range, start[axis], stride, image);
    windows /= std::max<int64_t>(1, layout.counts[axis]);
    pixels /= layout.image[axis];
    for (int64_t i = range.begin; i < range.end; ++i) {
      add_element(layout, start, axis + 1, windows, pixels, x + i * windows,
                  image + (start[axis] + i * stride) * pixels);
    }
  }

  template <class T>
  static void add_row(const T* x, Range range, int64_t start, int64_t stride, Compute<T>* image) {
    if (stride == 1) {
      for (int64_t i = range.begin; i < range.end; ++i) {
        image[start + i] = wrapping_add(image[start + i], static_cast<Compute<T>>(x[i]));
      }
      return;
    }
    for (int64_t i = range.begin; i < range.end; ++i) {
      Compute<T>& to = image[start + i * stride];
      to = wrapping_add(to, static_cast<Compute<T>>(x[i]));
    }
  }

  std::vector<int64_t> strides, pads, dilations;
};
BASCULE_KERNEL("Col2Im", Col2Im);

}  // namespace
}  // namespace bascule
