// SPDX-License-Identifier: Apache-2.0
// instruction sets: base avx2 avx512
#include "kernels/resize/resize_rows.h"
#include "simd/vec.h"

namespace bascule::BASCULE_ISA {
namespace {

template <int taps, bool add>
BASCULE_INLINE void blend_known_runs(const float* x, int64_t stride, const int32_t* indices,
                                     const float* weights, int64_t weight_stride, int64_t n,
                                     float* y) {
  const float* from[taps];
  F32 weight[taps];
  for (int t = 0; t < taps; ++t) {
    from[t] = x + indices[t * weight_stride] * stride;
    weight[t] = set(weights[t * weight_stride]);
  }
  for_vectors(n, [&](int64_t i, int64_t count) {
    F32 sum = add ? fma(weight[0], load(from[0] + i, count, 0), load(y + i, count, 0))
                  : weight[0] * load(from[0] + i, count, 0);
    for (int t = 1; t < taps; ++t) sum = fma(weight[t], load(from[t] + i, count, 0), sum);
    store(y + i, sum, count);
  });
}

template <bool add>
void blend_runs(const float* x, int64_t stride, const int32_t* indices, const float* weights,
                int64_t weight_stride, int64_t taps, int64_t n, float* y) {
  if (taps == 2) return blend_known_runs<2, add>(x, stride, indices, weights, weight_stride, n, y);
  if (taps == 4) return blend_known_runs<4, add>(x, stride, indices, weights, weight_stride, n, y);
  for_vectors(n, [&](int64_t i, int64_t count) {
    F32 sum = add ? load(y + i, count, 0) : set(0);
    for (int64_t t = 0; t < taps; ++t) {
      const float* from = x + indices[t * weight_stride] * stride + i;
      sum = fma(set(weights[t * weight_stride]), load(from, count, 0), sum);
    }
    store(y + i, sum, count);
  });
}

BASCULE_INLINE F32 gather(const float* x, const int32_t* indices) {
#if defined(__AVX512F__)
  return reinterpret_cast<F32>(_mm512_i32gather_ps(_mm512_loadu_si512(indices), x, 4));
#elif defined(__AVX2__)
  return reinterpret_cast<F32>(
      _mm256_i32gather_ps(x, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(indices)), 4));
#else
  F32 v = {};
  for (int i = 0; i < lanes; ++i) v[i] = x[indices[i]];
  return v;
#endif
}

void blend_row(const float* x, const int32_t* indices, const float* weights, int64_t taps,
               int64_t n, float* y) {
  int64_t o = 0;
  for (; o + lanes <= n; o += lanes) {
    F32 sum = load(weights + o) * gather(x, indices + o);
    for (int64_t t = 1; t < taps; ++t) {
      sum = fma(load(weights + t * n + o), gather(x, indices + t * n + o), sum);
    }
    store(y + o, sum);
  }
  for (; o < n; ++o) {
    // One lane of the same arithmetic.
    F32 sum = set(weights[o]) * set(x[indices[o]]);
    for (int64_t t = 1; t < taps; ++t) {
      sum = fma(set(weights[t * n + o]), set(x[indices[t * n + o]]), sum);
    }
    y[o] = sum[0];
  }
}

}  // namespace

const ResizeFunctions<float>& resize_functions_f32() {
  static constexpr ResizeFunctions<float> functions = {blend_runs<false>, blend_runs<true>,
                                                       blend_row};
  return functions;
}
}  // namespace bascule::BASCULE_ISA

#if BASCULE_ONCE
#include "simd/isa.h"
namespace bascule {
BASCULE_PER_ISA(const ResizeFunctions<float>& resize_functions_f32());

template <>
const ResizeFunctions<float>& resize_functions<float>() {
  static const ResizeFunctions<float>& functions = BASCULE_PICK(resize_functions_f32)();
  return functions;
}

namespace {

template <bool add>
void blend_runs_f64(const double* x, int64_t stride, const int32_t* indices, const double* weights,
                    int64_t weight_stride, int64_t taps, int64_t n, double* y) {
  for (int64_t i = 0; i < n; ++i) {
    double sum = add ? y[i] : 0;
    for (int64_t t = 0; t < taps; ++t) {
      sum += weights[t * weight_stride] * x[indices[t * weight_stride] * stride + i];
    }
    y[i] = sum;
  }
}

void blend_row_f64(const double* x, const int32_t* indices, const double* weights, int64_t taps,
                   int64_t n, double* y) {
  for (int64_t o = 0; o < n; ++o) {
    double sum = 0;
    for (int64_t t = 0; t < taps; ++t) sum += weights[t * n + o] * x[indices[t * n + o]];
    y[o] = sum;
  }
}

}  // namespace

template <>
const ResizeFunctions<double>& resize_functions<double>() {
  static constexpr ResizeFunctions<double> functions = {blend_runs_f64<false>, blend_runs_f64<true>,
                                                        blend_row_f64};
  return functions;
}
}  // namespace bascule
#endif
