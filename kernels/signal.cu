// SPDX-License-Identifier: Apache-2.0
// Discrete Fourier transforms of lines of a tensor, by their definition: a thread an element of the
// spectrum, sums and factors in double.
#include "common.cuh"

// Line i starts at (i / inner) * outer + (i % inner) * inner_step; its elements are `stride` apart.
struct Lines {
  int64_t inner, outer, inner_step, stride;
};

struct Transform {
  Lines from, to;
  int64_t lines;
  int64_t known;  // elements of a line of the input; those beyond are zero
  int64_t bins;   // of the output
  int64_t length;
  int32_t parts;  // of an element of the input: 1 or 2
  int32_t kind;   // 0: forward; 1: inverse; 2: inverse, real, from half of the spectrum
};

__device__ inline int64_t line_start(const Lines& lines, int64_t line) {
  return line / lines.inner * lines.outer + line % lines.inner * lines.inner_step;
}

// factors[i] = exp(2 pi i / length), as pairs of cosine and sine.
template <typename T>
__device__ void transform(const T* x, const T* window, const double* factors, T* y, Transform t) {
  const int64_t total = t.lines * t.bins;
  for (int64_t i = thread_number(); i < total; i += thread_count()) {
    const int64_t line = i / t.bins, bin = i % t.bins;
    const T* from = x + line_start(t.from, line);
    T* to = y + line_start(t.to, line) + bin * t.to.stride;
    double re = 0, im = 0;
    int64_t angle = 0;
    for (int64_t k = 0; k < t.known; ++k) {
      const double c = factors[2 * angle], s = factors[2 * angle + 1];
      angle += bin;
      if (angle >= t.length) angle -= t.length;
      double a = widen(from[k * t.from.stride]);
      double b = t.parts == 2 ? static_cast<double>(widen(from[k * t.from.stride + 1])) : 0.0;
      if (window != nullptr) {
        a *= widen(window[k]);
        b *= widen(window[k]);
      }
      if (t.kind == 0) {
        re += a * c + b * s;
        im += b * c - a * s;
      } else if (t.kind == 1) {
        re += a * c - b * s;
        im += b * c + a * s;
      } else if (k == 0 || 2 * k == t.length) {
        re += a * c;
      } else {
        re += 2 * (a * c - b * s);
      }
    }
    const double scale = t.kind == 0 ? 1.0 : 1.0 / static_cast<double>(t.length);
    to[0] = narrow<T>(static_cast<wide_t<T>>(re * scale));
    if (t.kind != 2) to[1] = narrow<T>(static_cast<wide_t<T>>(im * scale));
  }
}

#define TRANSFORM(name, T)                                                                      \
  extern "C" __global__ void fourier_##name(const T* x, const T* window, const double* factors, \
                                            T* y, Transform t) {                                \
    transform<T>(x, window, factors, y, t);                                                     \
  }
FOR_FLOATS(TRANSFORM)
