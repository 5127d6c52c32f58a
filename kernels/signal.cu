// SPDX-License-Identifier: Apache-2.0
// parts: float32 float64 float16 bfloat16 stages
// Discrete Fourier transforms of lines of a tensor, in double: in shared memory, a block for each
// line, or by a launch for each stage where a line is too long for that. A length with a large
// prime factor becomes a convolution with a chirp (Bluestein), by transforms of a length that has
// only small ones.
#include "fourier.cuh"

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

  __device__ bool forward() const { return kind == 0; }
};

// exp(pi i k^2 / length) and the transform of it and its mirror image; null without a chirp.
struct Chirp {
  const Pair* values;
  const Pair* spectrum;
};

__device__ inline int64_t line_start(const Lines& lines, int64_t line) {
  return line / lines.inner * lines.outer + line % lines.inner * lines.inner_step;
}

template <typename T>
__device__ Pair element(const T* from, const T* window, int64_t k, const Transform& t) {
  if (k >= t.known) return {0, 0};
  Pair value = {static_cast<double>(widen(from[k * t.from.stride])), 0};
  if (t.parts == 2) value.im = static_cast<double>(widen(from[k * t.from.stride + 1]));
  if (window == nullptr) return value;
  const double factor = widen(window[k]);
  return {value.re * factor, value.im * factor};
}

// Element k of a line of the core transform, which may be longer than the transform.
template <typename T>
__device__ Pair loaded(const T* x, const T* window, int64_t line, int64_t k, const Transform& t,
                       const Chirp& chirp) {
  if (k >= t.length) return {0, 0};
  const T* from = x + line_start(t.from, line);
  Pair value;
  if (t.kind == 2) {  // the other half mirrors this one
    const bool mirrored = 2 * k > t.length;
    value = element(from, window, mirrored ? t.length - k : k, t);
    if (k == 0 || 2 * k == t.length) value.im = 0;
    if (mirrored) value.im = -value.im;
  } else {
    value = element(from, window, k, t);
  }
  return chirp.values == nullptr ? value : value * directed(chirp.values[k], t.forward());
}

// `value` is bin k of the core transform of `core` elements.
template <typename T>
__device__ void store(T* y, int64_t line, int64_t k, Pair value, int64_t core, const Transform& t,
                      const Chirp& chirp) {
  T* to = y + line_start(t.to, line) + k * t.to.stride;
  if (chirp.values != nullptr) {
    value = value * directed(chirp.values[k], t.forward());
    const double scale = 1.0 / static_cast<double>(core);
    value = {value.re * scale, value.im * scale};
  }
  if (t.kind != 0) {
    const double count = static_cast<double>(t.length);
    value = {value.re / count, value.im / count};
  }
  to[0] = narrow<T>(static_cast<wide_t<T>>(value.re));
  if (t.kind != 2) to[1] = narrow<T>(static_cast<wide_t<T>>(value.im));
}

// The product with the chirp's spectrum, to be transformed back.
__device__ inline Pair filtered(Pair value, int64_t k, const Transform& t, const Chirp& chirp) {
  return value * directed(chirp.spectrum[k], !t.forward());
}

// All stages, from `x` by way of `y`; the result is in `x`. All threads of a block must call it.
__device__ inline void run_stages(Pair*& x, Pair*& y, const Pair* table, const Factors& factors,
                                  bool forward) {
  int64_t done = 1;
  for (int i = 0; i < factors.count; ++i) {
    const Stage stage(factors.length, done, factors.radices[i], forward);
    run_stage(x, y, table, stage, threadIdx.x, blockDim.x);
    __syncthreads();
    Pair* const kept = x;
    x = y;
    y = kept;
    done *= factors.radices[i];
  }
}

// A block takes one line after the other.
template <typename T>
__device__ void transform_shared(unsigned char* memory, const T* x, const T* window,
                                 const Pair* table, T* y, const Transform& t,
                                 const Factors& factors, const Chirp& chirp) {
  Pair* from = reinterpret_cast<Pair*>(memory);
  Pair* to = from + factors.length;
  for (int64_t line = blockIdx.x; line < t.lines; line += gridDim.x) {
    for (int64_t k = threadIdx.x; k < factors.length; k += blockDim.x) {
      from[k] = loaded(x, window, line, k, t, chirp);
    }
    __syncthreads();
    const bool filters = chirp.values != nullptr;
    for (int pass = 0; pass <= filters; ++pass) {
      if (pass == 1) {
        for (int64_t k = threadIdx.x; k < factors.length; k += blockDim.x) {
          from[k] = filtered(from[k], k, t, chirp);
        }
        __syncthreads();
      }
      run_stages(from, to, table, factors, filters ? pass == 0 : t.forward());
    }
    for (int64_t k = threadIdx.x; k < t.bins; k += blockDim.x) {
      store(y, line, k, from[k], factors.length, t, chirp);
    }
    __syncthreads();
  }
}

#define TRANSFORM(name, T)                                                                         \
  extern "C" __global__ void fourier_shared_##name(const T* x, const T* window, const Pair* table, \
                                                   T* y, Transform transform, Factors factors,     \
                                                   Chirp chirp) {                                  \
    DYNAMIC_SHARED(memory);                                                                        \
    transform_shared<T>(memory, x, window, table, y, transform, factors, chirp);                   \
  }                                                                                                \
  extern "C" __global__ void fourier_load_##name(const T* x, const T* window, Pair* values,        \
                                                 Transform transform, Chirp chirp, int64_t core) { \
    for (int64_t i = thread_number(); i < transform.lines * core; i += thread_count()) {           \
      values[i] = loaded(x, window, i / core, i % core, transform, chirp);                         \
    }                                                                                              \
  }                                                                                                \
  extern "C" __global__ void fourier_store_##name(const Pair* values, T* y, Transform transform,   \
                                                  Chirp chirp, int64_t core) {                     \
    const int64_t bins = transform.bins;                                                           \
    for (int64_t i = thread_number(); i < transform.lines * bins; i += thread_count()) {           \
      const int64_t line = i / bins, k = i % bins;                                                 \
      store(y, line, k, values[line * core + k], core, transform, chirp);                          \
    }                                                                                              \
  }
FOR_FLOATS(TRANSFORM)

// One stage of lines in memory; blockIdx.y is the first line of a thread.
__device__ inline void one_stage(const Pair* x, Pair* y, const Pair* table, int64_t lines,
                                 int64_t length, int64_t done, int radix, int forward) {
  const Stage stage(length, done, radix, forward != 0);
  for (int64_t line = blockIdx.y; line < lines; line += gridDim.y) {
    const int64_t at = line * length;
    run_stage(x + at, y + at, table, stage, thread_number(), thread_count());
  }
}

__device__ inline void filter(Pair* values, int64_t core, const Transform& transform,
                              const Chirp& chirp) {
  for (int64_t i = thread_number(); i < transform.lines * core; i += thread_count()) {
    values[i] = filtered(values[i], i % core, transform, chirp);
  }
}

#define STAGES                                                                                     \
  extern "C" __global__ void fourier_stage(const Pair* x, Pair* y, const Pair* table,              \
                                           int64_t lines, int64_t length, int64_t done, int radix, \
                                           int forward) {                                          \
    one_stage(x, y, table, lines, length, done, radix, forward);                                   \
  }                                                                                                \
  extern "C" __global__ void fourier_filter(Pair* values, int64_t core, Transform transform,       \
                                            Chirp chirp) {                                         \
    filter(values, core, transform, chirp);                                                        \
  }
IN_PART(stages, STAGES)
