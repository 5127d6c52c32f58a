// SPDX-License-Identifier: Apache-2.0
// instruction sets: base avx2 avx512
// Maximum and average of windows, float32, in vectors over output positions (channels first) or
// over channels (channels last); of bytes the maximum.
#include <algorithm>
#include <limits>

#include "kernels/pool/pool_rows.h"
#include "simd/sums.h"

namespace bascule::BASCULE_ISA {
namespace {

struct Max {
  static constexpr float start = -infinity;
  BASCULE_INLINE F32 fold(F32 sum, F32 x) { return max(sum, x); }
};
struct Add {
  static constexpr float start = 0;
  BASCULE_INLINE F32 fold(F32 sum, F32 x) { return sum + x; }
};

template <int stride>
BASCULE_INLINE F32 load_every(const float* p, int64_t step) {
  if constexpr (stride == 1) return load(p);
  if constexpr (stride == 2) {
    // The second load begins one early: the even places then fill the upper half.
    const F32 low = load(p);
    const F32 high = load(p + lanes - 1);
#if defined(__AVX512F__)
    return __builtin_shufflevector(low, high, 0, 2, 4, 6, 8, 10, 12, 14, 17, 19, 21, 23, 25, 27, 29,
                                   31);
#elif defined(__AVX2__)
    return __builtin_shufflevector(low, high, 0, 2, 4, 6, 9, 11, 13, 15);
#else
    return __builtin_shufflevector(low, high, 0, 2, 5, 7);
#endif
  }
  float part[lanes];
  for (int i = 0; i < lanes; ++i) part[i] = p[i * step];
  return load(part);
}

// First over the rows into the buffer, which has the padding too, then along the row.
template <class Fold, int stride>
void fold_row(const PoolRow<float>& r) {
  const int64_t size = pool_row_buffer(r);
  for_vectors(size,
              [&](int64_t i, int64_t count) { store(r.buffer + i, set(Fold::start), count); });
  float* folded = r.buffer + r.pad;
  for_vectors(r.input, [&](int64_t x, int64_t count) {
    F32 sum = set(Fold::start);
    for (int64_t i = 0; i < r.rows[0]; ++i) {
      for (int64_t j = 0; j < r.rows[1]; ++j) {
        sum = Fold::fold(sum, load(r.x + i * r.steps[0] + j * r.steps[1] + x, count, 0));
      }
    }
    store(folded + x, sum, count);
  });
  for_vectors(r.output, [&](int64_t o, int64_t count) {
    F32 sum = set(Fold::start);
    for (int64_t k = 0; k < r.kernel; ++k) {
      sum = Fold::fold(sum, load_every<stride>(r.buffer + o * r.stride + k * r.dilation, r.stride));
    }
    if (r.counts != nullptr) sum = sum / (set(r.row_count) * load(r.counts + o, count, 1));
    store(r.y + o, sum, count);
  });
}

template <class Fold>
void fold_any_row(const PoolRow<float>& r) {
  if (r.stride == 1) return fold_row<Fold, 1>(r);
  if (r.stride == 2) return fold_row<Fold, 2>(r);
  fold_row<Fold, 0>(r);
}

// 16 bytes at a time suit the short rows of images.
constexpr int64_t byte_lanes = 16;
template <class T>
struct ByteLanes {
  typedef T Vector __attribute__((vector_size(byte_lanes)));
};

// The larger of `x` and the bytes at p.
template <class T, class Vector = typename ByteLanes<T>::Vector>
BASCULE_INLINE Vector max_with(Vector x, const T* p) {
  Vector other;
  __builtin_memcpy(&other, p, byte_lanes);
  return x > other ? x : other;
}

// The same for the maximum of bytes: windows at all positions, in place, of which then every
// `stride`th is taken.
template <class T>
void max_bytes(const PoolRow<T>& r) {
  using Vector = typename ByteLanes<T>::Vector;
  const Vector lowest = Vector{} + std::numeric_limits<T>::lowest();
  std::fill_n(r.buffer, pool_row_buffer(r), std::numeric_limits<T>::lowest());
  for (int64_t i = 0; i < r.rows[0]; ++i) {
    for (int64_t j = 0; j < r.rows[1]; ++j) {
      const T* row = r.x + i * r.steps[0] + j * r.steps[1];
      T* folded = r.buffer + r.pad;
      int64_t x = 0;
      for (; x + byte_lanes <= r.input; x += byte_lanes) {
        const Vector sum = max_with(max_with(lowest, folded + x), row + x);
        __builtin_memcpy(folded + x, &sum, byte_lanes);
      }
      for (; x < r.input; ++x) folded[x] = std::max(folded[x], row[x]);
    }
  }
  const int64_t positions = (r.output - 1) * r.stride + 1;
  for (int64_t x = 0; x < positions; x += byte_lanes) {
    Vector sum = lowest;
    for (int64_t k = 0; k < r.kernel; ++k) sum = max_with(sum, r.buffer + x + k * r.dilation);
    __builtin_memcpy(r.buffer + x, &sum, byte_lanes);
  }
  for (int64_t o = 0; o < r.output; ++o) r.y[o] = r.buffer[o * r.stride];
}

// `vectors` whole vectors of channels from channel `at` on. Unrolled: the sums stay in registers.
template <class Fold, int vectors, bool divide>
BASCULE_INLINE void fold_channels(const PoolPixel<float>& p, int64_t at) {
  F32 sum[vectors];
#pragma GCC unroll 4
  for (int v = 0; v < vectors; ++v) sum[v] = set(Fold::start);
  for (int64_t i = 0; i < p.taps[0]; ++i) {
    for (int64_t j = 0; j < p.taps[1]; ++j) {
      const float* x = p.x + i * p.steps[0] + j * p.steps[1] + at;
      for (int64_t k = 0; k < p.taps[2]; ++k, x += p.steps[2]) {
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) sum[v] = Fold::fold(sum[v], load(x + v * lanes));
      }
    }
  }
#pragma GCC unroll 4
  for (int v = 0; v < vectors; ++v) {
    store(p.y + at + v * lanes, divide ? sum[v] / set(p.count) : sum[v]);
  }
}

template <class Fold, bool divide>
void fold_pixel(const PoolPixel<float>& p) {
  int64_t at = 0;
  for (; at + 4 * lanes <= p.channels; at += 4 * lanes) fold_channels<Fold, 4, divide>(p, at);
  for (; at + lanes <= p.channels; at += lanes) fold_channels<Fold, 1, divide>(p, at);
  if (at == p.channels) return;
  const int64_t left = p.channels - at;
  F32 sum = set(Fold::start);
  for (int64_t i = 0; i < p.taps[0]; ++i) {
    for (int64_t j = 0; j < p.taps[1]; ++j) {
      const float* x = p.x + i * p.steps[0] + j * p.steps[1] + at;
      for (int64_t k = 0; k < p.taps[2]; ++k, x += p.steps[2]) {
        sum = Fold::fold(sum, load(x, left, 0));
      }
    }
  }
  store(p.y + at, divide ? sum / set(p.count) : sum, left);
}

// All taps of an output position, for the channels from `at` on that some vectors hold.
template <int vectors, class T>
BASCULE_INLINE void max_taps(const PoolPixel<T>& p, int64_t at) {
  typename ByteLanes<T>::Vector sum[vectors];
#pragma GCC unroll 4
  for (int v = 0; v < vectors; ++v) {
    sum[v] = typename ByteLanes<T>::Vector{} + std::numeric_limits<T>::lowest();
  }
  for (int64_t i = 0; i < p.taps[0]; ++i) {
    for (int64_t j = 0; j < p.taps[1]; ++j) {
      const T* x = p.x + i * p.steps[0] + j * p.steps[1] + at;
      for (int64_t k = 0; k < p.taps[2]; ++k, x += p.steps[2]) {
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) sum[v] = max_with(sum[v], x + v * byte_lanes);
      }
    }
  }
  __builtin_memcpy(p.y + at, sum, sizeof(sum));
}

template <class T>
void max_byte_pixel(const PoolPixel<T>& p) {
  int64_t at = 0;
  for (; at + 4 * byte_lanes <= p.channels; at += 4 * byte_lanes) max_taps<4>(p, at);
  for (; at + byte_lanes <= p.channels; at += byte_lanes) max_taps<1>(p, at);
  for (; at < p.channels; ++at) {
    T sum = std::numeric_limits<T>::lowest();
    for (int64_t i = 0; i < p.taps[0]; ++i) {
      for (int64_t j = 0; j < p.taps[1]; ++j) {
        const T* x = p.x + i * p.steps[0] + j * p.steps[1] + at;
        for (int64_t k = 0; k < p.taps[2]; ++k, x += p.steps[2]) sum = std::max(sum, *x);
      }
    }
    p.y[at] = sum;
  }
}

float sum_plane(const float* x, int64_t n) {
  return sum_of(n, [&](int64_t i, int64_t count) { return load(x + i, count, 0); });
}

float max_plane(const float* x, int64_t n) {
  F32 part[4];
  for (F32& one : part) one = set(-infinity);
  int64_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) part[v] = max(part[v], load(x + i + v * lanes));
  }
  for (; i + lanes <= n; i += lanes) part[0] = max(part[0], load(x + i));
  if (i < n) part[0] = max(part[0], load(x + i, n - i, -infinity));
  return reduce_max(max(max(part[0], part[1]), max(part[2], part[3])));
}

}  // namespace

const PoolFunctions& pool_functions() {
  static constexpr PoolFunctions functions = {fold_any_row<Max>,
                                              max_bytes<uint8_t>,
                                              max_bytes<int8_t>,
                                              fold_any_row<Add>,
                                              fold_pixel<Max, false>,
                                              max_byte_pixel<uint8_t>,
                                              max_byte_pixel<int8_t>,
                                              fold_pixel<Add, true>,
                                              sum_plane,
                                              max_plane};
  return functions;
}
}  // namespace bascule::BASCULE_ISA

#if BASCULE_ONCE
#include "simd/isa.h"
namespace bascule {
BASCULE_PER_ISA(const PoolFunctions& pool_functions());

const PoolFunctions& pool_functions() {
  static const PoolFunctions& functions = BASCULE_PICK(pool_functions)();
  return functions;
}
}  // namespace bascule
#endif
