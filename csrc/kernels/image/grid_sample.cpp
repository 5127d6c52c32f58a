// SPDX-License-Identifier: Apache-2.0
// GridSample and AffineGrid: an image of any number of axes, read at the places of a grid.
#include <algorithm>
#include <cmath>

#include "kernels/interpolated.h"
#include "kernels/move/int_list.h"
#include "kernels/move/strided_copy.h"
#include "kernels/work_view.h"
#include "runtime/kernel.h"

namespace bascule {
namespace {

enum class Mode { nearest, linear, cubic };
enum class Padding { zeros, border, reflection };
constexpr int max_axes = 3;

// The elements of one axis that take part, and their weights; offset -1 stands for a zero.
struct Taps {
  int64_t index[4];
  double weight[4];
};

double reflect(double x, double low, double high) {
  const double range = high - low;
  if (!(range > 0)) return low;
  const double distance = std::fmod(std::abs(x - low), 2 * range);
  return distance <= range ? low + distance : high - (distance - range);
}

// Keys' cubic convolution with a = -0.75 at distances 1 + t, t, 1 - t, 2 - t.
void cubic_weights(double t, double* weight) {
  constexpr double a = -0.75;
  const auto far = [](double x) { return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a; };
  const auto near = [](double x) { return ((a + 2) * x - (a + 3)) * x * x + 1; };
  weight[0] = far(1 + t);
  weight[1] = near(t);
  weight[2] = near(1 - t);
  weight[3] = far(2 - t);
}

struct Sampler {
  Mode mode;
  Padding padding;
  bool align;

  int taps() const { return mode == Mode::nearest ? 1 : mode == Mode::linear ? 2 : 4; }

  // What stands at `place`, in [-1, 1] from border to border, of an axis of `size` elements.
  Taps at(double place, int64_t size) const {
    const double low = align ? 0 : -0.5;
    const double high = static_cast<double>(size) - (align ? 1 : 0.5);
    const auto n = static_cast<double>(size);
    double x = align ? (place + 1) / 2 * (n - 1) : ((place + 1) * n - 1) / 2;
    if (mode == Mode::nearest) x = std::nearbyint(x);
    if (x < low || x > high) {
      // Cubic's centre stays outside, as far as any tap may be inside: only the taps are clamped.
      const double reach = mode == Mode::cubic ? 2 : 0;
      if (padding == Padding::border) x = std::clamp(x, -reach, n - 1 + reach);
      if (padding == Padding::reflection) x = reflect(x, low, high);
    }
    // Far outside, or not a number: still an integer.
    if (!(std::abs(x) < 0x1p40)) x = -0x1p40;
    Taps result;
    const double base = std::floor(x);
    const auto first = static_cast<int64_t>(base);
    if (mode == Mode::nearest) {
      result.index[0] = inside(static_cast<int64_t>(x), size, low, high);
      result.weight[0] = 1;
    } else if (mode == Mode::linear) {
      for (int i = 0; i < 2; ++i) result.index[i] = inside(first + i, size, low, high);
      result.weight[0] = 1 - (x - base);
      result.weight[1] = x - base;
    } else {
      for (int i = 0; i < 4; ++i) result.index[i] = inside(first - 1 + i, size, low, high);
      cubic_weights(x - base, result.weight);
    }
    return result;
  }

 private:
  int64_t inside(int64_t i, int64_t size, double low, double high) const {
    if (i >= 0 && i < size) return i;
    if (padding == Padding::zeros) return -1;
    if (padding == Padding::reflection) {
      i = static_cast<int64_t>(reflect(static_cast<double>(i), low, high));
    }
    return std::clamp<int64_t>(i, 0, size - 1);
  }
};

struct GridSample final : Kernel {
  static Capability capability(const NodeSpec& node) {
    const Capability answer = require_dtype(node, 1, FloatTypes{});
    if (!answer.accepted()) return answer;
    const bool is_nearest = node.get_string("mode", "linear") == "nearest";
    if (is_nearest && node.dtype() == DType::string) return accept;
    return require_dtype(node, 0, InterpolatedTypes{});
  }
  explicit GridSample(const NodeSpec& node) {
    const std::string mode = node.get_string("mode", "linear");
    const std::string padding = node.get_string("padding_mode", "zeros");
    if (mode != "nearest" && mode != "linear" && mode != "cubic") {
      invalid("mode '" + mode + "' is not one of nearest, linear, cubic");
    }
    if (padding != "zeros" && padding != "border" && padding != "reflection") {
      invalid("padding_mode '" + padding + "' is not one of zeros, border, reflection");
    }
    sampler = {mode == "nearest"  ? Mode::nearest
               : mode == "linear" ? Mode::linear
                                  : Mode::cubic,
               padding == "zeros"    ? Padding::zeros
               : padding == "border" ? Padding::border
                                     : Padding::reflection,
               node.get_int("align_corners", 0) != 0};
  }
  void run(RunContext& c) const override {
    const Tensor& x = c.input(0);
    const Tensor& grid = c.input(1);
    const int axes = x.rank() - 2;
    if (axes < 1 || axes > max_axes || grid.rank() != x.rank() || grid.dim(0) != x.dim(0) ||
        grid.dim(grid.rank() - 1) != axes) {
      invalid("a grid of shape " + grid.shape().text() + " does not fit an input of shape " +
              x.shape().text());
    }
    Shape shape{x.dim(0), x.dim(1)};
    for (int i = 0; i < axes; ++i) shape.push_back(grid.dim(1 + i));
    const int64_t places = shape.product(2, shape.rank());
    const int64_t pixels = x.shape().product(2, x.rank());
    if (pixels == 0 && shape.size() > 0) invalid("the input has no elements to read");
    Tensor& y = c.output(0, x.dtype(), shape);
    const auto sample_all = [&]<class T>(const T* from, T* to) {
      const int64_t channels = x.dim(1);
      c.parallel_for(x.dim(0) * places, 16.0 * static_cast<double>(channels),
                     [&](int64_t begin, int64_t end) {
                       for (int64_t i = begin; i < end;) {
                         const int64_t image = i / places * channels, left = places - i % places;
                         const int64_t count = std::min({together, end - i, left});
                         sample(grid, i, count, x.shape(), from + image * pixels, channels, pixels,
                                to + image * places + i % places, places);
                         i += count;
                       }
                     });
    };
    const auto sample_elements = [&](auto tag) {
      using T = typename decltype(tag)::type;
      sample_all(x.data<T>(), y.data<T>());
    };
    if (sampler.mode == Mode::nearest) {
      visit_size(x.dtype(), sample_elements);
    } else if (x.dtype() == DType::float16 || x.dtype() == DType::bfloat16) {
      float* to = work_target<float>(c, y);
      sample_all(work_view<float>(c, x), to);
      store_work<float>(c, to, y);
    } else {
      visit(InterpolatedTypes{}, x.dtype(), sample_elements);
    }
  }

 private:
  static constexpr int64_t together = 16;

  // The elements that are read for a place of the grid; offset -1 stands for a zero.
  struct Reads {
    int64_t offset[64];
    double weight[64];
    bool has_zeros;
  };

  // Some neighbouring places of the grid, for every channel.
  template <class T>
  void sample(const Tensor& grid, int64_t first, int64_t places, const Shape& shape, const T* x,
              int64_t channels, int64_t pixels, T* y, int64_t step) const {
    const int axes = shape.rank() - 2;
    double at[together * max_axes];
    read(grid, first * axes, places * axes, at);
    Reads reads[together];
    int count = 1;
    for (int axis = 0; axis < axes; ++axis) count *= sampler.taps();
    for (int64_t i = 0; i < places; ++i) find(at + i * axes, shape, reads[i]);
    for (int64_t channel = 0; channel < channels; ++channel, x += pixels, y += step) {
      for (int64_t i = 0; i < places; ++i) {
        const Reads& r = reads[i];
        if (sampler.mode == Mode::nearest) {
          y[i] = r.has_zeros ? T{} : x[r.offset[0]];
        } else if constexpr (contains(InterpolatedTypes{}, dtype_of<T>)) {
          const bool is_usual = count == 4 && !r.has_zeros;
          y[i] = is_usual ? blend<false>(x, r, 4) : blend<true>(x, r, count);
        }
      }
    }
  }

  // What is read at a place, whose first coordinate is that of the last axis.
  void find(const double* at, const Shape& shape, Reads& reads) const {
    const int axes = shape.rank() - 2, each = sampler.taps();
    int count = 1;
    reads.offset[0] = 0;
    reads.weight[0] = 1;
    reads.has_zeros = false;
    for (int axis = 0; axis < axes; ++axis) {
      const Taps taps = sampler.at(at[axes - 1 - axis], shape[2 + axis]);
      for (int i = count - 1; i >= 0; --i) {
        const int64_t before = reads.offset[i];
        const double weight = reads.weight[i];
        for (int k = each - 1; k >= 0; --k) {
          const bool zero = before < 0 || taps.index[k] < 0;
          reads.offset[i * each + k] = zero ? -1 : before * shape[2 + axis] + taps.index[k];
          reads.weight[i * each + k] = weight * taps.weight[k];
          reads.has_zeros |= zero;
        }
      }
      count *= each;
    }
  }

  template <bool may_have_zeros, class T>
  static T blend(const T* x, const Reads& reads, int count) {
    using Element = Interpolated<T>;
    typename Element::Work parts[Element::parts];
    for (int part = 0; part < Element::parts; ++part) {
      double sum = 0;
      for (int i = 0; i < count; ++i) {
        if (may_have_zeros && reads.offset[i] < 0) continue;
        sum += reads.weight[i] * static_cast<double>(Element::part(x[reads.offset[i]], part));
      }
      parts[part] = static_cast<typename Element::Work>(sum);
    }
    return Element::join(parts);
  }

  static void read(const Tensor& grid, int64_t first, int64_t count, double* values) {
    visit(FloatTypes{}, grid.dtype(), [&](auto tag) {
      using T = typename decltype(tag)::type;
      const T* from = grid.data<T>() + first;
      for (int64_t i = 0; i < count; ++i) {
        values[i] = static_cast<double>(static_cast<Compute<T>>(from[i]));
      }
    });
  }

  Sampler sampler;
};
BASCULE_KERNEL("GridSample", GridSample);

// Evenly spaced places of an image, moved by one affine matrix per image.
struct AffineGrid final : Kernel {
  static Capability capability(const NodeSpec& node) {
    return require_dtype(node, 0, FloatTypes{});
  }
  explicit AffineGrid(const NodeSpec& node) : align(node.get_int("align_corners", 0) != 0) {}
  void run(RunContext& c) const override {
    const Tensor& theta = c.input(0);
    const Shape size = int_list(c.input(1));
    const int axes = size.rank() - 2;
    for (const int64_t n : size) checked_size(n, "AffineGrid: a size");
    if ((axes != 2 && axes != 3) || !(theta.shape() == Shape{size[0], axes, axes + 1})) {
      invalid("matrices of shape " + theta.shape().text() + " do not fit size " + size.text());
    }
    Shape shape{size[0]};
    for (int i = 0; i < axes; ++i) shape.push_back(size[2 + i]);
    const int64_t places = shape.product(1, shape.rank());
    shape.push_back(axes);
    Tensor& y = c.output(0, theta.dtype(), shape);
    visit(FloatTypes{}, theta.dtype(), [&](auto tag) {
      using T = typename decltype(tag)::type;
      c.parallel_for(size[0] * places, 16, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          double place[max_axes + 1];
          int64_t rest = i % places;
          for (int k = 0; k < axes; ++k) {
            // The last axis comes first.
            const int64_t n = size[2 + axes - 1 - k];
            place[k] = coordinate(rest % n, n);
            rest /= n;
          }
          place[axes] = 1;
          const T* row = theta.data<T>() + i / places * axes * (axes + 1);
          for (int r = 0; r < axes; ++r, row += axes + 1) {
            double sum = 0;
            for (int k = 0; k <= axes; ++k) {
              sum += static_cast<double>(static_cast<Compute<T>>(row[k])) * place[k];
            }
            y.data<T>()[i * axes + r] = static_cast<T>(static_cast<Compute<T>>(sum));
          }
        }
      });
    });
  }

 private:
  double coordinate(int64_t i, int64_t n) const {
    const auto at = static_cast<double>(i), count = static_cast<double>(n);
    if (align) return n == 1 ? -1 : -1 + 2 * at / (count - 1);
    return (2 * at + 1) / count - 1;
  }
  bool align;
};
BASCULE_KERNEL("AffineGrid", AffineGrid);

}  // namespace
}  // namespace bascule
