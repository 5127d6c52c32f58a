// SPDX-License-Identifier: Apache-2.0
// instruction sets: base avx2 avx512
#include "kernels/quantize/byte_sum.h"

#include "kernels/quantize/narrow_lanes.h"
#include "simd/vec.h"

namespace bascule::BASCULE_ISA {
namespace {

template <class T>
BASCULE_INLINE F32 load_bytes(const void* from, bool steps, int64_t at, int64_t count) {
  const T* p = static_cast<const T*>(from);
  return to_float(steps ? load_narrow(p + at, count) : set_int(*p));
}

template <class T>
void sum(const ByteSum& s) {
  const F32 low = set(static_cast<T>(-1) < 0 ? -128.0f : 0.0f), high = low + 255.0f;
  const F32 a_factor = set(s.a_factor), b_factor = set(s.b_factor), offset = set(s.offset);
  for (int64_t i = 0; i < s.count; i += lanes) {
    const int64_t count = s.count - i;
    const F32 right = fma(load_bytes<T>(s.b, s.b_steps, i, count), b_factor, offset);
    const F32 y = fma(load_bytes<T>(s.a, s.a_steps, i, count), a_factor, right);
    const F32 inside = at_most(at_least(y, low), high);  // NaN becomes the lowest
    store_narrow(static_cast<T*>(s.y) + i, to_int(round(inside)), count);
  }
}

void sum_either(const ByteSum& s, bool is_signed) { (is_signed ? sum<int8_t> : sum<uint8_t>)(s); }

}  // namespace

using ByteSumFunction = void (*)(const ByteSum&, bool);
ByteSumFunction byte_sum_function() { return sum_either; }

}  // namespace bascule::BASCULE_ISA

#if BASCULE_ONCE
#include "simd/isa.h"

namespace bascule {
using ByteSumFunction = void (*)(const ByteSum&, bool);
BASCULE_PER_ISA(ByteSumFunction byte_sum_function());

void sum_bytes(const ByteSum& sum, bool is_signed) {
  static const ByteSumFunction function = BASCULE_PICK(byte_sum_function)();
  function(sum, is_signed);
}
}  // namespace bascule
#endif
