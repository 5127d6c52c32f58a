// SPDX-License-Identifier: Apache-2.0
// BatchNormalization, InstanceNormalization and GroupNormalization: y = (x - mean) * scale + bias
// per channel. What differs is where mean and variance come from: given, or of an image's channel,
// or of a group of channels of an image, or (training) of a channel over the whole batch. Tensors
// are [N, C, spatial...], or [N, spatial..., C] with the attribute channels_last.
#include <algorithm>
#include <cmath>

#include "kernels/normalize_rows_pick.h"
#include "kernels/work_view.h"
#include "runtime/kernel.h"

namespace bascule {
namespace {

struct Image {
  Image(const Shape& shape, bool last) : channels_last(last) {
    if (shape.rank() < 2) {
      invalid("input of rank " + std::to_string(shape.rank()) + ", expected at least 2");
    }
    const int axis = last ? shape.rank() - 1 : 1;
    batch = shape[0];
    channels = shape[axis];
    pixels = last ? shape.product(1, axis) : shape.product(2, shape.rank());
  }
  int64_t batch, channels, pixels;
  bool channels_last;
};

template <class T>
const T* per_channel(RunContext& c, int i, const Image& image) {
  const Tensor& x = c.input(i);
  if (x.size() != image.channels) {
    invalid("input " + std::to_string(i) + " of shape " + x.shape().text() + ", expected " +
            std::to_string(image.channels) + " channels");
  }
  return work_view<T>(c, x);
}

// Columns that one task works on when channels are last: whole vectors at every width.
constexpr int64_t column_group = 64;

// y = (x - mean) * scale + bias with the numbers of channel c of image n at [n * step + c], where
// `step` is 0 if all images share them.
template <class T>
void apply_affine(RunContext& c, const Image& image, const T* x, T* y, const T* mean,
                  const T* scale, const T* bias, int64_t step) {
  const NormalizeRows<T> on = normalize_rows_of<T>();
  const int64_t channels = image.channels, pixels = image.pixels;
  if (image.channels_last || pixels == 1) {  // one pixel: both layouts are the same
    c.parallel_for(image.batch * pixels, static_cast<double>(channels),
                   [&](int64_t begin, int64_t end) {
                     for (int64_t row = begin; row < end; ++row) {
                       const int64_t at = row / pixels * step;
                       on.affine_columns(x + row * channels, y + row * channels, channels,
                                         mean + at, scale + at, bias + at);
                     }
                   });
    return;
  }
  c.parallel_for(
      image.batch * channels, static_cast<double>(pixels), [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) {
          const int64_t at = row / channels * step + row % channels;
          on.affine_row(x + row * pixels, y + row * pixels, pixels, mean[at], scale[at], bias[at]);
        }
      });
}

template <class T>
T inverse_root(T variance, float epsilon) {
  return 1 / std::sqrt(variance + static_cast<T>(epsilon));
}

// Mean and variance of each group of channels of each image, [batch * groups].
template <class T>
void group_moments(RunContext& c, const Image& image, int64_t groups, const T* x, T* mean,
                   T* variance) {
  const NormalizeRows<T> on = normalize_rows_of<T>();
  const int64_t channels = image.channels, pixels = image.pixels, size = channels / groups;
  if (!image.channels_last) {
    c.parallel_for(image.batch * groups, 2.0 * static_cast<double>(size * pixels),
                   [&](int64_t begin, int64_t end) {
                     for (int64_t k = begin; k < end; ++k) {
                       const RowMoments<T> one = on.moments(x + k * size * pixels, size * pixels);
                       mean[k] = one.mean;
                       variance[k] = one.variance;
                     }
                   });
    return;
  }
  // Sums per channel first, then over the channels of a group in order.
  T* sums = c.workspace<T>(image.batch * channels);
  T* centers = c.workspace<T>(image.batch * channels);
  const T count = static_cast<T>(size * pixels);
  const int64_t tasks = (channels + column_group - 1) / column_group;
  for (const bool squares : {false, true}) {
    c.parallel_for(image.batch * tasks, static_cast<double>(pixels * column_group),
                   [&](int64_t begin, int64_t end) {
                     for (int64_t k = begin; k < end; ++k) {
                       const int64_t n = k / tasks, first = k % tasks * column_group;
                       const int64_t at = n * channels + first;
                       on.column_sums(x + n * pixels * channels + first, pixels, channels,
                                      std::min(column_group, channels - first),
                                      squares ? centers + at : nullptr, sums + at);
                     }
                   });
    T* result = squares ? variance : mean;
    for (int64_t k = 0; k < image.batch * groups; ++k) {
      T sum = 0;
      for (int64_t i = 0; i < size; ++i) sum += sums[k * size + i];
      result[k] = sum / count;
      for (int64_t i = 0; i < size && !squares; ++i) centers[k * size + i] = result[k];
    }
  }
}

Capability float_inputs(const NodeSpec& node) {
  for (size_t i = 0; i < node.inputs.size(); ++i) {
    const Capability one = require_dtype(node, i, FloatTypes{});
    if (!one.accepted()) return one;
  }
  return accept;
}

class GroupNormalization final : public Kernel {
 public:
  static Capability capability(const NodeSpec& node) { return float_inputs(node); }

  explicit GroupNormalization(const NodeSpec& node)
      : epsilon_(node.get_float("epsilon", 1e-5f)),
        groups_(node.op_type == "GroupNormalization" ? node.get_int("num_groups", 0) : -1),
        channels_last_(node.get_int("channels_last", 0) != 0) {}

  void run(RunContext& c) const override {
    visit_work_type(widest_work_dtype(c),
                    [&](auto tag) { compute<typename decltype(tag)::type>(c); });
  }

 private:
  template <class T>
  void compute(RunContext& c) const {
    const Tensor& input = c.input(0);
    const Image image(input.shape(), channels_last_);
    const int64_t groups = groups_ < 0 ? image.channels : groups_;
    if (groups <= 0 ? image.channels != 0 : image.channels % groups != 0) {
      invalid(std::to_string(image.channels) +
              " channels are not a multiple of num_groups=" + std::to_string(groups));
    }
    const T* scale = per_channel<T>(c, 1, image);
    const T* bias = per_channel<T>(c, 2, image);
    const T* x = work_view<T>(c, input);
    const int64_t lines = image.batch * groups, all = image.batch * image.channels;
    T* mean = c.workspace<T>(lines);
    T* variance = c.workspace<T>(lines);
    T* means = c.workspace<T>(all);
    T* scales = c.workspace<T>(all);
    T* biases = c.workspace<T>(all);
    Tensor& y = c.output(0, input.dtype(), input.shape());
    T* out = work_target<T>(c, y);
    if (y.size() == 0) return;
    group_moments(c, image, groups, x, mean, variance);
    const int64_t size = image.channels / groups;
    for (int64_t k = 0; k < all; ++k) {
      const int64_t channel = k % image.channels;
      means[k] = mean[k / size];
      scales[k] = scale[channel] * inverse_root(variance[k / size], epsilon_);
      biases[k] = bias[channel];
    }
    apply_affine<T>(c, image, x, out, means, scales, biases, image.channels);
    store_work<T>(c, out, y);
  }

  float epsilon_;
  int64_t groups_;  // -1: one per channel
  bool channels_last_;
};
BASCULE_KERNEL("GroupNormalization", GroupNormalization, InPlace{0, 0});
BASCULE_KERNEL("InstanceNormalization", GroupNormalization, InPlace{0, 0});
BASCULE_KERNEL_IN("bascule", "GroupNormalization", GroupNormalization, InPlace{0, 0});
BASCULE_KERNEL_IN("bascule", "InstanceNormalization", GroupNormalization, InPlace{0, 0});

class BatchNormalization final : public Kernel {
 public:
  static Capability capability(const NodeSpec& node) { return float_inputs(node); }

  explicit BatchNormalization(const NodeSpec& node)
      : epsilon_(node.get_float("epsilon", 1e-5f)),
        momentum_(node.get_float("momentum", 0.9f)),
        training_(node.get_int("training_mode", 0) != 0),
        channels_last_(node.get_int("channels_last", 0) != 0) {}

  void run(RunContext& c) const override {
    visit_work_type(widest_work_dtype(c),
                    [&](auto tag) { compute<typename decltype(tag)::type>(c); });
  }

 private:
  template <class T>
  void compute(RunContext& c) const {
    const Tensor& input = c.input(0);
    Shape shape = input.shape();
    if (shape.rank() == 1) shape.push_back(1);  // [N] has one channel
    const Image image(shape, channels_last_);
    const T* scale = per_channel<T>(c, 1, image);
    const T* bias = per_channel<T>(c, 2, image);
    const T* mean = per_channel<T>(c, 3, image);
    const T* variance = per_channel<T>(c, 4, image);
    const T* x = work_view<T>(c, input);
    T* scales = c.workspace<T>(image.channels);
    if (training_) {
      T* batch_mean = c.workspace<T>(image.channels);
      T* batch_variance = c.workspace<T>(image.channels);
      batch_moments(image, x, batch_mean, batch_variance);
      write_running(c, 1, mean, batch_mean, image.channels);
      write_running(c, 2, variance, batch_variance, image.channels);
      mean = batch_mean;
      variance = batch_variance;
    }
    for (int64_t k = 0; k < image.channels; ++k) {
      scales[k] = scale[k] * inverse_root(variance[k], epsilon_);
    }
    Tensor& y = c.output(0, input.dtype(), input.shape());
    T* out = work_target<T>(c, y);
    apply_affine<T>(c, image, x, out, mean, scales, bias, 0);
    store_work<T>(c, out, y);
  }

  // Of each channel over the batch.
  template <class T>
  static void batch_moments(const Image& image, const T* x, T* mean, T* variance) {
    const int64_t channels = image.channels, pixels = image.pixels;
    const T count = static_cast<T>(image.batch * pixels);
    const int64_t pixel_step = image.channels_last ? channels : 1;
    const int64_t channel_step = image.channels_last ? 1 : pixels;
    const auto sum_over = [&](int64_t channel, auto&& value) {
      T sum = 0;
      for (int64_t n = 0; n < image.batch; ++n) {
        const T* from = x + n * channels * pixels + channel * channel_step;
        for (int64_t i = 0; i < pixels; ++i) sum += value(from[i * pixel_step]);
      }
      return sum;
    };
    for (int64_t k = 0; k < channels; ++k) {
      mean[k] = sum_over(k, [](T v) { return v; }) / count;
      variance[k] = sum_over(k, [&](T v) { return (v - mean[k]) * (v - mean[k]); }) / count;
    }
  }

  template <class T>
  void write_running(RunContext& c, int i, const T* before, const T* batch,
                     int64_t channels) const {
    if (!c.wants_output(i)) return;
    Tensor& running = c.output(i, c.input(3).dtype(), Shape{channels});
    T* out = work_target<T>(c, running);
    const T momentum = static_cast<T>(momentum_);
    for (int64_t k = 0; k < channels; ++k) {
      out[k] = before[k] * momentum + batch[k] * (1 - momentum);
    }
    store_work<T>(c, out, running);
  }

  float epsilon_;
  float momentum_;
  bool training_;
  bool channels_last_;
};
BASCULE_KERNEL("BatchNormalization", BatchNormalization, InPlace{0, 0});
BASCULE_KERNEL_IN("bascule", "BatchNormalization", BatchNormalization, InPlace{0, 0});

}  // namespace
}  // namespace bascule
