// SPDX-License-Identifier: Apache-2.0
// Conv, ConvTranspose, DeformConv and the integer convolutions, one thread for each output element;
// and what follows on a convolution of a library.
//
// Up to three spatial axes; missing ones come first and have size 1. Channels are first or last:
// strides tell where the elements are.
#include "activation.cuh"

// Sizes and strides, in elements. Channels are counted in a group.
struct Convolution {
  int64_t batch, groups, group_in, group_out;
  int64_t in[3], out[3], kernel[3], stride[3], dilation[3], pad[3];
  int64_t x_channel, x_pixel;  // strides of X in an image
  int64_t w_out, w_in, w_tap;  // strides of W in a group
  int64_t w_group;             // from one group of W to the next
  int64_t channels_last;

  __device__ int64_t in_pixels() const { return in[0] * in[1] * in[2]; }
  __device__ int64_t out_pixels() const { return out[0] * out[1] * out[2]; }
  __device__ int64_t out_channels() const { return groups * group_out; }
  __device__ int64_t outputs() const { return batch * out_channels() * out_pixels(); }
};

// An output element: its image, channel and place.
struct Output {
  int64_t image, channel, pixel;
  int64_t at[3];

  __device__ Output(const Convolution& c, int64_t i) {
    const int64_t pixels = c.out_pixels(), channels = c.out_channels();
    if (c.channels_last) {
      channel = i % channels;
      pixel = i / channels % pixels;
    } else {
      pixel = i % pixels;
      channel = i / pixels % channels;
    }
    image = i / channels / pixels;
    at[2] = pixel % c.out[2];
    at[1] = pixel / c.out[2] % c.out[1];
    at[0] = pixel / c.out[2] / c.out[1];
  }
};

// The place on one axis that a tap reads for output o, -1 for one that is outside.
template <bool transposed>
__device__ inline int64_t place(const Convolution& c, int axis, int64_t o, int64_t tap) {
  int64_t i;
  if constexpr (transposed) {
    i = o + c.pad[axis] - tap * c.dilation[axis];
    if (i < 0 || i % c.stride[axis] != 0) return -1;
    i /= c.stride[axis];
  } else {
    i = o * c.stride[axis] - c.pad[axis] + tap * c.dilation[axis];
  }
  return i < c.in[axis] ? i : -1;
}

// body(pixel of X, tap) for the taps of an output that are inside.
template <bool transposed, typename Body>
__device__ inline void for_taps(const Convolution& c, const Output& o, Body&& body) {
  for (int64_t d = 0; d < c.kernel[0]; ++d) {
    const int64_t z = place<transposed>(c, 0, o.at[0], d);
    if (z < 0) continue;
    for (int64_t h = 0; h < c.kernel[1]; ++h) {
      const int64_t y = place<transposed>(c, 1, o.at[1], h);
      if (y < 0) continue;
      for (int64_t w = 0; w < c.kernel[2]; ++w) {
        const int64_t x = place<transposed>(c, 2, o.at[2], w);
        if (x < 0) continue;
        body((z * c.in[1] + y) * c.in[2] + x, (d * c.kernel[1] + h) * c.kernel[2] + w);
      }
    }
  }
}

// The sum over taps and channels, in this order.
template <bool transposed, typename X, typename T>
__device__ inline wide_t<T> convolve(const Convolution& c, const Output& o, const X* x,
                                     const T* w) {
  const int64_t group = o.channel / c.group_out;
  x += o.image * c.groups * c.group_in * c.in_pixels() + group * c.group_in * c.x_channel;
  w += group * c.w_group + o.channel % c.group_out * c.w_out;
  wide_t<T> sum = 0;
  for_taps<transposed>(c, o, [&](int64_t pixel, int64_t tap) {
    const X* from = x + pixel * c.x_pixel;
    const T* by = w + tap * c.w_tap;
    for (int64_t i = 0; i < c.group_in; ++i) {
      sum += widen(from[i * c.x_channel]) * widen(by[i * c.w_in]);
    }
  });
  return sum;
}

template <bool transposed, typename X, typename T>
__device__ inline void convolution(const X* x, const T* w, const T* bias, const T* residual, T* y,
                                   const Convolution& c, const Activation& a) {
  const int64_t outputs = c.outputs();
  for (int64_t i = thread_number(); i < outputs; i += thread_count()) {
    const Output o(c, i);
    wide_t<T> sum = convolve<transposed>(c, o, x, w);
    if (bias != nullptr) sum += widen(bias[o.channel]);
    if (residual != nullptr) sum += widen(residual[i]);
    y[i] = narrow<T>(activate(a, sum));
  }
}

// Transposed, an output has taps of its phase only: X and Y of Conv have changed their places.
#define CONVOLUTIONS(name, T)                                                                      \
  extern "C" __global__ void convolution_##name(const T* x, const T* w, const T* bias,             \
                                                const T* residual, T* y, Convolution c,            \
                                                Activation a) {                                    \
    wait_for_previous_kernels();                                                                   \
    convolution<false>(x, w, bias, residual, y, c, a);                                             \
  }                                                                                                \
  extern "C" __global__ void transposed_convolution_##name(const T* x, const T* w, const T* bias,  \
                                                           const T* residual, T* y, Convolution c, \
                                                           Activation a) {                         \
    wait_for_previous_kernels();                                                                   \
    convolution<true>(x, w, bias, residual, y, c, a);                                              \
  }                                                                                                \
  extern "C" __global__ void columns_convolution_##name(const wide_t<T>* x, const T* w,            \
                                                        const T* bias, T* y, Convolution c) {      \
    wait_for_previous_kernels();                                                                   \
    convolution<false>(x, w, bias, static_cast<const T*>(nullptr), y, c, Activation{0, 0, 0});     \
  }
FOR_FLOATS(CONVOLUTIONS)

// In place: y = activation(y + bias + residual), where bias and residual may be null. `inner`
// elements of y in a row are of one channel.
template <typename T>
__device__ inline void finish(T* y, const T* bias, const T* residual, int64_t n, int64_t channels,
                              int64_t inner, const Activation& a) {
  constexpr int width = 16 / sizeof(T);
  struct alignas(16) Vector {
    T items[width];
  };
  // Addresses are those of whole tensors: aligned.
  for (int64_t v = thread_number(); v * width < n; v += thread_count()) {
    const int64_t first = v * width;
    const int count = n - first < width ? static_cast<int>(n - first) : width;
    Vector values;
    if (count == width) {
      values = *reinterpret_cast<const Vector*>(y + first);
    } else {
      for (int j = 0; j < count; ++j) values.items[j] = y[first + j];
    }
    for (int j = 0; j < width; ++j) {
      if (j >= count) break;
      wide_t<T> value = widen(values.items[j]);
      if (bias != nullptr) value += widen(bias[(first + j) / inner % channels]);
      if (residual != nullptr) value += widen(residual[first + j]);
      values.items[j] = narrow<T>(activate(a, value));
    }
    if (count == width) {
      *reinterpret_cast<Vector*>(y + first) = values;
    } else {
      for (int j = 0; j < count; ++j) y[first + j] = values.items[j];
    }
  }
}

#define FINISH(name, T)                                                                  \
  extern "C" __global__ void __launch_bounds__(256)                                      \
      finish_##name(T* y, const T* bias, const T* residual, int64_t n, int64_t channels, \
                    int64_t inner, Activation a) {                                       \
    wait_for_previous_kernels();                                                         \
    finish(y, bias, residual, n, channels, inner, a);                                    \
  }
FOR_FLOATS(FINISH)

// W [outer, rows, columns] to [outer, columns, rows]: taps before channels, or channels last of
// all.
#define SWAP(bytes, T)                                                                           \
  extern "C" __global__ void swap_weights_##bytes(const T* w, T* y, int64_t outer, int64_t rows, \
                                                  int64_t columns) {                             \
    wait_for_previous_kernels();                                                                 \
    for (int64_t i = thread_number(); i < outer * rows * columns; i += thread_count()) {         \
      const int64_t row = i % rows, column = i / rows % columns, block = i / rows / columns;     \
      y[i] = w[(block * rows + row) * columns + column];                                         \
    }                                                                                            \
  }
FOR_WIDTHS(SWAP)

// DeformConv: what each tap of each output pixel sees, [N, C, taps, pixels], for a convolution with
// one tap over C * taps channels. Offsets [N, offset groups, taps, axes, pixels], in pixels; the
// mask [N, offset groups, taps, pixels] may be null.
template <typename T>
__device__ inline void deformed_columns(const T* x, const T* offset, const T* mask,
                                        wide_t<T>* columns, const Convolution& c,
                                        int64_t offset_groups, int axes) {
  using W = wide_t<T>;
  const int64_t pixels = c.out_pixels(), channels = c.groups * c.group_in;
  const int64_t taps = c.kernel[0] * c.kernel[1] * c.kernel[2];
  for (int64_t i = thread_number(); i < c.batch * channels * taps * pixels; i += thread_count()) {
    const int64_t pixel = i % pixels, tap = i / pixels % taps;
    const int64_t channel = i / pixels / taps % channels, image = i / pixels / taps / channels;
    const int64_t plane =
        (image * offset_groups + channel / (channels / offset_groups)) * taps + tap;
    const int64_t at[3] = {pixel / (c.out[1] * c.out[2]), pixel / c.out[2] % c.out[1],
                           pixel % c.out[2]};
    const int64_t of_tap[3] = {tap / (c.kernel[1] * c.kernel[2]), tap / c.kernel[2] % c.kernel[1],
                               tap % c.kernel[2]};
    int64_t low[3];
    W part[3];
    bool outside = false;
    for (int axis = 0; axis < 3; ++axis) {
      W to =
          static_cast<W>(at[axis] * c.stride[axis] - c.pad[axis] + of_tap[axis] * c.dilation[axis]);
      if (axis >= 3 - axes) {
        to += widen(offset[(plane * axes + axis - (3 - axes)) * pixels + pixel]);
      }
      // Also what is not a number, or no integer can hold.
      if (!(to > -1 && to < static_cast<W>(c.in[axis]))) {
        outside = true;
        break;
      }
      const W below = floor(to);
      low[axis] = static_cast<int64_t>(below);
      part[axis] = to - below;
    }
    W sum = 0;
    if (!outside) {
      const T* image_x = x + (image * channels + channel) * c.in_pixels();
      const W factor = mask == nullptr ? W{1} : widen(mask[plane * pixels + pixel]);
      for (int corner = 0; corner < 8; ++corner) {
        int64_t from = 0;
        W share = factor;
        bool inside = true;
        for (int axis = 0; axis < 3; ++axis) {
          const bool high = (corner >> axis & 1) != 0;
          const int64_t index = low[axis] + (high ? 1 : 0);
          share *= high ? part[axis] : 1 - part[axis];
          inside = inside && index >= 0 && index < c.in[axis];
          from = from * c.in[axis] + index;
        }
        if (inside && share != 0) sum += share * widen(image_x[from]);
      }
    }
    columns[i] = sum;
  }
}

#define DEFORMED(name, T)                                                                        \
  extern "C" __global__ void deformed_columns_##name(const T* x, const T* offset, const T* mask, \
                                                     wide_t<T>* columns, Convolution c,          \
                                                     int64_t offset_groups, int axes) {          \
    wait_for_previous_kernels();                                                                 \
    deformed_columns(x, offset, mask, columns, c, offset_groups, axes);                          \
  }
FOR_FLOATS(DEFORMED)

// Integers less their zero points; sums wrap around. `x_zero` and `w_zero` may be null; `w_zero`
// has one value, or one for each channel.
template <typename X, typename W>
__device__ inline int32_t convolve_integers(const X* x, const W* w, const X* x_zero,
                                            const W* w_zero, int64_t w_zeros, const Convolution& c,
                                            const Output& o) {
  const int32_t of_x = x_zero == nullptr ? 0 : *x_zero;
  const int32_t of_w = w_zero == nullptr ? 0 : w_zero[w_zeros == 1 ? 0 : o.channel];
  const int64_t group = o.channel / c.group_out;
  x += o.image * c.groups * c.group_in * c.in_pixels() + group * c.group_in * c.x_channel;
  w += group * c.w_group + o.channel % c.group_out * c.w_out;
  uint32_t sum = 0;
  for_taps<false>(c, o, [&](int64_t pixel, int64_t tap) {
    const X* from = x + pixel * c.x_pixel;
    const W* by = w + tap * c.w_tap;
    for (int64_t i = 0; i < c.group_in; ++i) {
      const int32_t left = from[i * c.x_channel], right = by[i * c.w_in];
      sum += static_cast<uint32_t>((left - of_x) * (right - of_w));
    }
  });
  return static_cast<int32_t>(sum);
}

#define INTEGER_CONVOLUTION(x_name, X, w_name, W)                                            \
  extern "C" __global__ void integer_convolution_##x_name##_##w_name(                        \
      const X* x, const W* w, const X* x_zero, const W* w_zero, int64_t w_zeros, int32_t* y, \
      Convolution c) {                                                                       \
    wait_for_previous_kernels();                                                             \
    const int64_t outputs = c.outputs();                                                     \
    for (int64_t i = thread_number(); i < outputs; i += thread_count()) {                    \
      const Output o(c, i);                                                                  \
      y[i] = convolve_integers(x, w, x_zero, w_zero, w_zeros, c, o);                         \
    }                                                                                        \
  }
INTEGER_CONVOLUTION(int8, int8_t, int8, int8_t)
INTEGER_CONVOLUTION(int8, int8_t, uint8, uint8_t)
INTEGER_CONVOLUTION(uint8, uint8_t, int8, int8_t)
INTEGER_CONVOLUTION(uint8, uint8_t, uint8, uint8_t)

// Sums [N, channels, pixels] with their bias, scaled and rounded to 8 bits. `w_scale` has one
// value, or one for each channel; bias and y_zero may be null.
template <typename Y>
__device__ inline void requantize(const int32_t* sums, const int32_t* bias, const float* x_scale,
                                  const float* w_scale, int64_t w_scales, const float* y_scale,
                                  const Y* y_zero, Y* y, int64_t n, int64_t channels,
                                  int64_t pixels) {
  const float least = static_cast<Y>(-1) < static_cast<Y>(1) ? -128.0f : 0.0f;
  const float zero = y_zero == nullptr ? 0.0f : static_cast<float>(*y_zero);
  for (int64_t i = thread_number(); i < n; i += thread_count()) {
    const int64_t channel = i / pixels % channels;
    const float factor = *x_scale * w_scale[w_scales == 1 ? 0 : channel] / *y_scale;
    uint32_t sum = static_cast<uint32_t>(sums[i]);
    if (bias != nullptr) sum += static_cast<uint32_t>(bias[channel]);
    const float value = nearbyintf(static_cast<float>(static_cast<int32_t>(sum)) * factor) + zero;
    // What is not a number becomes the least.
    y[i] = static_cast<Y>(!(value > least) ? least : value > least + 255 ? least + 255 : value);
  }
}

#define REQUANTIZE(name, Y)                                                                       \
  extern "C" __global__ void requantize_##name(                                                   \
      const int32_t* sums, const int32_t* bias, const float* x_scale, const float* w_scale,       \
      int64_t w_scales, const float* y_scale, const Y* y_zero, Y* y, int64_t n, int64_t channels, \
      int64_t pixels) {                                                                           \
    wait_for_previous_kernels();                                                                  \
    requantize(sums, bias, x_scale, w_scale, w_scales, y_scale, y_zero, y, n, channels, pixels);  \
  }
REQUANTIZE(int8, int8_t)
REQUANTIZE(uint8, uint8_t)
