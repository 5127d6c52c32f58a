// SPDX-License-Identifier: Apache-2.0
// LayerNormalization, RMSNormalization and, with a residual added first, the Skip forms: y =
// (x - mean) / sqrt(variance + epsilon) * scale + bias over rows; the RMS forms leave the mean out.
// GroupNormalization of images whose groups fit into the registers of a block.
//
// The variance is the mean of (x - mean)^2 in a second pass, never E[x^2] - mean^2.
#include "rows.cuh"

template <typename T>
__device__ void add(Pack<T>& pack, const Raw<T>& raw) {
  const Pack<T> other = widened(raw);
#pragma unroll
  for (int i = 0; i < Pack<T>::width; ++i) pack.data[i] += other.data[i];
}

// A row of x, or of x + skip.
template <typename T>
struct LoadSum {
  const T* x;
  const T* skip;
  int64_t n;
  bool aligned;

  __device__ Pack<T> operator()(int64_t first, wide_t<T> fill) const {
    Pack<T> pack = load_pack(x, first, n, aligned, fill);
    if (skip != nullptr) add(pack, load_raw(skip, first, n, aligned, T(0)));
    return pack;
  }
};

// What is in registers already.
template <typename T>
struct Loaded {
  Pack<T> pack;

  __device__ Pack<T> operator()(int64_t, wide_t<T>) const { return pack; }
};

template <typename W>
struct MeanAndFactor {
  W mean, factor;
};

// Of a row, by all threads of its team; the factor is 1 / sqrt(variance + epsilon).
template <typename T, typename Team, typename Row>
__device__ MeanAndFactor<wide_t<T>> moments_of(Row& row, int64_t n, float epsilon, bool centered) {
  using W = wide_t<T>;
  Team team(n);
  W mean = 0;
  if (centered) {
    W sum = 0;
    row.each(
        [&](int64_t, const Pack<T>& pack) { sum += sum_of_pack(pack, [](W v) { return v; }); });
    mean = team.reduce(sum, W(0), Sum()) / static_cast<W>(n);
    row.pad(mean);
  }
  W squares = 0;
  row.each([&](int64_t, const Pack<T>& pack) {
    squares += sum_of_pack(pack, [&](W v) { return (v - mean) * (v - mean); });
  });
  const W variance = team.reduce(squares, W(0), Sum()) / static_cast<W>(n);
  return {mean, 1 / sqrt(variance + static_cast<W>(epsilon))};
}

// An operand of rows: `stride` is 0 where all rows share one.
template <typename T>
struct Operand {
  const T* data;
  int64_t stride;

  __device__ const T* row(int64_t number) const {
    return data != nullptr ? data + number * stride : nullptr;
  }
};

template <typename T>
struct Layer {
  const T* x;
  Operand<T> skip, scale, bias;
  T* y;
  T* sums;
  float* means;
  float* factors;
  int64_t rows, n;
  float epsilon;
  bool centered, aligned;
};

template <typename T, typename Team>
__device__ void store_moments(const Layer<T>& layer, const MeanAndFactor<wide_t<T>>& moments) {
  if (Team::index() != 0) return;
  const int64_t number = Team::row();
  if (layer.means != nullptr) layer.means[number] = static_cast<float>(moments.mean);
  if (layer.factors != nullptr) layer.factors[number] = static_cast<float>(moments.factor);
}

template <typename T>
__device__ void apply(Pack<T>& pack, const MeanAndFactor<wide_t<T>>& moments, const Raw<T>& raw) {
  const Pack<T> scale = widened(raw);
#pragma unroll
  for (int i = 0; i < Pack<T>::width; ++i) {
    pack.data[i] = (pack.data[i] - moments.mean) * moments.factor * scale.data[i];
  }
}

template <typename T, typename Team, typename Row>
__device__ void normalize_row(const Layer<T>& layer) {
  using W = wide_t<T>;
  const int64_t number = Team::row(), n = layer.n;
  if (number >= layer.rows) return;
  const bool aligned = layer.aligned;
  Row row(LoadSum<T>{layer.x + number * n, layer.skip.row(number), n, aligned}, n, W(0));
  const auto moments = moments_of<T, Team>(row, n, layer.epsilon, layer.centered);
  store_moments<T, Team>(layer, moments);
  const T* scale = layer.scale.row(number);
  const T* bias = layer.bias.row(number);
  T* sums = layer.sums != nullptr ? layer.sums + number * n : nullptr;
  T* y = layer.y + number * n;
  row.each([&](int64_t first, Pack<T>& pack) {
    if (sums != nullptr) store_pack(sums, first, n, aligned, pack);
    apply(pack, moments, load_raw(scale, first, n, aligned, T(0)));
    if (bias != nullptr) add(pack, load_raw(bias, first, n, aligned, T(0)));
    store_pack(y, first, n, aligned, pack);
  });
}

// A pack for each thread: all loads are under way before the first sum.
template <typename T, typename Team>
__device__ void normalize_spread(const Layer<T>& layer) {
  const int64_t number = Team::row();
  if (number >= layer.rows) return;
  const int n = static_cast<int>(layer.n), first = Team::index() * Pack<T>::width;
  const bool aligned = layer.aligned, is_used = first < n;
  const int64_t start = number * n;
  const T* skip = layer.skip.row(number);
  const T* bias = layer.bias.row(number);
  Raw<T> raw, raw_skip, raw_scale, raw_bias;
  const auto load = [&](bool in_vectors) {
    raw = load_raw(layer.x + start, first, n, in_vectors, T(0));
    if (skip != nullptr) raw_skip = load_raw(skip, first, n, in_vectors, T(0));
    raw_scale = load_raw(layer.scale.row(number), first, n, in_vectors, T(0));
    if (bias != nullptr) raw_bias = load_raw(bias, first, n, in_vectors, T(0));
  };
  if (is_used && aligned) load(true);
  if (is_used && !aligned) load(false);
  Loaded<T> loaded{widened(raw)};
  if (skip != nullptr) add(loaded.pack, raw_skip);
  HeldRow<T, 1, Team, Loaded<T>> row(loaded, n, 0);
  if (is_used && layer.sums != nullptr) {
    store_pack(layer.sums + start, first, n, aligned, loaded.pack);
  }
  const auto moments = moments_of<T, Team>(row, n, layer.epsilon, layer.centered);
  store_moments<T, Team>(layer, moments);
  row.each([&](int, Pack<T>& pack) {
    apply(pack, moments, raw_scale);
    if (bias != nullptr) add(pack, raw_bias);
    store_pack(layer.y + start, first, n, aligned, pack);
  });
}

// A block for each group of `size` channels of `pixels`, one behind the other.
template <typename T>
__device__ void normalize_group(const T* x, const wide_t<T>* scale, const wide_t<T>* bias, T* y,
                                int groups, int size, int pixels, float epsilon, bool aligned) {
  using W = wide_t<T>;
  const int n = size * pixels;
  const int64_t offset = static_cast<int64_t>(blockIdx.x) * n;
  const int first_channel = blockIdx.x % groups * size;
  HeldRow<T, 8 / Pack<T>::width, BlockTeam, LoadSum<T>> row({x + offset, nullptr, n, aligned}, n,
                                                            W(0));
  const auto moments = moments_of<T, BlockTeam>(row, n, epsilon, true);
  row.each([&](int first, Pack<T>& pack) {
    int channel = first / pixels, pixel = first - channel * pixels;
#pragma unroll
    for (int i = 0; i < Pack<T>::width; ++i) {
      if (first + i < n) {
        const int at = first_channel + channel;
        pack.data[i] = (pack.data[i] - moments.mean) * (scale[at] * moments.factor) + bias[at];
      }
      if (++pixel == pixels) {
        pixel = 0;
        ++channel;
      }
    }
    store_pack(y + offset, first, n, aligned, pack);
  });
}

#define LAYER(kind, bound, name, T, function, ...)                                           \
  extern "C" __global__ void __launch_bounds__(bound) layer_##kind##_##name(                 \
      const T* x, const T* skip, const T* scale, const T* bias, T* y, T* sums, float* means, \
      float* factors, int64_t rows, int64_t n, int64_t skip_stride, int64_t scale_stride,    \
      int64_t bias_stride, float epsilon, int32_t centered, int32_t aligned) {               \
    wait_for_previous_kernels();                                                             \
    const Layer<T> layer{x,                                                                  \
                         {skip, skip_stride},                                                \
                         {scale, scale_stride},                                              \
                         {bias, bias_stride},                                                \
                         y,                                                                  \
                         sums,                                                               \
                         means,                                                              \
                         factors,                                                            \
                         rows,                                                               \
                         n,                                                                  \
                         epsilon,                                                            \
                         centered != 0,                                                      \
                         aligned != 0};                                                      \
    function<T, __VA_ARGS__>(layer);                                                         \
  }
#define HELD(kind, bound, name, T, elements, Team) \
  LAYER(kind, bound, name, T, normalize_row, Team, \
        HeldRow<T, elements / Pack<T>::width, Team, LoadSum<T>>)
#define SPREAD(kind, bound, name, T, ...) \
  LAYER(spread_##kind, bound, name, T, normalize_spread, __VA_ARGS__)
#define KERNELS(name, T)                                                                           \
  HELD(warp_8, 256, name, T, 32, WarpTeam<8>)                                                      \
  HELD(warp_16, 256, name, T, 32, WarpTeam<16>)                                                    \
  HELD(warp_32, 256, name, T, 32, WarpTeam<32>)                                                    \
  SPREAD(16, 256, name, T, SpreadWarpTeam<16>)                                                     \
  SPREAD(32, 256, name, T, SpreadWarpTeam<32>)                                                     \
  SPREAD(block, 1024 / Pack<T>::width, name, T, SpreadBlockTeam<Pack<T>::width>)                   \
  HELD(block, 1024, name, T, 8, BlockTeam)                                                         \
  LAYER(long, 1024, name, T, normalize_row, BlockTeam, StreamedRow<T, BlockTeam, LoadSum<T>>)      \
  extern "C" __global__ void __launch_bounds__(1024)                                               \
      group_block_##name(const T* x, const void* scale, const void* bias, T* y, int32_t groups,    \
                         int32_t size, int32_t pixels, float epsilon, int32_t aligned) {           \
    wait_for_previous_kernels();                                                                   \
    using W = wide_t<T>;                                                                           \
    normalize_group(x, static_cast<const W*>(scale), static_cast<const W*>(bias), y, groups, size, \
                    pixels, epsilon, aligned != 0);                                                \
  }
FOR_FLOATS(KERNELS)
