// SPDX-License-Identifier: Apache-2.0
// parts: float32 float64 float16 bfloat16 other
// Reading images in regions that a tensor names, and putting elements back: RoiAlign, MaxRoiPool,
// MaxUnpool and Col2Im. Places and sums are double, as on the CPU.
#include "complex.cuh"

__device__ inline int64_t clamped(int64_t i, int64_t size) {
  return i < 0 ? 0 : i < size ? i : size - 1;
}

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
IN_PART(other, FOR_WIDTHS(UNPOOL))

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
    W sum = {};
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
#define COL2IM_OTHERS          \
  COL2IM(uint8, uint8_t)       \
  COL2IM(uint16, uint16_t)     \
  COL2IM(uint32, uint32_t)     \
  COL2IM(uint64, uint64_t)     \
  COL2IM(bool, bool)           \
  COL2IM(complex64, complex64) \
  COL2IM(complex128, complex128)
IN_PART(other, COL2IM_OTHERS)
