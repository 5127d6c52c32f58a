// SPDX-License-Identifier: Apache-2.0
// MaxRoiPool: regions of a feature map, each cut into the same number of bins, of which the largest
// elements are taken. A region is [image, left, top, right, bottom], rounded to whole elements; its
// bins overlap where they do not divide it evenly.
#include <algorithm>
#include <cmath>

#include "runtime/kernel.h"

namespace bascule {
namespace {

// A range of elements of one axis.
struct Range {
  int64_t begin, end;
};

// Bin i of `count` of the `length` elements from `start` on, cut to an axis of `size` elements.
Range bin_of(int64_t i, int64_t count, int64_t start, int64_t length, int64_t size) {
  const int64_t begin = start + i * length / count;
  const int64_t end = start + ((i + 1) * length + count - 1) / count;
  return {std::clamp<int64_t>(begin, 0, size), std::clamp<int64_t>(end, 0, size)};
}

class MaxRoiPool final : public Kernel {
 public:
  static Capability capability(const NodeSpec& node) {
    for (const size_t i : {size_t{0}, size_t{1}}) {
      const Capability typed = require_dtype(node, i, FloatTypes{});
      if (!typed.accepted()) return typed;
    }
    return accept;
  }
  explicit MaxRoiPool(const NodeSpec& node) : scale_(node.get_float("spatial_scale", 1)) {
    const std::vector<int64_t> pooled = node.get_ints("pooled_shape");
    if (pooled.size() != 2 || pooled[0] < 1 || pooled[1] < 1 || pooled[0] > most_ ||
        pooled[1] > most_) {
      invalid("MaxRoiPool: pooled_shape must be two positive numbers");
    }
    rows_ = pooled[0];
    columns_ = pooled[1];
  }

  void run(RunContext& c) const override {
    const Tensor& x = c.input(0);
    const Tensor& rois = c.input(1);
    if (x.rank() != 4 || rois.rank() != 2 || rois.dim(1) != 5 || rois.dtype() != x.dtype()) {
      invalid("regions of shape " + rois.shape().text() + " do not fit an input of shape " +
              x.shape().text());
    }
    const int64_t channels = x.dim(1);
    Tensor& y = c.output(0, x.dtype(), {rois.dim(0), channels, rows_, columns_});
    visit(FloatTypes{}, x.dtype(), [&](auto tag) {
      using T = typename decltype(tag)::type;
      const int64_t each = channels * rows_ * columns_;
      c.parallel_for(rois.dim(0), static_cast<double>(x.dim(2) * x.dim(3) * channels),
                     [&](int64_t begin, int64_t end) {
                       for (int64_t r = begin; r < end; ++r) {
                         pool(rois.data<T>() + r * 5, x, y.data<T>() + r * each);
                       }
                     });
    });
  }

 private:
  template <class T>
  void pool(const T* roi, const Tensor& x, T* y) const {
    const auto number = [&](int i) { return static_cast<double>(static_cast<Compute<T>>(roi[i])); };
    const double image = number(0);
    if (!(image >= 0 && image < static_cast<double>(x.dim(0)))) {
      invalid("MaxRoiPool: image " + std::to_string(image) + " is not in [0, " +
              std::to_string(x.dim(0)) + ")");
    }
    int64_t edge[4];
    for (int i = 0; i < 4; ++i) {
      const double place = std::round(number(i + 1) * scale_);
      if (!(std::abs(place) <= static_cast<double>(most_))) {
        invalid("MaxRoiPool: a region ends at " + std::to_string(place));
      }
      edge[i] = static_cast<int64_t>(place);
    }
    const int64_t width = std::max<int64_t>(edge[2] - edge[0] + 1, 1);
    const int64_t height = std::max<int64_t>(edge[3] - edge[1] + 1, 1);
    const int64_t pixels = x.dim(2) * x.dim(3);
    const T* from = x.data<T>() + static_cast<int64_t>(image) * x.dim(1) * pixels;
    for (int64_t channel = 0; channel < x.dim(1); ++channel, from += pixels) {
      for (int64_t i = 0; i < rows_; ++i) {
        const Range row = bin_of(i, rows_, edge[1], height, x.dim(2));
        for (int64_t j = 0; j < columns_; ++j) {
          *y++ = largest(from, x.dim(3), row, bin_of(j, columns_, edge[0], width, x.dim(3)));
        }
      }
    }
  }

  // Zero in an empty bin, and not a number where one of its elements is none.
  template <class T>
  static T largest(const T* x, int64_t stride, Range rows, Range columns) {
    if (rows.begin >= rows.end || columns.begin >= columns.end) return T(Compute<T>(0));
    T top = x[rows.begin * stride + columns.begin];
    for (int64_t i = rows.begin; i < rows.end; ++i) {
      for (int64_t j = columns.begin; j < columns.end; ++j) {
        const T value = x[i * stride + j];
        if (value > top || value != value) top = value;
        if (top != top) return top;
      }
    }
    return top;
  }

  static constexpr int64_t most_ = int64_t{1} << 24;
  double scale_;
  int64_t rows_, columns_;
};
BASCULE_KERNEL("MaxRoiPool", MaxRoiPool);

}  // namespace
}  // namespace bascule
