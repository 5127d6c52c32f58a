// SPDX-License-Identifier: Apache-2.0
// RoiAlign: regions of a feature map, each pooled to one size from bilinear samples.
#include <algorithm>
#include <cmath>
#include <vector>

#include "runtime/kernel.h"

namespace bascule {
namespace {

struct Sample {
  int64_t offset[4];
  double weight[4];
};

// A place of a map of h x w elements; places more than one element outside count as zero.
Sample sample_at(double y, double x, int64_t h, int64_t w) {
  Sample result{};
  if (!(y >= -1 && y <= static_cast<double>(h) && x >= -1 && x <= static_cast<double>(w))) {
    return result;
  }
  y = std::clamp(y, 0.0, static_cast<double>(h - 1));
  x = std::clamp(x, 0.0, static_cast<double>(w - 1));
  const auto top = static_cast<int64_t>(y), left = static_cast<int64_t>(x);
  const int64_t bottom = std::min(top + 1, h - 1), right = std::min(left + 1, w - 1);
  const double dy = y - static_cast<double>(top), dx = x - static_cast<double>(left);
  const int64_t offsets[] = {top * w + left, top * w + right, bottom * w + left,
                             bottom * w + right};
  const double weights[] = {(1 - dy) * (1 - dx), (1 - dy) * dx, dy * (1 - dx), dy * dx};
  std::copy_n(offsets, 4, result.offset);
  std::copy_n(weights, 4, result.weight);
  return result;
}

struct RoiAlign final : Kernel {
  static Capability capability(const NodeSpec& node) {
    if (node.dtype(1) != node.dtype(0)) return reject("the regions are of another type");
    return require_dtype(node, 0, FloatTypes{});
  }
  explicit RoiAlign(const NodeSpec& node)
      : rows(node.get_int("output_height", 1)),
        columns(node.get_int("output_width", 1)),
        sampling(node.get_int("sampling_ratio", 0)),
        scale(node.get_float("spatial_scale", 1)),
        shift(node.get_string("coordinate_transformation_mode", "half_pixel") == "half_pixel"),
        average(node.get_string("mode", "avg") != "max") {
    if (rows < 1 || columns < 1 || sampling < 0) {
      invalid("RoiAlign: output sizes must be positive and sampling_ratio not negative");
    }
  }
  void run(RunContext& c) const override {
    const Tensor& x = c.input(0);
    const Tensor& rois = c.input(1);
    const Tensor& batch = c.input(2);
    if (x.rank() != 4 || rois.rank() != 2 || rois.dim(1) != 4 || batch.dtype() != DType::int64 ||
        batch.size() != rois.dim(0) || x.dim(2) < 1 || x.dim(3) < 1) {
      invalid("regions of shape " + rois.shape().text() + " do not fit an input of shape " +
              x.shape().text());
    }
    for (const int64_t image : batch.elements<int64_t>()) {
      if (image < 0 || image >= x.dim(0)) {
        invalid("batch index " + std::to_string(image) + " is not in [0, " +
                std::to_string(x.dim(0)) + ")");
      }
    }
    Tensor& y = c.output(0, x.dtype(), {rois.dim(0), x.dim(1), rows, columns});
    visit(FloatTypes{}, x.dtype(), [&](auto tag) {
      using T = typename decltype(tag)::type;
      const int64_t pixels = x.dim(2) * x.dim(3), channels = x.dim(1);
      c.parallel_for(rois.dim(0), static_cast<double>(channels * rows * columns) * 16,
                     [&](int64_t begin, int64_t end) {
                       for (int64_t r = begin; r < end; ++r) {
                         pool(rois.data<T>() + r * 4,
                              x.data<T>() + batch.data<int64_t>()[r] * channels * pixels, x.shape(),
                              y.data<T>() + r * channels * rows * columns);
                       }
                     });
    });
  }

 private:
  template <class T>
  void pool(const T* roi, const T* x, const Shape& shape, T* y) const {
    const double offset = shift ? 0.5 : 0;
    double edge[4];
    for (int i = 0; i < 4; ++i) {
      edge[i] = static_cast<double>(static_cast<Compute<T>>(roi[i])) * scale - offset;
      if (!std::isfinite(edge[i])) invalid("RoiAlign: a region is not finite");
    }
    double width = edge[2] - edge[0], height = edge[3] - edge[1];
    if (!shift) {
      width = std::max(width, 1.0);
      height = std::max(height, 1.0);
    }
    const double bin_h = height / static_cast<double>(rows);
    const double bin_w = width / static_cast<double>(columns);
    const int64_t grid_h = samples_of(bin_h), grid_w = samples_of(bin_w);
    const auto count = static_cast<double>(std::max<int64_t>(grid_h * grid_w, 1));
    const int64_t pixels = shape[2] * shape[3];
    std::vector<Sample> samples(static_cast<size_t>(grid_h * grid_w));
    for (int64_t bin = 0; bin < rows * columns; ++bin) {
      const double top = edge[1] + static_cast<double>(bin / columns) * bin_h;
      const double left = edge[0] + static_cast<double>(bin % columns) * bin_w;
      for (int64_t i = 0; i < grid_h * grid_w; ++i) {
        const double dy = (static_cast<double>(i / grid_w) + 0.5) / static_cast<double>(grid_h);
        const double dx = (static_cast<double>(i % grid_w) + 0.5) / static_cast<double>(grid_w);
        samples[static_cast<size_t>(i)] =
            sample_at(top + dy * bin_h, left + dx * bin_w, shape[2], shape[3]);
      }
      for (int64_t channel = 0; channel < shape[1]; ++channel) {
        const double value = combine(samples, x + channel * pixels) / (average ? count : 1);
        y[channel * rows * columns + bin] = static_cast<T>(static_cast<Compute<T>>(value));
      }
    }
  }

  // The sum of all samples; or, as the operator is defined, the largest weighted element.
  template <class T>
  double combine(const std::vector<Sample>& samples, const T* x) const {
    double result = 0;
    bool first = true;
    for (const Sample& sample : samples) {
      for (int i = 0; i < 4; ++i) {
        const double term =
            sample.weight[i] * static_cast<double>(static_cast<Compute<T>>(x[sample.offset[i]]));
        if (average) {
          result += term;
        } else {
          result = first ? term : std::max(result, term);
          first = false;
        }
      }
    }
    return result;
  }

  int64_t samples_of(double bin) const {
    if (sampling > 0) return sampling;
    constexpr double most = 1024;
    if (bin > most) invalid("RoiAlign: a region is too large");
    return static_cast<int64_t>(std::max(std::ceil(bin), 0.0));
  }

  int64_t rows, columns, sampling;
  double scale;
  bool shift, average;
};
BASCULE_KERNEL("RoiAlign", RoiAlign);

}  // namespace
}  // namespace bascule
