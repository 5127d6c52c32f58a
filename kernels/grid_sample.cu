// SPDX-License-Identifier: Apache-2.0
// parts: float32 float64 float16 bfloat16 complex64 complex128 nearest affine bool
// parts: int8 int16 int32 int64 uint8 uint16 uint32 uint64
// GridSample, which reads images at places that a tensor names, and AffineGrid, which makes such
// places. Places and sums are double, as on the CPU.
#include "interpolated.cuh"

__device__ inline int64_t clamped(int64_t i, int64_t size) {
  return i < 0 ? 0 : i < size ? i : size - 1;
}

enum { nearest, linear, cubic };
enum { zeros, border, reflection };

struct GridSample {
  int64_t batch, channels, axes, places;  // places of the grid, in an image
  int64_t in[3];                          // the sizes of `axes` axes
  int64_t mode, padding, align, kind;     // of the grid: float32, float64, float16, bfloat16
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
      // Cubic's centre stays outside, as far as any tap may be inside: only the taps are clamped.
      const double reach = s.mode == cubic ? 2 : 0;
      if (s.padding == border) x = x < -reach ? -reach : x > n - 1 + reach ? n - 1 + reach : x;
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

__device__ inline double grid_number(const void* grid, int64_t kind, int64_t i) {
  switch (kind) {
    case 0:
      return static_cast<const float*>(grid)[i];
    case 1:
      return static_cast<const double*>(grid)[i];
    case 2:
      return widen(static_cast<const float16*>(grid)[i]);
    default:
      return widen(static_cast<const bfloat16*>(grid)[i]);
  }
}

// The elements that one place is made of; axes that are missing have one.
struct Place {
  Reads w, h, d;
  int w_taps, h_taps, d_taps;

  // The grid names the last axis first.
  __device__ Place(const void* grid, int64_t place, const GridSample& s)
      : w(s, grid_number(grid, s.kind, place * s.axes), s.in[2]),
        h(s, s.axes > 1 ? grid_number(grid, s.kind, place * s.axes + 1) : 0.0, s.in[1]),
        d(s, s.axes > 2 ? grid_number(grid, s.kind, place * s.axes + 2) : 0.0, s.in[0]) {
    w_taps = s.mode == nearest ? 1 : s.mode == linear ? 2 : 4;
    h_taps = s.axes > 1 ? w_taps : 1;
    d_taps = s.axes > 2 ? w_taps : 1;
  }

  // For each element, body(its number or -1, its weight).
  template <typename Body>
  __device__ void each(const GridSample& s, Body body) const {
    for (int a = 0; a < d_taps; ++a) {
      const int64_t z = s.axes > 2 ? d.index[a] : 0;
      const double z_weight = s.axes > 2 ? d.weight[a] : 1;
      for (int b = 0; b < h_taps; ++b) {
        const int64_t v = s.axes > 1 ? h.index[b] : 0;
        const double v_weight = z_weight * (s.axes > 1 ? h.weight[b] : 1);
        for (int c = 0; c < w_taps; ++c) {
          const int64_t u = w.index[c];
          const int64_t at = z < 0 || v < 0 || u < 0 ? -1 : (z * s.in[1] + v) * s.in[2] + u;
          body(at, v_weight * w.weight[c]);
        }
      }
    }
  }
};

template <typename T>
__device__ inline void grid_sample(const T* x, const void* grid, T* y, const GridSample& s) {
  using Element = Interpolated<T>;
  const int64_t in_size = s.in[0] * s.in[1] * s.in[2];
  for (int64_t i = thread_number(); i < s.batch * s.channels * s.places; i += thread_count()) {
    const int64_t plane = i / s.places, image = plane / s.channels;
    const T* from = x + plane * in_size;
    const Place place(grid, image * s.places + i % s.places, s);
    double sums[Element::parts] = {};
    place.each(s, [&](int64_t at, double weight) {
      if (at < 0) return;
      for (int part = 0; part < Element::parts; ++part) {
        sums[part] += weight * static_cast<double>(Element::part(from[at], part));
      }
    });
    typename Element::Work parts[Element::parts];
    for (int part = 0; part < Element::parts; ++part) {
      parts[part] = static_cast<typename Element::Work>(sums[part]);
    }
    y[i] = Element::join(parts);
  }
}

#define GRID_SAMPLE(name, T)                                                        \
  extern "C" __global__ void grid_sample_##name(const T* x, const void* grid, T* y, \
                                                GridSample s) {                     \
    grid_sample(x, grid, y, s);                                                     \
  }
FOR_NUMBERS(GRID_SAMPLE)
FOR_TYPE(GRID_SAMPLE, bool, bool)
FOR_TYPE(GRID_SAMPLE, complex64, complex64)
FOR_TYPE(GRID_SAMPLE, complex128, complex128)

template <typename T>
__device__ inline void copy_element(const void* x, int64_t from, void* y, int64_t to) {
  static_cast<T*>(y)[to] = from < 0 ? T{} : static_cast<const T*>(x)[from];
}

// Nearest only moves elements, of `width` bytes.
__device__ inline void grid_nearest_of(const void* x, const void* grid, void* y,
                                       const GridSample& s, int64_t width) {
  const int64_t in_size = s.in[0] * s.in[1] * s.in[2];
  for (int64_t i = thread_number(); i < s.batch * s.channels * s.places; i += thread_count()) {
    const int64_t plane = i / s.places, image = plane / s.channels;
    const Place place(grid, image * s.places + i % s.places, s);
    int64_t from = -1;
    place.each(s, [&](int64_t at, double) { from = at < 0 ? -1 : plane * in_size + at; });
    switch (width) {
      case 1:
        copy_element<uint8_t>(x, from, y, i);
        break;
      case 2:
        copy_element<uint16_t>(x, from, y, i);
        break;
      case 4:
        copy_element<uint32_t>(x, from, y, i);
        break;
      case 8:
        copy_element<uint64_t>(x, from, y, i);
        break;
      default:
        copy_element<ulonglong2>(x, from, y, i);
    }
  }
}

#define GRID_NEAREST                                                                              \
  extern "C" __global__ void grid_nearest(const void* x, const void* grid, void* y, GridSample s, \
                                          int64_t width) {                                        \
    grid_nearest_of(x, grid, y, s, width);                                                        \
  }
IN_PART(nearest, GRID_NEAREST)

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
#define AFFINE_GRIDS            \
  AFFINE_GRID(float32, float)   \
  AFFINE_GRID(float64, double)  \
  AFFINE_GRID(float16, float16) \
  AFFINE_GRID(bfloat16, bfloat16)
IN_PART(affine, AFFINE_GRIDS)
