// SPDX-License-Identifier: Apache-2.0
// Pools over windows and over whole planes.
//
// Up to three spatial axes; missing ones come first and have size 1. Channels are first or last.
#include "common.cuh"

struct Pool {
  int64_t batch, channels, channels_last;
  int64_t in[3], out[3], kernel[3], stride[3], dilation[3], pad[3], after[3];

  __device__ int64_t in_pixels() const { return in[0] * in[1] * in[2]; }
  __device__ int64_t out_pixels() const { return out[0] * out[1] * out[2]; }
  __device__ int64_t outputs() const { return batch * channels * out_pixels(); }
};

// The taps of a window along one axis: `count` are inside the input, the first of them at `start`;
// `padded` are inside the input and its padding.
struct Taps {
  int64_t start, count, padded;

  __device__ Taps(const Pool& p, int axis, int64_t o) {
    const int64_t origin = o * p.stride[axis] - p.pad[axis];
    const int64_t kernel = p.kernel[axis], dilation = p.dilation[axis];
    const int64_t first = below(0, origin, kernel, dilation);
    const int64_t inside = below(p.in[axis], origin, kernel, dilation) - first;
    count = inside > 0 ? inside : 0;
    start = origin + first * dilation;
    padded = below(p.in[axis] + p.after[axis], origin, kernel, dilation);
  }

 private:
  __device__ static int64_t below(int64_t limit, int64_t origin, int64_t kernel, int64_t dilation) {
    if (limit <= origin) return 0;
    const int64_t taps = (limit - origin + dilation - 1) / dilation;
    return taps < kernel ? taps : kernel;
  }
};

// The window of output element i, and the plane of X that it moves over.
struct Window {
  int64_t plane;  // image * channels + channel
  int64_t base;   // of the plane, in elements
  int64_t step;   // from pixel to pixel
  Taps d, h, w;

  __device__ Window(const Pool& p, int64_t i) : Window(p, place(p, i)) {}

  __device__ int64_t taps() const { return d.count * h.count * w.count; }
  __device__ int64_t padded() const { return d.padded * h.padded * w.padded; }

  // body(pixel) in memory order.
  template <typename Body>
  __device__ void for_taps(const Pool& p, Body&& body) const {
    for (int64_t z = 0; z < d.count; ++z) {
      for (int64_t y = 0; y < h.count; ++y) {
        const int64_t row = (d.start + z * p.dilation[0]) * p.in[1] + h.start + y * p.dilation[1];
        for (int64_t x = 0; x < w.count; ++x) body(row * p.in[2] + w.start + x * p.dilation[2]);
      }
    }
  }

 private:
  struct Place {
    int64_t image, channel, pixel;
  };
  __device__ static Place place(const Pool& p, int64_t i) {
    const int64_t pixels = p.out_pixels();
    if (p.channels_last) {
      return {i / p.channels / pixels, i % p.channels, i / p.channels % pixels};
    }
    return {i / pixels / p.channels, i / pixels % p.channels, i % pixels};
  }
  __device__ Window(const Pool& p, const Place& at)
      : plane(at.image * p.channels + at.channel),
        base(p.channels_last ? at.image * p.in_pixels() * p.channels + at.channel
                             : plane * p.in_pixels()),
        step(p.channels_last ? p.channels : 1),
        d(p, 0, at.pixel / p.out[2] / p.out[1]),
        h(p, 1, at.pixel / p.out[2] % p.out[1]),
        w(p, 2, at.pixel % p.out[2]) {}
};

template <typename T>
__device__ inline T least() {
  return static_cast<T>(-1) < static_cast<T>(1) ? static_cast<T>(1ull << (8 * sizeof(T) - 1))
                                                : T{0};
}
template <>
__device__ inline float least<float>() {
  return -INFINITY;
}
template <>
__device__ inline double least<double>() {
  return -INFINITY;
}

// NaN wins. Indices count in all of X, by columns or by rows; -1 for a window with nothing in it.
template <typename T>
__device__ inline void max_pool(const T* x, T* y, int64_t* indices, const Pool& p,
                                int column_major) {
  using W = wide_t<T>;
  const int64_t outputs = p.outputs();
  for (int64_t i = thread_number(); i < outputs; i += thread_count()) {
    const Window window(p, i);
    W best = least<W>();
    int64_t at = -1;
    window.for_taps(p, [&](int64_t pixel) {
      const W value = widen(x[window.base + pixel * window.step]);
      if (value > best || value != value || at < 0) {
        best = value;
        at = pixel;
      }
    });
    y[i] = narrow<T>(best);
    if (indices == nullptr) continue;
    if (at >= 0 && column_major) {
      at = (at % p.in[2] * p.in[1] + at / p.in[2] % p.in[1]) * p.in[0] + at / p.in[2] / p.in[1];
    }
    indices[i] = at < 0 ? -1 : window.plane * p.in_pixels() + at;
  }
}

template <typename T>
__device__ inline void average_pool(const T* x, T* y, const Pool& p, int count_padded) {
  using W = wide_t<T>;
  const int64_t outputs = p.outputs();
  for (int64_t i = thread_number(); i < outputs; i += thread_count()) {
    const Window window(p, i);
    W sum = 0;
    window.for_taps(p, [&](int64_t pixel) { sum += widen(x[window.base + pixel * window.step]); });
    y[i] = narrow<T>(sum / static_cast<W>(count_padded ? window.padded() : window.taps()));
  }
}

__device__ inline double power_of(double x, double p) {
  x = fabs(x);
  return p == 1 ? x : p == 2 ? x * x : pow(x, p);
}
__device__ inline double root_of(double x, double p) {
  return p == 1 ? x : p == 2 ? sqrt(x) : pow(x, 1 / p);
}

template <typename T>
__device__ inline void lp_pool(const T* x, T* y, const Pool& p, double power) {
  const int64_t outputs = p.outputs();
  for (int64_t i = thread_number(); i < outputs; i += thread_count()) {
    const Window window(p, i);
    double sum = 0;
    window.for_taps(p, [&](int64_t pixel) {
      sum += power_of(static_cast<double>(widen(x[window.base + pixel * window.step])), power);
    });
    y[i] = narrow<T>(static_cast<wide_t<T>>(root_of(sum, power)));
  }
}

#define MAX_POOL(name, T)                                                                \
  extern "C" __global__ void max_pool_##name(const T* x, T* y, int64_t* indices, Pool p, \
                                             int column_major) {                         \
    wait_for_previous_kernels();                                                         \
    max_pool(x, y, indices, p, column_major);                                            \
  }
FOR_NUMBERS(MAX_POOL)

// Images with channels last: a thread has 16 bytes of channels of one output. Indices fit 32 bits.
struct ImagePool {
  int batch, channels, height, width, out_height, out_width;
  int kernel[2], stride[2], dilation[2], pad[2];
};

template <typename T>
__device__ inline void max_pool_image(const T* x, T* y, const ImagePool& s) {
  constexpr int lanes = 16 / sizeof(T);
  struct alignas(16) Vector {
    T items[lanes];
  };
  const int vectors = s.channels / lanes;
  int rest = static_cast<int>(thread_number());
  const int channel = rest % vectors * lanes;
  rest /= vectors;
  const int column = rest % s.out_width;
  rest /= s.out_width;
  const int row = rest % s.out_height, image = rest / s.out_height;
  if (image >= s.batch) return;
  float best[lanes];
  for (int i = 0; i < lanes; ++i) best[i] = -INFINITY;
  for (int ky = 0; ky < s.kernel[0]; ++ky) {
    const int from = row * s.stride[0] - s.pad[0] + ky * s.dilation[0];
    if (from < 0 || from >= s.height) continue;
    for (int kx = 0; kx < s.kernel[1]; ++kx) {
      const int at = column * s.stride[1] - s.pad[1] + kx * s.dilation[1];
      if (at < 0 || at >= s.width) continue;
      const Vector v = *reinterpret_cast<const Vector*>(
          x + ((image * s.height + from) * s.width + at) * s.channels + channel);
#pragma unroll
      for (int i = 0; i < lanes; ++i) best[i] = Largest()(best[i], widen(v.items[i]));
    }
  }
  Vector v;
#pragma unroll
  for (int i = 0; i < lanes; ++i) v.items[i] = narrow<T>(best[i]);
  *reinterpret_cast<Vector*>(
      y + ((image * s.out_height + row) * s.out_width + column) * s.channels + channel) = v;
}

#define MAX_POOL_IMAGE(name, T)                              \
  extern "C" __global__ void __launch_bounds__(128)          \
      max_pool_image_##name(const T* x, T* y, ImagePool s) { \
    wait_for_previous_kernels();                             \
    max_pool_image(x, y, s);                                 \
  }
MAX_POOL_IMAGE(float32, float)
MAX_POOL_IMAGE(float16, float16)
MAX_POOL_IMAGE(bfloat16, bfloat16)

#define POOLS(name, T)                                                                         \
  extern "C" __global__ void average_pool_##name(const T* x, T* y, Pool p, int count_padded) { \
    wait_for_previous_kernels();                                                               \
    average_pool(x, y, p, count_padded);                                                       \
  }                                                                                            \
  extern "C" __global__ void lp_pool_##name(const T* x, T* y, Pool p, double power) {          \
    wait_for_previous_kernels();                                                               \
    lp_pool(x, y, p, power);                                                                   \
  }
FOR_FLOATS(POOLS)

// Whole planes [planes, n]: a warp for each, or with few of them a block.
template <typename T, typename W, typename Load, typename Join>
__device__ inline W fold_plane(const T* x, int64_t n, W neutral, Load&& load, Join&& join) {
  W result = neutral;
  for (int64_t i = threadIdx.x; i < n; i += blockDim.x) result = join(result, load(widen(x[i])));
  return block_reduce(result, neutral, join);
}

#define GLOBAL_POOLS(name, T)                                                                     \
  extern "C" __global__ void global_average_pool_##name(const T* x, T* y, int64_t n) {            \
    wait_for_previous_kernels();                                                                  \
    using W = wide_t<T>;                                                                          \
    const W sum = fold_plane<T, W>(x + blockIdx.x * n, n, W{0}, [](W v) { return v; }, Sum());    \
    if (threadIdx.x == 0) y[blockIdx.x] = narrow<T>(sum / static_cast<W>(n));                     \
  }                                                                                               \
  extern "C" __global__ void global_max_pool_##name(const T* x, T* y, int64_t n) {                \
    wait_for_previous_kernels();                                                                  \
    using W = wide_t<T>;                                                                          \
    const W top =                                                                                 \
        fold_plane<T, W>(x + blockIdx.x * n, n, -INFINITY, [](W v) { return v; }, Largest());     \
    if (threadIdx.x == 0) y[blockIdx.x] = narrow<T>(top);                                         \
  }                                                                                               \
  extern "C" __global__ void global_lp_pool_##name(const T* x, T* y, int64_t n, double power) {   \
    wait_for_previous_kernels();                                                                  \
    using W = wide_t<T>;                                                                          \
    const double sum = fold_plane<T, double>(                                                     \
        x + blockIdx.x * n, n, 0.0, [=](W v) { return power_of(static_cast<double>(v), power); }, \
        Sum());                                                                                   \
    if (threadIdx.x == 0) y[blockIdx.x] = narrow<T>(static_cast<W>(root_of(sum, power)));         \
  }
FOR_FLOATS(GLOBAL_POOLS)
