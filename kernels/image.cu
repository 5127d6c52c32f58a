// SPDX-License-Identifier: Apache-2.0
// Reading images at places that a tensor names, and putting elements back: GridSample, AffineGrid,
// RoiAlign, MaxRoiPool, MaxUnpool and Col2Im. Places and sums are double, as on the CPU.
#include "common.cuh"

__device__ inline int64_t clamped(int64_t i, int64_t size) {
  return i < 0 ? 0 : i < size ? i : size - 1;
}

// --- GridSample

enum { nearest, linear, cubic };
enum { zeros, border, reflection };

struct GridSample {
  int64_t batch, channels, axes, places;  // places of the grid, in an image
  int64_t in[3];                          // the sizes of `axes` axes
  int64_t mode, padding, align;
};

__device__ inline double reflect(double x, double low, double high) {
  const double range = high - low;
  if (!(range > 0)) return low;
  const double distance = fmod(fabs(x - low), 2 * range);
  return distance <= range ? low + distance : high - (distance - range);
}

// Keys' cubic convolution with a = -0.75 at distances 1 + t, t, 1 - t, 2 - t.
__device__ inline double cubic_far(double x) {
  constexpr double a = -0.75;
  return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a;
}
__device__ inline double cubic_near(double x) {
  constexpr double a = -0.75;
  return ((a + 2) * x - (a + 3)) * x * x + 1;
}

// The elements of one axis that take part; -1 stands for a zero.
struct Reads {
  int64_t index[4];
  double weight[4];

  __device__ Reads(const GridSample& s, double place, int64_t size) {
    const double n = static_cast<double>(size);
    const double low = s.align ? 0 : -0.5, high = n - (s.align ? 1 : 0.5);
    double x = s.align ? (place + 1) / 2 * (n - 1) : ((place + 1) * n - 1) / 2;
    if (s.mode == nearest) x = rint(x);
    if (x < low || x > high) {
      if (s.padding == border) x = x < 0 ? 0 : x > n - 1 ? n - 1 : x;
      if (s.padding == reflection) x = reflect(x, low, high);
    }
    // Far outside, or not a number: still an integer.
    if (!(fabs(x) < 1099511627776.0)) x = -1099511627776.0;
    const double base = floor(x), t = x - base;
    const int64_t first = static_cast<int64_t>(base);
    if (s.mode == nearest) {
      index[0] = inside(s, static_cast<int64_t>(x), size, low, high);
      weight[0] = 1;
    } else if (s.mode == linear) {
      for (int i = 0; i < 2; ++i) index[i] = inside(s, first + i, size, low, high);
      weight[0] = 1 - t;
      weight[1] = t;
    } else {
      for (int i = 0; i < 4; ++i) index[i] = inside(s, first - 1 + i, size, low, high);
      weight[0] = cubic_far(1 + t);
      weight[1] = cubic_near(t);
      weight[2] = cubic_near(1 - t);
      weight[3] = cubic_far(2 - t);
    }
  }

 private:
  __device__ static int64_t inside(const GridSample& s, int64_t i, int64_t size, double low,
                                   double high) {
    if (i >= 0 && i < size) return i;
    if (s.padding == zeros) return -1;
    if (s.padding == reflection) {
      i = static_cast<int64_t>(reflect(static_cast<double>(i), low, high));
    }
    return clamped(i, size);
  }
};

template <typename T, typename G>
__device__ inline void grid_sample(const T* x, const G* grid, T* y, const GridSample& s) {
  const int64_t in_size = s.in[0] * s.in[1] * s.in[2];
  const int taps = s.mode == nearest ? 1 : s.mode == linear ? 2 : 4;
  for (int64_t i = thread_number(); i < s.batch * s.channels * s.places; i += thread_count()) {
    const int64_t at = i % s.places, plane = i / s.places, image = plane / s.channels;
    const T* from = x + plane * in_size;
    const G* place = grid + (image * s.places + at) * s.axes;
    // The grid names the last axis first; axes that are missing have one element.
    const Reads w(s, static_cast<double>(widen(place[0])), s.in[2]);
    const Reads h(s, s.axes > 1 ? static_cast<double>(widen(place[1])) : 0.0, s.in[1]);
    const Reads d(s, s.axes > 2 ? static_cast<double>(widen(place[2])) : 0.0, s.in[0]);
    const int h_taps = s.axes > 1 ? taps : 1, d_taps = s.axes > 2 ? taps : 1;
    double sum = 0;
    for (int a = 0; a < d_taps; ++a) {
      const int64_t z = s.axes > 2 ? d.index[a] : 0;
      const double z_weight = s.axes > 2 ? d.weight[a] : 1;
      for (int b = 0; b < h_taps; ++b) {
        const int64_t v = s.axes > 1 ? h.index[b] : 0;
        const double v_weight = z_weight * (s.axes > 1 ? h.weight[b] : 1);
        for (int c = 0; c < taps; ++c) {
          if (z < 0 || v < 0 || w.index[c] < 0) continue;
          const T value = from[(z * s.in[1] + v) * s.in[2] + w.index[c]];
          sum += v_weight * w.weight[c] * static_cast<double>(widen(value));
        }
      }
    }
    y[i] = narrow<T>(static_cast<wide_t<T>>(sum));
  }
}

#define GRID_SAMPLE(name, T, grid_name, G)                                                     \
  extern "C" __global__ void grid_sample_##name##_##grid_name(const T* x, const G* grid, T* y, \
                                                              GridSample s) {                  \
    grid_sample(x, grid, y, s);                                                                \
  }
#define GRID_SAMPLES(name, T)            \
  GRID_SAMPLE(name, T, float32, float)   \
  GRID_SAMPLE(name, T, float64, double)  \
  GRID_SAMPLE(name, T, float16, float16) \
  GRID_SAMPLE(name, T, bfloat16, bfloat16)
FOR_FLOATS(GRID_SAMPLES)

// --- AffineGrid: evenly spaced places, moved by one matrix [axes, axes + 1] for each image

struct AffineGrid {
  int64_t batch, axes, align;
  int64_t size[3];
};

template <typename T>
__device__ inline void affine_grid(const T* theta, T* y, const AffineGrid& s) {
  const int64_t places = s.size[0] * s.size[1] * s.size[2];
  for (int64_t i = thread_number(); i < s.batch * places; i += thread_count()) {
    double place[4];
    int64_t rest = i % places;
    for (int k = 0; k < s.axes; ++k) {
      const int64_t size = s.size[2 - k];
      const double at = static_cast<double>(rest % size), n = static_cast<double>(size);
      rest /= size;
      place[k] = !s.align ? (2 * at + 1) / n - 1 : size == 1 ? -1 : -1 + 2 * at / (n - 1);
    }
    place[s.axes] = 1;
    const T* row = theta + i / places * s.axes * (s.axes + 1);
    for (int r = 0; r < s.axes; ++r, row += s.axes + 1) {
      double sum = 0;
      for (int k = 0; k <= s.axes; ++k) sum += static_cast<double>(widen(row[k])) * place[k];
      y[i * s.axes + r] = narrow<T>(static_cast<wide_t<T>>(sum));
    }
  }
}

#define AFFINE_GRID(name, T)                                                          \
  extern "C" __global__ void affine_grid_##name(const T* theta, T* y, AffineGrid s) { \
    affine_grid(theta, y, s);                                                         \
  }
FOR_FLOATS(AFFINE_GRID)

// --- RoiAlign: one thread for each bin

struct RoiAlign {
  int64_t rois, batch, channels, height, width, rows, columns, sampling, shift, average;
  double scale;
};

template <typename T>
__device__ inline double roi_bin(const T* x, const RoiAlign& s, double top, double left,
                                 double bin_h, double bin_w) {
  const int64_t most = 1024;
  int64_t grid_h = s.sampling, grid_w = s.sampling;
  if (s.sampling <= 0) {
    grid_h = static_cast<int64_t>(fmin(fmax(ceil(bin_h), 0.0), double(most)));
    grid_w = static_cast<int64_t>(fmin(fmax(ceil(bin_w), 0.0), double(most)));
  }
  double result = 0;
  bool first = true;
  for (int64_t i = 0; i < grid_h * grid_w; ++i) {
    double v = top + (static_cast<double>(i / grid_w) + 0.5) / static_cast<double>(grid_h) * bin_h;
    double u = left + (static_cast<double>(i % grid_w) + 0.5) / static_cast<double>(grid_w) * bin_w;
    int64_t offset[4] = {};
    double weight[4] = {};
    const double last_v = static_cast<double>(s.height), last_u = static_cast<double>(s.width);
    if (v >= -1 && v <= last_v && u >= -1 && u <= last_u) {
      v = v < 0 ? 0 : v > last_v - 1 ? last_v - 1 : v;
      u = u < 0 ? 0 : u > last_u - 1 ? last_u - 1 : u;
      const int64_t y0 = static_cast<int64_t>(v), x0 = static_cast<int64_t>(u);
      const int64_t y1 = clamped(y0 + 1, s.height), x1 = clamped(x0 + 1, s.width);
      const double dy = v - static_cast<double>(y0), dx = u - static_cast<double>(x0);
      offset[0] = y0 * s.width + x0;
      offset[1] = y0 * s.width + x1;
      offset[2] = y1 * s.width + x0;
      offset[3] = y1 * s.width + x1;
      weight[0] = (1 - dy) * (1 - dx);
      weight[1] = (1 - dy) * dx;
      weight[2] = dy * (1 - dx);
      weight[3] = dy * dx;
    }
    for (int k = 0; k < 4; ++k) {
      const double term = weight[k] * static_cast<double>(widen(x[offset[k]]));
      if (s.average) {
        result += term;
      } else {
        result = first || result < term ? term : result;
        first = false;
      }
    }
  }
  const double count = static_cast<double>(grid_h * grid_w);
  return s.average ? result / (count < 1 ? 1 : count) : result;
}

// An image that does not exist, or a region that is not finite, gives NaN.
template <typename T>
__device__ inline void roi_align(const T* x, const T* rois, const int64_t* images, T* y,
                                 const RoiAlign& s) {
  const int64_t bins = s.rows * s.columns;
  for (int64_t i = thread_number(); i < s.rois * s.channels * bins; i += thread_count()) {
    const int64_t bin = i % bins, channel = i / bins % s.channels, r = i / bins / s.channels;
    const double offset = s.shift ? 0.5 : 0;
    double edge[4];
    bool known = images[r] >= 0 && images[r] < s.batch;
    for (int k = 0; k < 4; ++k) {
      edge[k] = static_cast<double>(widen(rois[r * 4 + k])) * s.scale - offset;
      known = known && edge[k] - edge[k] == 0;
    }
    double value = NAN;
    if (known) {
      double width = edge[2] - edge[0], height = edge[3] - edge[1];
      if (!s.shift) {
        width = fmax(width, 1.0);
        height = fmax(height, 1.0);
      }
      const double bin_h = height / static_cast<double>(s.rows);
      const double bin_w = width / static_cast<double>(s.columns);
      const T* from = x + (images[r] * s.channels + channel) * s.height * s.width;
      value = roi_bin(from, s, edge[1] + static_cast<double>(bin / s.columns) * bin_h,
                      edge[0] + static_cast<double>(bin % s.columns) * bin_w, bin_h, bin_w);
    }
    y[i] = narrow<T>(static_cast<wide_t<T>>(value));
  }
}

#define ROI_ALIGN(name, T)                                                                      \
  extern "C" __global__ void roi_align_##name(const T* x, const T* rois, const int64_t* images, \
                                              T* y, RoiAlign s) {                               \
    roi_align(x, rois, images, y, s);                                                           \
  }
FOR_FLOATS(ROI_ALIGN)

// --- MaxRoiPool: regions [image, left, top, right, bottom], rounded to whole elements

struct MaxRoiPool {
  int64_t rois, batch, channels, height, width, rows, columns;
  double scale;
};

// Zero in an empty bin; NaN where an element is none, or the region names no image.
template <typename T>
__device__ inline void max_roi_pool(const T* x, const T* rois, T* y, const MaxRoiPool& s) {
  using W = wide_t<T>;
  const int64_t bins = s.rows * s.columns;
  for (int64_t i = thread_number(); i < s.rois * s.channels * bins; i += thread_count()) {
    const int64_t bin = i % bins, channel = i / bins % s.channels, r = i / bins / s.channels;
    const double image = static_cast<double>(widen(rois[r * 5]));
    bool known = image >= 0 && image < static_cast<double>(s.batch);
    int64_t edge[4];
    for (int k = 0; k < 4; ++k) {
      const double place = round(static_cast<double>(widen(rois[r * 5 + 1 + k])) * s.scale);
      known = known && fabs(place) <= 16777216.0;
      edge[k] = known ? static_cast<int64_t>(place) : 0;
    }
    W top = NAN;
    if (known) {
      const int64_t width = edge[2] - edge[0] + 1 > 1 ? edge[2] - edge[0] + 1 : 1;
      const int64_t height = edge[3] - edge[1] + 1 > 1 ? edge[3] - edge[1] + 1 : 1;
      const int64_t row = bin / s.columns, column = bin % s.columns;
      const auto cut = [](int64_t v, int64_t size) { return v < 0 ? 0 : v < size ? v : size; };
      const int64_t y0 = cut(edge[1] + row * height / s.rows, s.height);
      const int64_t y1 = cut(edge[1] + ((row + 1) * height + s.rows - 1) / s.rows, s.height);
      const int64_t x0 = cut(edge[0] + column * width / s.columns, s.width);
      const int64_t x1 = cut(edge[0] + ((column + 1) * width + s.columns - 1) / s.columns, s.width);
      const T* from = x + (static_cast<int64_t>(image) * s.channels + channel) * s.height * s.width;
      bool first = true;
      top = 0;
      for (int64_t v = y0; v < y1; ++v) {
        for (int64_t u = x0; u < x1; ++u) {
          const W value = widen(from[v * s.width + u]);
          top = first ? value : Largest()(top, value);
          first = false;
        }
      }
    }
    y[i] = narrow<T>(top);
  }
}

#define MAX_ROI_POOL(name, T)                                                                     \
  extern "C" __global__ void max_roi_pool_##name(const T* x, const T* rois, T* y, MaxRoiPool s) { \
    max_roi_pool(x, rois, y, s);                                                                  \
  }
FOR_FLOATS(MAX_ROI_POOL)

// --- MaxUnpool: indices count in a shape that the result may be larger than

struct Unpool {
  int64_t rank;
  int64_t pooled[8], strides[8];
};

#define UNPOOL(bytes, T)                                                                  \
  extern "C" __global__ void max_unpool_##bytes(const T* x, const int64_t* indices, T* y, \
                                                Unpool s, int64_t n, int64_t limit) {     \
    for (int64_t i = thread_number(); i < n; i += thread_count()) {                       \
      int64_t rest = indices[i], offset = 0;                                              \
      if (rest < 0 || rest >= limit) continue;                                            \
      for (int axis = static_cast<int>(s.rank) - 1; axis >= 0; --axis) {                  \
        offset += rest % s.pooled[axis] * s.strides[axis];                                \
        rest /= s.pooled[axis];                                                           \
      }                                                                                   \
      y[offset] = x[i];                                                                   \
    }                                                                                     \
  }
FOR_WIDTHS(UNPOOL)

// --- Col2Im: each pixel sums what windows have of it, in the order of the block's elements

struct Columns {
  int64_t planes, axes, elements, windows;
  int64_t image[4], block[4], counts[4], strides[4], pads[4], dilations[4];
};

template <typename T>
__device__ inline void col2im(const T* x, T* y, const Columns& s) {
  using W = wide_t<T>;
  int64_t pixels = 1;
  for (int k = 0; k < s.axes; ++k) pixels *= s.image[k];
  for (int64_t i = thread_number(); i < s.planes * pixels; i += thread_count()) {
    int64_t at[4], rest = i % pixels;
    for (int k = static_cast<int>(s.axes) - 1; k >= 0; --k) {
      at[k] = rest % s.image[k];
      rest /= s.image[k];
    }
    const T* plane = x + i / pixels * s.elements * s.windows;
    W sum = 0;
    for (int64_t element = 0; element < s.elements; ++element) {
      int64_t window = 0, stride = 1, left = element;
      bool inside = true;
      for (int k = static_cast<int>(s.axes) - 1; k >= 0; --k) {
        const int64_t from = at[k] + s.pads[k] - left % s.block[k] * s.dilations[k];
        left /= s.block[k];
        const int64_t number = from / s.strides[k];
        inside = inside && from >= 0 && from % s.strides[k] == 0 && number < s.counts[k];
        window += number * stride;
        stride *= s.counts[k];
      }
      if (inside) sum += widen(plane[element * s.windows + window]);
    }
    y[i] = narrow<T>(sum);
  }
}

#define COL2IM(name, T) \
  extern "C" __global__ void col2im_##name(const T* x, T* y, Columns s) { col2im(x, y, s); }
FOR_FLOATS(COL2IM)
// Sums of integers wrap around: those of signed ones are the same bits.
FOR_UNSIGNED(COL2IM)
