// SPDX-License-Identifier: Apache-2.0
// What depthwise convolutions do with a vector of channels. Included by sources that are compiled
// per instruction set.
#pragma once

#include "simd/vec.h"

namespace bascule::BASCULE_ISA {
namespace {

// A vector of channels from `channel` on. `whole`: all of its lanes are channels.
template <bool whole>
struct ChannelVector {
  int64_t channel;
  int64_t count;

  __attribute__((always_inline)) F32 get(const float* p) const {
    if constexpr (whole) {
      return load(p);
    } else {
      return load(p, count, 0);
    }
  }

  // Finishes the sums of neighbouring pixels, the first at d.y + at, and stores them.
  template <int pixels, class Image>
  __attribute__((always_inline)) void put(const Image& d, int64_t at, F32* sum) const {
    const int64_t step = d.y_stride;
    if (const float* residual = d.residual; residual != nullptr) {
#pragma GCC unroll 16
      for (int p = 0; p < pixels; ++p) sum[p] = sum[p] + get(residual + at + p * step);
    }
    if (d.clamp) {
      const F32 low = set(d.low);
      const F32 high = set(d.high);
#pragma GCC unroll 16
      for (int p = 0; p < pixels; ++p) sum[p] = at_most(high, at_least(low, sum[p]));
    }
    float* y = d.y + at;
#pragma GCC unroll 16
    for (int p = 0; p < pixels; ++p) {
      if constexpr (whole) {
        store(y + p * step, sum[p]);
      } else {
        store(y + p * step, sum[p], count);
      }
    }
  }
};

}  // namespace
}  // namespace bascule::BASCULE_ISA
