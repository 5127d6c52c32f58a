// SPDX-License-Identifier: Apache-2.0
// ResizeSum: images [N, H, W, C] of several sizes, each resized to one size, and added up. A row of
// the result is made at a time: of each image the rows that it comes from are blended into one, and
// that one is stretched onto the row.
#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "kernels/resize/resize_rows.h"
#include "kernels/resize/taps.h"
#include "runtime/kernel.h"

namespace bascule {
namespace {

struct Image {
  const float* data;
  int64_t height;
  int64_t width;
  Taps<float> down;   // count 0: the rows stay
  Taps<float> along;  // count 0: the pixels stay
};

class ResizeSum final : public Kernel {
 public:
  static Capability capability(const NodeSpec& node) {
    for (size_t i = 0; i < node.inputs.size(); ++i) {
      if (node.dtype(i) != DType::float32) return reject("images must be float32");
    }
    return accept;
  }

  explicit ResizeSum(const NodeSpec& node) : sampling_(node), sizes_(node.get_ints("sizes")) {
    if (sizes_.rank() != 4) invalid("attribute 'sizes' is " + sizes_.text());
    for (const int64_t size : sizes_) {
      if (size < 0) invalid("attribute 'sizes' is " + sizes_.text());
    }
    if (sampling_.mode == ResizeMode::nearest ||
        sampling_.coordinates == Coordinates::tf_crop_and_resize) {
      invalid("ResizeSum interpolates whole images");
    }
  }

  void run(RunContext& c) const override {
    const int64_t height = sizes_[1], width = sizes_[2], channels = sizes_[3];
    std::vector<Image> images;
    int64_t widest = 0;
    for (int i = 0; i < c.input_count(); ++i) {
      images.push_back(image(c, c.input(i)));
      widest = std::max(widest, images.back().width);
    }
    Tensor& y = c.output(0, DType::float32, sizes_);
    if (y.size() == 0) return;
    const int64_t rows = sizes_[0] * height;
    const int64_t parts = std::min<int64_t>(c.threads(), rows);
    float* blended = c.workspace<float>(parts * widest * channels);
    const double cost = static_cast<double>(rows * width * channels) / 4 *
                        static_cast<double>(images.size()) / static_cast<double>(parts);
    c.parallel_for(parts, cost, [&](int64_t begin, int64_t end) {
      for (int64_t part = begin; part < end; ++part) {
        for (int64_t r = rows * part / parts; r < rows * (part + 1) / parts; ++r) {
          float* to = y.data<float>() + r * width * channels;
          for (const Image& each : images) {
            add_row(each, r / height, r % height, blended + part * widest * channels,
                    &each == images.data(), to);
          }
        }
      }
    });
  }

 private:
  Image image(RunContext& c, const Tensor& x) const {
    if (x.rank() != 4 || x.dim(0) != sizes_[0] || x.dim(3) != sizes_[3]) {
      fail("an image has shape " + x.shape().text() + ", to be resized to " + sizes_.text());
    }
    return {x.data<float>(), x.dim(1), x.dim(2), taps(c, x, 1), taps(c, x, 2)};
  }

  Taps<float> taps(RunContext& c, const Tensor& x, int axis) const {
    const int64_t before = x.dim(axis), after = sizes_[axis];
    if (before == after) return {};
    if (before == 0 || before > std::numeric_limits<int32_t>::max()) {
      fail("an image has shape " + x.shape().text() + ", to be resized to " + sizes_.text());
    }
    return make_taps<float>(
        c, sampling_,
        {axis, before, after, static_cast<double>(after), static_cast<double>(before)});
  }

  // Row `row` of the resized image, alone or on top of what is there.
  void add_row(const Image& x, int64_t item, int64_t row, float* blended, bool first,
               float* to) const {
    const ResizeFunctions<float>& loops = resize_functions<float>();
    const int64_t height = sizes_[1], width = sizes_[2], channels = sizes_[3];
    const int64_t line = x.width * channels;
    const float* from = x.data + item * x.height * line;
    if (x.down.count == 0) {
      from += row * line;
    } else {
      loops.blend_runs(from, line, x.down.indices + row, x.down.weights + row, height, x.down.count,
                       line, blended);
      from = blended;
    }
    const auto blend = first ? loops.blend_runs : loops.add_runs;
    if (x.along.count == 0) {
      constexpr int32_t index = 0;
      constexpr float weight = 1;
      blend(from, line, &index, &weight, 1, 1, line, to);
      return;
    }
    for (int64_t o = 0; o < width; ++o) {
      blend(from, channels, x.along.indices + o, x.along.weights + o, width, x.along.count,
            channels, to + o * channels);
    }
  }

  Sampling sampling_;
  Shape sizes_;
};
BASCULE_KERNEL_IN("bascule", "ResizeSum", ResizeSum);

}  // namespace
}  // namespace bascule
