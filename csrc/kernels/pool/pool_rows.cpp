// SPDX-License-Identifier: Apache-2.0
// instruction sets: base avx2 avx512
// Maximum and average of windows, float32. Every window is folded tap by tap in memory order, in
// vectors over output positions (channels first) or over channels (channels last).
#include "kernels/pool/pool_rows.h"
#include "simd/vec.h"

namespace bascule::BASCULE_ISA {
namespace {

struct Max {
  static constexpr float start = -infinity;
  BASCULE_INLINE F32 fold(F32 sum, F32 x) { return max(sum, x); }
  BASCULE_INLINE float fold(float sum, float x) { return x > sum || x != x ? x : sum; }
};
struct Add {
  static constexpr float start = 0;
  BASCULE_INLINE F32 fold(F32 sum, F32 x) { return sum + x; }
  BASCULE_INLINE float fold(float sum, float x) { return sum + x; }
};

template <int stride>
BASCULE_INLINE F32 load_every(const float* p, int64_t step) {
  if constexpr (stride == 1) return load(p);
  if constexpr (stride == 2) {
    // The second load begins one early, so that nothing behind the last element is read.
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

template <class Fold, int stride>
void fold_row(const PoolRow& r) {
  const auto edge = [&](int64_t o) {
    const int64_t origin = o * r.stride - r.pad;
    int64_t first = 0;
    while (first < r.kernel && origin + first * r.dilation < 0) ++first;
    int64_t last = first;
    while (last < r.kernel && origin + last * r.dilation < r.input) ++last;
    float sum = Fold::start;
    for (int64_t i = 0; i < r.rows[0]; ++i) {
      for (int64_t j = 0; j < r.rows[1]; ++j) {
        const float* x = r.x + i * r.steps[0] + j * r.steps[1] + origin;
        for (int64_t k = first; k < last; ++k) sum = Fold::fold(sum, x[k * r.dilation]);
      }
    }
    r.y[o] = r.counts != nullptr ? sum / (r.row_count * r.counts[o]) : sum;
  };
  // Positions whose window lies inside the row.
  int64_t low = (r.pad + r.stride - 1) / r.stride;
  if (low > r.output) low = r.output;
  const int64_t room = r.input + r.pad - (r.kernel - 1) * r.dilation - 1;
  int64_t high = room < 0 ? 0 : room / r.stride + 1;
  if (high > r.output) high = r.output;
  if (high < low) high = low;

  int64_t o = 0;
  for (; o < low; ++o) edge(o);
  for (; o + lanes <= high; o += lanes) {
    F32 sum = set(Fold::start);
    for (int64_t i = 0; i < r.rows[0]; ++i) {
      for (int64_t j = 0; j < r.rows[1]; ++j) {
        const float* x = r.x + i * r.steps[0] + j * r.steps[1] + o * r.stride - r.pad;
        for (int64_t k = 0; k < r.kernel; ++k) {
          sum = Fold::fold(sum, load_every<stride>(x + k * r.dilation, r.stride));
        }
      }
    }
    if (r.counts != nullptr) sum = sum / (set(r.row_count) * load(r.counts + o));
    store(r.y + o, sum);
  }
  for (; o < r.output; ++o) edge(o);
}

template <class Fold>
void fold_any_row(const PoolRow& r) {
  if (r.stride == 1) return fold_row<Fold, 1>(r);
  if (r.stride == 2) return fold_row<Fold, 2>(r);
  fold_row<Fold, 0>(r);
}

// `vectors` whole vectors of channels from channel `at` on.
template <class Fold, int vectors, bool divide>
BASCULE_INLINE void fold_channels(const PoolPixel& p, int64_t at) {
  F32 sum[vectors];
  for (int v = 0; v < vectors; ++v) sum[v] = set(Fold::start);
  for (int64_t i = 0; i < p.taps[0]; ++i) {
    for (int64_t j = 0; j < p.taps[1]; ++j) {
      const float* x = p.x + i * p.steps[0] + j * p.steps[1] + at;
      for (int64_t k = 0; k < p.taps[2]; ++k, x += p.steps[2]) {
        for (int v = 0; v < vectors; ++v) sum[v] = Fold::fold(sum[v], load(x + v * lanes));
      }
    }
  }
  for (int v = 0; v < vectors; ++v) {
    store(p.y + at + v * lanes, divide ? sum[v] / set(p.count) : sum[v]);
  }
}

template <class Fold, bool divide>
void fold_pixel(const PoolPixel& p) {
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

}  // namespace

const PoolFunctions& pool_functions() {
  static constexpr PoolFunctions functions = {fold_any_row<Max>, fold_any_row<Add>,
                                              fold_pixel<Max, false>, fold_pixel<Add, true>};
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
