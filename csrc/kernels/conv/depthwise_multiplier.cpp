// SPDX-License-Identifier: Apache-2.0
// instruction sets: base avx2 avx512
// Depthwise convolution with several results for each channel: the input of some rows and results
// is written out, each channel as often as it has results, and then it is plain depthwise.
#include "simd/vec.h"

namespace bascule::BASCULE_ISA {

// to[pixel][channel * times + i] = from[pixel][channel]. Up to `lanes` elements behind the last are
// written too.
void repeat_channels(const float* from, int64_t from_stride, int64_t pixels, int64_t channels,
                     int64_t times, float* to) {
  for (int64_t pixel = 0; pixel < pixels; ++pixel) {
    for (int64_t channel = 0; channel < channels; ++channel) {
      const F32 value = set(from[channel]);
      // Whole vectors: the next channels overwrite what is too much.
      for (int64_t i = 0; i < times; i += lanes) store(to + i, value);
      to += times;
    }
    from += from_stride;
  }
}

}  // namespace bascule::BASCULE_ISA

#if BASCULE_ONCE
#include <algorithm>
#include <numeric>

#include "kernels/conv/run.h"
#include "simd/isa.h"
namespace bascule {
BASCULE_PER_ISA(void repeat_channels(const float* from, int64_t from_stride, int64_t pixels,
                                     int64_t channels, int64_t times, float* to));

namespace {

constexpr int64_t most_lanes = 16;

class DepthwiseMultiplier {
 public:
  explicit DepthwiseMultiplier(const Convolution<float>& convolution)
      : v_(convolution), s_(convolution.sizes), times_(s_.group_out()) {
    // Channels whose results are whole vectors, about 64 of them.
    const int64_t vectors = most_lanes / std::gcd(times_, most_lanes);
    channels_ = std::min(s_.in_channels, vectors * std::max<int64_t>(1, 64 / (vectors * times_)));
    // Rows of outputs that read about 64K elements. Those of several depths read all of an image.
    image_rows_ = s_.out[0] * s_.out[1];
    band_ = image_rows_;
    if (s_.in[0] == 1 && s_.out[0] == 1) {
      const int64_t fit = 65536 / std::max<int64_t>(1, s_.in[2] * channels_ * times_);
      band_ = std::clamp<int64_t>((fit - reach()) / s_.stride[1], 1, image_rows_);
    }
  }

  void run(RunContext& c) const {
    const int64_t bands = (image_rows_ + band_ - 1) / band_;
    const int64_t strips = (s_.in_channels + channels_ - 1) / channels_;
    const int64_t tiles = s_.batch * bands * strips;
    const int64_t parts = std::min<int64_t>(tiles, c.threads());
    const int64_t rows = band_ == image_rows_ ? s_.in[0] * s_.in[1]
                                              : std::min(s_.in[1], band_ * s_.stride[1] + reach());
    const int64_t space = rows * s_.in[2] * channels_ * times_ + most_lanes;
    float* copies = c.workspace<float>(space * parts);
    const float** pointers = c.workspace<const float*>(depthwise_pointers(s_) * parts);
    const double work = static_cast<double>(s_.batch * s_.out_pixels() * s_.out_channels) *
                        static_cast<double>(s_.taps() + 1) / 8;
    c.parallel_for(parts, work / static_cast<double>(parts), [&](int64_t first, int64_t last) {
      for (int64_t i = tiles * first / parts; i < tiles * last / parts; ++i) {
        run_tile(i / (strips * bands), i / strips % bands * band_, i % strips * channels_,
                 copies + space * first, pointers + depthwise_pointers(s_) * first);
      }
    });
  }

 private:
  // Rows that the kernel covers, but for the first.
  int64_t reach() const { return (s_.kernel[1] - 1) * s_.dilation[1]; }

  // A band of rows of image n, and the results of the channels from `channel` on.
  void run_tile(int64_t n, int64_t begin, int64_t channel, float* copy,
                const float** pointers) const {
    static const auto repeat = BASCULE_PICK(repeat_channels);
    const int64_t end = std::min(image_rows_, begin + band_);
    const int64_t channels = std::min(channels_, s_.in_channels - channel);
    int64_t first = 0;
    int64_t rows = s_.in[0] * s_.in[1];
    if (band_ < image_rows_) {
      first = std::clamp<int64_t>(begin * s_.stride[1] - s_.pad[1], 0, rows);
      rows = std::clamp((end - 1) * s_.stride[1] - s_.pad[1] + reach() + 1, first, rows);
    }
    const float* x = v_.x + (n * s_.in_pixels() + first * s_.in[2]) * s_.in_channels + channel;
    repeat(x, s_.in_channels, (rows - first) * s_.in[2], channels, times_, copy);
    ConvSizes plain = s_;
    plain.in_channels = plain.group = s_.out_channels;
    const int64_t result = channel * times_;
    const int64_t y_offset = n * s_.out_pixels() * s_.out_channels + result;
    DepthwiseStrip t{};
    t.x = copy;
    t.first_row = first;
    t.x_stride = t.channels = channels * times_;
    t.w = v_.w + result;
    t.y = v_.y + y_offset;
    t.epilogue = v_.epilogue;
    if (t.epilogue.bias != nullptr) t.epilogue.bias += result;
    if (t.epilogue.residual != nullptr) t.epilogue.residual += y_offset;
    run_depthwise_rows(plain, t, begin, end, pointers);
  }

  const Convolution<float>& v_;
  const ConvSizes& s_;
  int64_t times_;       // results of a channel
  int64_t channels_;    // of a strip
  int64_t image_rows_;  // of the output, depth and height as one
  int64_t band_;        // rows of it that are worked on at a time
};

}  // namespace

void run_depthwise_multiplier(RunContext& c, const Convolution<float>& convolution) {
  DepthwiseMultiplier(convolution).run(c);
}

}  // namespace bascule
#endif
