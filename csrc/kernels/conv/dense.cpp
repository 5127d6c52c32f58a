// SPDX-License-Identifier: Apache-2.0
// Convolution as a matrix product over tap pointers: a pixel with its channels is a row of A, and
// the taps of one kernel row are one run of memory, [kernel width * C] long (without dilation). No
// im2col: padded inputs, and those whose channels lie apart, are copied once into a buffer with a
// zero border, others are read in place.
#include <algorithm>
#include <cmath>
#include <type_traits>

#include "kernels/conv/border.h"
#include "kernels/conv/overlaps.h"
#include "kernels/conv/run.h"

namespace bascule {

namespace {

Bordered bordered_input(const ConvSizes& s, bool planes) {
  Bordered result;
  result.copied = planes;
  for (size_t i = 0; i < 3; ++i) {
    result.size[i] = (s.out[i] - 1) * s.stride[i] + (s.kernel[i] - 1) * s.dilation[i] + 1;
    result.copied |= s.pad[i] > 0 || result.size[i] > s.in[i];
    result.before[i] = s.pad[i];
  }
  if (!result.copied) result.size = s.in;
  return result;
}

template <class T>
class Dense {
 public:
  explicit Dense(const Convolution<T>& convolution)
      : v_(convolution), s_(convolution.sizes), border_(bordered_input(s_, convolution.planes)) {
    // One run of memory per kernel row, or per tap where the taps of a row are apart.
    merged_ = s_.dilation[2] == 1 && s_.group == 1;
    tap_count_ = s_.kernel[0] * s_.kernel[1] * (merged_ ? 1 : s_.kernel[2]);
  }

  void run(RunContext& c) const {
    const int64_t threads = c.threads();
    const int64_t rows = border_.size[0] * border_.size[1];
    const int64_t size = border_.copied ? rows * border_.size[2] * s_.in_channels : 0;
    if (s_.batch >= 2 * threads || (s_.batch > 1 && s_.batch % threads == 0)) {
      run_batch(c, rows, size, threads);
      return;
    }
    const T** taps = c.workspace<const T*>(tap_count_);
    T* border = size > 0 ? c.workspace<T>(size) : nullptr;
    for (int64_t n = 0; n < s_.batch; ++n) {
      const T* image = image_of(n);
      if (border != nullptr) {
        c.parallel_for(rows, static_cast<double>(border_.size[2] * s_.in_channels),
                       [&](int64_t begin, int64_t end) {
                         for (int64_t row = begin; row < end; ++row) {
                           copy_row(image, border, row);
                         }
                       });
        image = border;
      }
      set_taps(image, taps);
      for (int64_t depth = 0; depth < s_.out[0]; ++depth) {
        if (s_.group == 1) {
          multiply(c, block(n, depth, 0, taps));
        } else {
          run_groups(c, n, depth, taps);
        }
      }
    }
  }

 private:
  // Whole images to each thread, which has a border buffer of its own.
  void run_batch(RunContext& c, int64_t rows, int64_t size, int64_t parts) const {
    const T** all_taps = c.workspace<const T*>(tap_count_ * parts);
    T* space = size > 0 ? c.workspace<T>(size * parts) : nullptr;
    c.parallel_for(parts, work() * static_cast<double>(s_.batch) / static_cast<double>(parts),
                   [&](int64_t first, int64_t last) {
                     const T** taps = all_taps + tap_count_ * first;
                     for (int64_t n = s_.batch * first / parts; n < s_.batch * last / parts; ++n) {
                       const T* image = image_of(n);
                       if (space != nullptr) {
                         T* border = space + size * first;
                         for (int64_t row = 0; row < rows; ++row) copy_row(image, border, row);
                         image = border;
                       }
                       set_taps(image, taps);
                       for (int64_t depth = 0; depth < s_.out[0]; ++depth) {
                         for (int64_t g = 0; g < s_.group; ++g) multiply(block(n, depth, g, taps));
                       }
                     }
                   });
  }

  // Each thread takes some rows of the output, or some groups where there are few rows.
  void run_groups(RunContext& c, int64_t n, int64_t depth, const T* const* taps) const {
    const bool by_rows = s_.out[1] >= 2 * c.threads();
    const int64_t units = by_rows ? s_.out[1] : s_.group;
    c.parallel_for(units, work() / static_cast<double>(s_.out[0] * units),
                   [&](int64_t begin, int64_t end) {
                     for (int64_t g = by_rows ? 0 : begin; g < (by_rows ? s_.group : end); ++g) {
                       GemmBlock<T> part = block(n, depth, g, taps);
                       if (by_rows) {
                         part.groups = end - begin;
                         part.a_offset += begin * part.a_group_stride;
                         part.c += begin * part.c_group_stride;
                         if (part.epilogue.residual != nullptr) {
                           part.epilogue.residual += begin * part.c_group_stride;
                         }
                       }
                       multiply(part);
                     }
                   });
  }

  void copy_row(const T* image, T* border, int64_t row) const {
    if constexpr (std::is_same_v<T, float>) {
      if (v_.planes) {
        fill_bordered_row(s_, border_, border, row, [&](int64_t pixel, int64_t count, T* to) {
          interleave_channels(image + pixel, s_.in_pixels(), s_.in_channels, count, to);
        });
        return;
      }
    }
    copy_bordered_row(s_, border_, image, border, row);
  }

  // Rough work of one image, in simple operations.
  double work() const {
    return static_cast<double>(s_.out_pixels() * s_.out_channels) *
           static_cast<double>(s_.taps() * s_.group_in()) / 8;
  }

  const T* image_of(int64_t n) const { return v_.x + n * s_.in_pixels() * s_.in_channels; }

  void set_taps(const T* image, const T** taps) const {
    for (int64_t kd = 0; kd < s_.kernel[0]; ++kd) {
      for (int64_t kh = 0; kh < s_.kernel[1]; ++kh) {
        const T* row = image + (kd * s_.dilation[0] * border_.size[1] + kh * s_.dilation[1]) *
                                   border_.size[2] * s_.in_channels;
        for (int64_t kw = 0; kw < (merged_ ? 1 : s_.kernel[2]); ++kw) {
          *taps++ = row + kw * s_.dilation[2] * s_.in_channels;
        }
      }
    }
  }

  // All rows of one depth and one group of image n.
  GemmBlock<T> block(int64_t n, int64_t depth, int64_t group, const T* const* taps) const {
    const int64_t row = border_.size[2] * s_.in_channels;
    const int64_t width = gemm_functions<T>().panel_width;
    GemmBlock<T> g{};
    g.a = taps;
    g.taps = tap_count_;
    g.tap_length = s_.group_in() * (merged_ ? s_.kernel[2] : 1);
    g.a_offset = depth * s_.stride[0] * border_.size[1] * row + group * s_.group_in();
    g.a_stride = s_.stride[2] * s_.in_channels;
    g.a_group_stride = s_.stride[1] * row;
    g.groups = s_.out[1];
    g.rows = s_.out[2];
    g.b = v_.w + group * packed_size<T>(s_.taps() * s_.group_in(), s_.group_out());
    g.b_stride = width;
    g.b_panel_stride = width * s_.taps() * s_.group_in();
    const int64_t offset =
        (n * s_.out[0] + depth) * s_.out[1] * s_.out[2] * s_.out_channels + group * s_.group_out();
    g.c = v_.y + offset;
    g.c_stride = s_.out_channels;
    g.c_group_stride = s_.out[2] * s_.out_channels;
    g.columns = s_.group_out();
    g.epilogue = v_.epilogue;
    g.by_parts = v_.by_parts;
    if (g.epilogue.bias != nullptr) g.epilogue.bias += group * s_.group_out();
    if (g.epilogue.residual != nullptr) g.epilogue.residual += offset;
    return g;
  }

  const Convolution<T>& v_;
  const ConvSizes& s_;
  Bordered border_;
  bool merged_;
  int64_t tap_count_;
};

// A 1x1 convolution without stride is the product of all pixels with the weights.
template <class T>
void run_pointwise(RunContext& c, const Convolution<T>& v) {
  const ConvSizes& s = v.sizes;
  const T* a = v.x;
  GemmBlock<T> g = matrix_block<T>(&a, s.batch * s.out_pixels(), s.in_channels, s.in_channels, v.w,
                                   v.y, s.out_channels);
  g.epilogue = v.epilogue;
  g.by_parts = v.by_parts;
  if (!v.ahead.empty()) {
    g.ahead = reinterpret_cast<const char*>(v.ahead.data());
    g.ahead_bytes = static_cast<int64_t>(v.ahead.size());
  }
  multiply(c, g);
}

// A 1x1 convolution with a stride is the product of every so many pixels: they are copied together
// first, as rows of A that are a multiple of 4 KB apart share one set of the first cache.
template <class T>
void run_strided_pointwise(RunContext& c, const Convolution<T>& v) {
  const ConvSizes& s = v.sizes;
  const T* pixels = strided_pixels(c, s, v.x);
  Convolution<T> dense = v;
  dense.x = pixels;
  dense.sizes.in = s.out;
  dense.sizes.stride = {1, 1, 1};
  run_pointwise(c, dense);
}

bool is_pointwise(const ConvSizes& s) {
  return s.taps() == 1 && s.group == 1 && s.pad == Spatial{0, 0, 0};
}

// Whether weights are packed by tap, for vectors of channels.
template <class T>
bool is_by_channel(const ConvSizes& s) {
  return std::is_same_v<T, float> && (is_depthwise(s) || has_multiplier(s));
}

// Trailing axes of size 1 moved to the front, as the pixels of the last axis are computed together.
ConvSizes with_long_rows(ConvSizes s) {
  for (int i = 0; i < 2; ++i) {
    if (s.in[2] != 1 || s.kernel[2] != 1 || s.out[2] != 1 || s.pad[2] != 0) break;
    for (Spatial* sizes : {&s.in, &s.out, &s.kernel, &s.stride, &s.dilation, &s.pad}) {
      std::rotate(sizes->begin(), sizes->end() - 1, sizes->end());
    }
  }
  return s;
}

}  // namespace

template <class T>
const T* strided_pixels(RunContext& c, const ConvSizes& s, const T* x) {
  const int64_t channels = s.in_channels;
  T* pixels = c.workspace<T>(s.batch * s.out_pixels() * channels);
  c.parallel_for(s.batch * s.out[0] * s.out[1], static_cast<double>(s.out[2] * channels),
                 [&](int64_t begin, int64_t end) {
                   for (int64_t row = begin; row < end; ++row) {
                     const int64_t image = row / (s.out[0] * s.out[1]);
                     const int64_t depth = row / s.out[1] % s.out[0] * s.stride[0];
                     const int64_t from =
                         ((image * s.in[0] + depth) * s.in[1] + row % s.out[1] * s.stride[1]) *
                         s.in[2] * channels;
                     for (int64_t i = 0; i < s.out[2]; ++i) {
                       std::copy_n(x + from + i * s.stride[2] * channels, channels,
                                   pixels + (row * s.out[2] + i) * channels);
                     }
                   }
                 });
  return pixels;
}

template <class T>
void run_dense(RunContext& c, const Convolution<T>& v) {
  const ConvSizes& s = v.sizes;
  bool pointwise = !v.planes && is_pointwise(s);
  for (size_t i = 0; i < 3; ++i) pointwise &= (s.out[i] - 1) * s.stride[i] < s.in[i];
  if (pointwise && s.out == s.in) {
    run_pointwise(c, v);
  } else if (pointwise) {
    run_strided_pointwise(c, v);
  } else if (v.finite_weights && !v.planes && pays_tap_by_tap(s)) {
    run_tap_by_tap(c, v);
  } else {
    Dense<T>(v).run(c);
  }
}

int64_t spare_bytes(const ConvSizes& s) {
  if (!is_pointwise(s) || s.out != s.in) return 0;
  // Multiplications, on all cores, for each byte that comes from memory in the same time.
  constexpr double work_per_byte = 6;
  const double pixels =
      static_cast<double>(s.in[0]) * static_cast<double>(s.in[1]) * static_cast<double>(s.in[2]);
  const double weights = static_cast<double>(s.in_channels * s.out_channels);
  const double time = pixels * weights / work_per_byte - weights * sizeof(float);
  // The tiles of a product fetch about as much.
  const double most = std::ceil(pixels / gemm_functions<float>().tile_rows) * weights;
  constexpr double limit = 1 << 24;
  return static_cast<int64_t>(std::clamp(std::min(time, most), 0.0, limit));
}

template <class T>
int64_t packed_weights_size(const ConvSizes& s) {
  if (is_by_channel<T>(s)) return s.taps() * s.out_channels;
  return s.group * packed_size<T>(s.taps() * s.group_in(), s.group_out());
}

template <class T>
void pack_weights(const ConvSizes& s, const T* w, T* packed) {
  const int64_t taps = s.taps();
  const int64_t channels = s.group_in();
  if (is_by_channel<T>(s)) {
    for (int64_t i = 0; i < s.out_channels; ++i) {
      for (int64_t tap = 0; tap < taps; ++tap) packed[tap * s.out_channels + i] = w[i * taps + tap];
    }
    return;
  }
  const GemmFunctions<T>& functions = gemm_functions<T>();
  const int64_t width = functions.panel_width;
  const int64_t columns = s.group_out();
  for (int64_t g = 0; g < s.group; ++g) {
    for (int64_t j = 0; j < columns; j += width) {
      for (int64_t tap = 0; tap < taps; ++tap) {
        functions.pack_panel(w + (g * columns + j) * channels * taps + tap, taps, channels * taps,
                             channels, std::min(width, columns - j), packed);
        packed += channels * width;
      }
    }
  }
}

template <class T>
void run_convolution(RunContext& c, const Convolution<T>& convolution) {
  Convolution<T> v = convolution;
  v.sizes = with_long_rows(v.sizes);
  if (v.sizes.batch * v.sizes.out_pixels() * v.sizes.out_channels == 0) return;
  if (v.overlaps) return run_conv_overlaps(c, v);
  if constexpr (std::is_same_v<T, float>) {
    if (v.winograd_tile > 0) return run_winograd(c, v);
    if (is_depthwise(v.sizes)) return run_depthwise(c, v);
    if (has_multiplier(v.sizes)) return run_depthwise_multiplier(c, v);
  }
  run_dense(c, v);
}

#define BASCULE_CONVOLUTION_FOR(T)                            \
  template int64_t packed_weights_size<T>(const ConvSizes&);  \
  template void pack_weights(const ConvSizes&, const T*, T*); \
  template void run_convolution(RunContext&, const Convolution<T>&)
BASCULE_CONVOLUTION_FOR(float);
BASCULE_CONVOLUTION_FOR(double);
template const uint16_t* strided_pixels(RunContext&, const ConvSizes&, const uint16_t*);

}  // namespace bascule
