// SPDX-License-Identifier: Apache-2.0
// instruction sets: base avx2 avx512
// A few channels that lie apart, side by side: loops that compilers turn into shuffles.
#include <cstdint>

#include "simd/vec.h"

namespace bascule::BASCULE_ISA {
namespace {

template <int channels>
void interleave_few(const float* from, int64_t plane, int64_t pixels, float* __restrict to) {
  for (int64_t i = 0; i < pixels; ++i) {
#pragma GCC unroll 4
    for (int c = 0; c < channels; ++c) to[i * channels + c] = from[c * plane + i];
  }
}

}  // namespace

// to[pixel][channel] = from[channel * plane + pixel], for 2 to 4 channels.
void interleave(const float* from, int64_t plane, int64_t channels, int64_t pixels, float* to) {
  if (channels == 2) {
    interleave_few<2>(from, plane, pixels, to);
  } else if (channels == 3) {
    interleave_few<3>(from, plane, pixels, to);
  } else {
    interleave_few<4>(from, plane, pixels, to);
  }
}

}  // namespace bascule::BASCULE_ISA

#if BASCULE_ONCE
#include "kernels/conv/run.h"
#include "simd/isa.h"
namespace bascule {
BASCULE_PER_ISA(void interleave(const float* from, int64_t plane, int64_t channels, int64_t pixels,
                                float* to));

void interleave_channels(const float* from, int64_t plane, int64_t channels, int64_t pixels,
                         float* to) {
  static const auto function = BASCULE_PICK(interleave);
  function(from, plane, channels, pixels, to);
}
}  // namespace bascule
#endif
