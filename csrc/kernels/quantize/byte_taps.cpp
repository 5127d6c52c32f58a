// SPDX-License-Identifier: Apache-2.0
// instruction sets: base avx2 avx512
#include "kernels/quantize/byte_taps.h"
#include "kernels/quantize/narrow_lanes.h"
#include "simd/vec.h"

namespace bascule::BASCULE_ISA {
namespace {

// The bytes at p, or every other one.
template <int stride>
BASCULE_INLINE U32 load_every(const uint8_t* p) {
  if constexpr (stride == 1) return reinterpret_cast<U32>(load_narrow(p, lanes));
  NarrowLanes<uint16_t>::Vector pairs;
  __builtin_memcpy(&pairs, p, sizeof(pairs));
  return reinterpret_cast<U32>(widen(pairs)) & 0xff;
}

template <int stride, int vectors>
BASCULE_INLINE void sum_vectors(const ByteTaps& t, int64_t at) {
  U32 sums[vectors];
  for (int v = 0; v < vectors; ++v) sums[v] = reinterpret_cast<U32>(set_int(t.start));
  const uint8_t* x = t.x + at * stride;
  for (int64_t tap = 0; tap < t.taps; ++tap) {
    const U32 weight = reinterpret_cast<U32>(set_int(t.weights[tap]));
    const uint8_t* from = x + t.offsets[tap];
    for (int v = 0; v < vectors; ++v) {
      sums[v] += weight * load_every<stride>(from + v * lanes * stride);
    }
  }
  __builtin_memcpy(t.sums + at, sums, sizeof(sums));
}

template <int stride>
void sum_row(const ByteTaps& t) {
  int64_t i = 0;
  for (; i + 3 * lanes < t.count; i += 4 * lanes) sum_vectors<stride, 4>(t, i);
  for (; i < t.count; i += lanes) sum_vectors<stride, 1>(t, i);
}

// No whole vectors: long steps would lead far behind the last byte.
void sum_far(const ByteTaps& t) {
  for (int64_t i = 0; i < t.count; ++i) {
    auto sum = static_cast<uint32_t>(t.start);
    for (int64_t tap = 0; tap < t.taps; ++tap) {
      sum += static_cast<uint32_t>(t.weights[tap]) * t.x[t.offsets[tap] + i * t.stride];
    }
    t.sums[i] = static_cast<int32_t>(sum);
  }
}

void sum_taps(const ByteTaps& t) {
  if (t.stride == 1) return sum_row<1>(t);
  if (t.stride == 2) return sum_row<2>(t);
  sum_far(t);
}

}  // namespace

using ByteTapsFunction = void (*)(const ByteTaps&);
ByteTapsFunction byte_taps_function() { return sum_taps; }

}  // namespace bascule::BASCULE_ISA

#if BASCULE_ONCE
#include "simd/isa.h"

namespace bascule {
using ByteTapsFunction = void (*)(const ByteTaps&);
BASCULE_PER_ISA(ByteTapsFunction byte_taps_function());

void sum_byte_taps(const ByteTaps& taps) {
  static const ByteTapsFunction function = BASCULE_PICK(byte_taps_function)();
  function(taps);
}
}  // namespace bascule
#endif
