// SPDX-License-Identifier: Apache-2.0
// parts: 3_float32 3_float16 3_bfloat16
// parts: 5_float32 5_float16 5_bfloat16
// parts: 7_float32 7_float16 7_bfloat16
// Depthwise convolutions of images with channels last: one thread has 16 bytes of channels of
// `tile` outputs in a row. Weights are [taps, C]. Indices fit 32 bits.
#include "activation.cuh"

struct Depthwise {
  int batch, channels, height, width, out_height, out_width, pad_top, pad_left;
};

template <typename T, int kernel, int stride, int tile>
__device__ inline void depthwise(const T* x, const T* w, const T* bias, const T* residual, T* y,
                                 const Depthwise& s, const Activation& a) {
  constexpr int lanes = 16 / sizeof(T);
  struct alignas(16) Vector {
    T items[lanes];
  };
  const int vectors = s.channels / lanes, tiles = (s.out_width + tile - 1) / tile;
  int rest = static_cast<int>(thread_number());
  const int channel = rest % vectors * lanes;
  rest /= vectors;
  const int first = rest % tiles * tile;
  rest /= tiles;
  const int row = rest % s.out_height, image = rest / s.out_height;
  if (image >= s.batch) return;

  float sums[tile][lanes] = {};
#pragma unroll 1
  for (int ky = 0; ky < kernel; ++ky) {
    const int from = row * stride - s.pad_top + ky;
    if (from < 0 || from >= s.height) continue;
    float weights[kernel][lanes];
#pragma unroll
    for (int kx = 0; kx < kernel; ++kx) {
      const Vector v =
          *reinterpret_cast<const Vector*>(w + (ky * kernel + kx) * s.channels + channel);
#pragma unroll
      for (int i = 0; i < lanes; ++i) weights[kx][i] = widen(v.items[i]);
    }
    const T* pixels = x + (image * s.height + from) * s.width * s.channels + channel;
#pragma unroll
    for (int j = 0; j < (tile - 1) * stride + kernel; ++j) {
      const int column = first * stride - s.pad_left + j;
      if (column < 0 || column >= s.width) continue;
      const Vector v = *reinterpret_cast<const Vector*>(pixels + column * s.channels);
#pragma unroll
      for (int t = 0; t < tile; ++t) {
        const int kx = j - t * stride;
        if (kx < 0 || kx >= kernel) continue;
#pragma unroll
        for (int i = 0; i < lanes; ++i) sums[t][i] += widen(v.items[i]) * weights[kx][i];
      }
    }
  }

  Vector biases;
  if (bias != nullptr) biases = *reinterpret_cast<const Vector*>(bias + channel);
#pragma unroll
  for (int t = 0; t < tile; ++t) {
    if (first + t >= s.out_width) break;
    const int at = ((image * s.out_height + row) * s.out_width + first + t) * s.channels + channel;
    Vector v;
    if (residual != nullptr) v = *reinterpret_cast<const Vector*>(residual + at);
#pragma unroll
    for (int i = 0; i < lanes; ++i) {
      float sum = sums[t][i];
      if (bias != nullptr) sum += widen(biases.items[i]);
      if (residual != nullptr) sum += widen(v.items[i]);
      v.items[i] = narrow<T>(activate(a, sum));
    }
    *reinterpret_cast<Vector*>(y + at) = v;
  }
}

#define DEPTHWISE(name, T, kernel, stride, tile)                                             \
  extern "C" __global__ void __launch_bounds__(128)                                          \
      depthwise_##kernel##_##stride##_##tile##_##name(const T* x, const T* w, const T* bias, \
                                                      const T* residual, T* y, Depthwise s,  \
                                                      Activation a) {                        \
    wait_for_previous_kernels();                                                             \
    depthwise<T, kernel, stride, tile>(x, w, bias, residual, y, s, a);                       \
  }
#define DEPTHWISE_KERNEL(name, T, kernel)                                                    \
  IN_PART(kernel##_##name, DEPTHWISE(name, T, kernel, 1, 1) DEPTHWISE(name, T, kernel, 1, 4) \
                               DEPTHWISE(name, T, kernel, 2, 1) DEPTHWISE(name, T, kernel, 2, 4))
#define DEPTHWISE_TYPE(name, T) \
  DEPTHWISE_KERNEL(name, T, 3)  \
  DEPTHWISE_KERNEL(name, T, 5)  \
  DEPTHWISE_KERNEL(name, T, 7)
DEPTHWISE_TYPE(float32, float)
DEPTHWISE_TYPE(float16, float16)
DEPTHWISE_TYPE(bfloat16, bfloat16)
