// SPDX-License-Identifier: Apache-2.0
// Normalizations by moments that stand in memory: of channels of images, of any axes; by norms of
// lines; by neighbouring channels. W is the type that elements of type T are computed with.
#include "rows.cuh"

// As kernels/reduction.cuh leaves them.
template <typename W>
struct Moments {
  W count, mean, squares;

  __device__ W variance() const { return squares / count; }
};

template <typename W>
__device__ inline W inverse_root(W variance, float epsilon) {
  return 1 / sqrt(variance + static_cast<W>(epsilon));
}

// For channel c of image n: the mean of its group of `size` channels, and scale / deviation.
template <typename W>
__device__ void group_factors(const Moments<W>* moments, const W* scale, W* means, W* factors,
                              int64_t all, int64_t channels, int64_t size, float epsilon) {
  const int64_t id = thread_number();
  if (id >= all) return;
  const Moments<W> group = moments[id / size];
  means[id] = group.mean;
  factors[id] = scale[id % channels] * inverse_root(group.variance(), epsilon);
}

template <typename W>
__device__ void channel_factors(const W* variance, const W* scale, W* factors, int64_t channels,
                                float epsilon) {
  const int64_t id = thread_number();
  if (id < channels) factors[id] = scale[id] * inverse_root(variance[id], epsilon);
}

// `value` is the mean, or the variance: the running one moves towards that of the batch.
template <typename W>
__device__ void running(const Moments<W>* moments, const W* before, W* after, int64_t channels,
                        float momentum, bool of_variance) {
  const int64_t id = thread_number();
  if (id >= channels) return;
  const Moments<W> batch = moments[id];
  const W mean = batch.count > 0 ? batch.mean : static_cast<W>(NAN);  // nothing has no mean
  const W value = of_variance ? batch.variance() : mean, keep = momentum;
  after[id] = before[id] * keep + value * (1 - keep);
}

// y = (x - means[c]) * factors[c] + bias[c], where c is the channel of an element: `inner` elements
// belong to one, then to the next. Images of `size` elements; each has means and factors of its own
// where `step` is not 0. Blocks along y take images. I: wide enough for `size`.
template <typename T, typename I>
__device__ void affine(const T* x, const wide_t<T>* means, const wide_t<T>* factors,
                       const wide_t<T>* bias, T* y, int64_t images, I size, I inner, I channels,
                       int64_t step, bool aligned) {
  constexpr int width = Pack<T>::width;
  const I packs = (size + width - 1) / width;
  for (int64_t image = blockIdx.y; image < images; image += gridDim.y) {
    const T* from = x + image * size;
    T* to = y + image * size;
    for (I pack = thread_number(); pack < packs; pack += thread_count()) {
      const I first = pack * width;
      Pack<T> values = load_pack(from, first, size, aligned, wide_t<T>(0));
      I pixel = first % inner, channel = first / inner % channels;
#pragma unroll
      for (int i = 0; i < width; ++i) {
        const int64_t at = image * step + channel;
        values.data[i] = (values.data[i] - means[at]) * factors[at] + bias[channel];
        if (++pixel == inner) {
          pixel = 0;
          if (++channel == channels) channel = 0;
        }
      }
      store_pack(to, first, size, aligned, values);
    }
  }
}

// Axes of a tensor, and how many elements of the kept ones an index of each skips (0: averaged).
struct Axes {
  int64_t rank;
  int64_t sizes[16], steps[16];
};

// (x - mean) / (deviation + 1e-9), with moments of any axes.
template <typename T>
__device__ void mean_variance(const T* x, const Moments<wide_t<T>>* moments, T* y, int64_t size,
                              const Axes& axes) {
  using W = wide_t<T>;
  for (int64_t i = thread_number(); i < size; i += thread_count()) {
    int64_t rest = i, at = 0;
    for (int axis = static_cast<int>(axes.rank) - 1; axis >= 0; --axis) {
      at += rest % axes.sizes[axis] * axes.steps[axis];
      rest /= axes.sizes[axis];
    }
    const Moments<W> one = moments[at];
    const W scale = 1 / (sqrt(one.variance()) + static_cast<W>(1e-9));
    y[i] = narrow<T>((widen(x[i]) - one.mean) * scale);
  }
}

// A team of `lanes` threads, 1 or 32, for each line of [outer, n, inner], divided by its L1 or L2
// norm; a line of zeros stays. Sums in double: squares of floats do not leave its range.
template <typename T>
__device__ void divide_by_norm(const T* x, T* y, int64_t lines, int64_t n, int64_t inner, int lanes,
                               bool squares) {
  using W = wide_t<T>;
  const int64_t id = thread_number() / lanes;
  if (id >= lines) return;
  const int lane = threadIdx.x % lanes;
  const int64_t offset = id / inner * n * inner + id % inner;
  double sum = 0;
  for (int64_t i = lane; i < n; i += lanes) {
    const double value = widen(x[offset + i * inner]);
    sum += squares ? value * value : fabs(value);
  }
  if (lanes == 32) sum = warp_reduce(sum, Sum());
  const W norm = static_cast<W>(squares ? sqrt(sum) : sum);
  for (int64_t i = lane; i < n; i += lanes) {
    const int64_t at = offset + i * inner;
    y[at] = narrow<T>(norm == 0 ? W(0) : widen(x[at]) / norm);
  }
}

// x / (bias + alpha / size * sum of squares of `size` neighbouring channels)^beta on [images,
// channels, pixels].
template <typename T>
__device__ void local_response(const T* x, T* y, int64_t count, int64_t channels, int64_t pixels,
                               int64_t size, float alpha, float beta, float bias) {
  using W = wide_t<T>;
  const int64_t before = (size - 1) / 2, after = size / 2;
  for (int64_t i = thread_number(); i < count; i += thread_count()) {
    const int64_t channel = i / pixels % channels;
    const int64_t from = channel < before ? 0 : channel - before;
    const int64_t to = channels - 1 - channel < after ? channels - 1 : channel + after;
    W sum = 0;
    for (int64_t other = from; other <= to; ++other) {
      const W value = widen(x[i + (other - channel) * pixels]);
      sum += value * value;
    }
    const W base = static_cast<W>(bias) + static_cast<W>(alpha) / static_cast<W>(size) * sum;
    const W divisor = beta == 0.5f    ? sqrt(base)
                      : beta == 0.75f ? sqrt(base) * sqrt(sqrt(base))
                      : beta == 1.0f  ? base
                                      : pow(base, static_cast<W>(beta));
    y[i] = narrow<T>(widen(x[i]) / divisor);
  }
}

#define PER_CHANNEL(name, W)                                                                       \
  extern "C" __global__ void group_factors_##name(const void* moments, const W* scale, W* means,   \
                                                  W* factors, int64_t all, int64_t channels,       \
                                                  int64_t size, float epsilon) {                   \
    wait_for_previous_kernels();                                                                   \
    group_factors(static_cast<const Moments<W>*>(moments), scale, means, factors, all, channels,   \
                  size, epsilon);                                                                  \
  }                                                                                                \
  extern "C" __global__ void channel_factors_##name(const W* variance, const W* scale, W* factors, \
                                                    int64_t channels, float epsilon) {             \
    wait_for_previous_kernels();                                                                   \
    channel_factors(variance, scale, factors, channels, epsilon);                                  \
  }                                                                                                \
  extern "C" __global__ void running_##name(const void* moments, const W* before, W* after,        \
                                            int64_t channels, float momentum,                      \
                                            int32_t of_variance) {                                 \
    wait_for_previous_kernels();                                                                   \
    running(static_cast<const Moments<W>*>(moments), before, after, channels, momentum,            \
            of_variance != 0);                                                                     \
  }
PER_CHANNEL(float32, float)
PER_CHANNEL(float64, double)

#define KERNELS(name, T)                                                                           \
  extern "C" __global__ void affine_##name(                                                        \
      const T* x, const void* means, const void* factors, const void* bias, T* y, int64_t images,  \
      int64_t size, int64_t inner, int64_t channels, int64_t step, int32_t aligned) {              \
    wait_for_previous_kernels();                                                                   \
    using W = wide_t<T>;                                                                           \
    const W* of_means = static_cast<const W*>(means);                                              \
    const W* of_factors = static_cast<const W*>(factors);                                          \
    const W* of_bias = static_cast<const W*>(bias);                                                \
    if (size < (int64_t{1} << 31)) {                                                               \
      affine<T, uint32_t>(x, of_means, of_factors, of_bias, y, images, size, inner, channels,      \
                          step, aligned != 0);                                                     \
    } else {                                                                                       \
      affine<T, int64_t>(x, of_means, of_factors, of_bias, y, images, size, inner, channels, step, \
                         aligned != 0);                                                            \
    }                                                                                              \
  }                                                                                                \
  extern "C" __global__ void mean_variance_##name(const T* x, const void* moments, T* y,           \
                                                  int64_t size, const Axes axes) {                 \
    wait_for_previous_kernels();                                                                   \
    mean_variance(x, static_cast<const Moments<wide_t<T>>*>(moments), y, size, axes);              \
  }                                                                                                \
  extern "C" __global__ void norm_lines_##name(const T* x, T* y, int64_t lines, int64_t n,         \
                                               int64_t inner, int32_t lanes, int32_t squares) {    \
    wait_for_previous_kernels();                                                                   \
    divide_by_norm(x, y, lines, n, inner, lanes, squares != 0);                                    \
  }                                                                                                \
  extern "C" __global__ void local_response_##name(const T* x, T* y, int64_t count,                \
                                                   int64_t channels, int64_t pixels, int64_t size, \
                                                   float alpha, float beta, float bias) {          \
    wait_for_previous_kernels();                                                                   \
    local_response(x, y, count, channels, pixels, size, alpha, beta, bias);                        \
  }
FOR_FLOATS(KERNELS)

// Elements of one type as another.
#define CONVERT(from, From, to, To)                                               \
  extern "C" __global__ void from##_to_##to(const From* x, To* y, int64_t size) { \
    wait_for_previous_kernels();                                                  \
    for (int64_t i = thread_number(); i < size; i += thread_count()) {            \
      y[i] = narrow<To>(static_cast<wide_t<From>>(widen(x[i])));                  \
    }                                                                             \
  }
#define CONVERT_NARROW(name, T)     \
  CONVERT(name, T, float32, float)  \
  CONVERT(name, T, float64, double) \
  CONVERT(float32, float, name, T)  \
  CONVERT(float64, double, name, T)
CONVERT_NARROW(float16, float16)
CONVERT_NARROW(bfloat16, bfloat16)
CONVERT(float32, float, float64, double)
CONVERT(float64, double, float32, float)
