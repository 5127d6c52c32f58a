// SPDX-License-Identifier: Apache-2.0
// What becomes of sums of 8-bit products, a vector of output channels at a time. Included by
// sources that are compiled per instruction set.
#pragma once

#include "kernels/quantize/byte_quads.h"
#include "kernels/quantize/integer_pixels.h"
#include "kernels/quantize/narrow_lanes.h"
#include "simd/vec.h"

namespace bascule::BASCULE_ISA {
namespace {

BASCULE_INLINE void store_part(int32_t* to, I32 value, int64_t count) {
  if (count >= lanes) return store_int(to, value);
  for (int64_t i = 0; i < count; ++i) to[i] = value[i];
}

// Arithmetic modulo 2^32 is on unsigned lanes.
BASCULE_INLINE I32 add(I32 a, I32 b) {
  return reinterpret_cast<I32>(reinterpret_cast<U32>(a) + reinterpret_cast<U32>(b));
}

// Sums of a vector of output channels to bytes. The bounds are integers: clamping before the
// rounding is the same. NaN becomes the lowest.
struct ToBytes {
  __attribute__((always_inline)) ToBytes(const IntegerFinish& f, int64_t column)
      : bias(load_int(f.bias + column)),
        factor(load(f.factors + column)),
        low(set(f.low - f.zero)),
        high(set(f.high - f.zero)),
        zero(set_int(static_cast<int32_t>(f.zero))) {}
  __attribute__((always_inline)) F32 clamped(I32 sum) const {
    return at_most(at_least(to_float(add(sum, bias)) * factor, low), high);
  }
  __attribute__((always_inline)) I32 operator()(I32 sum) const {
    return to_nearest_int(clamped(sum)) + zero;
  }
  __attribute__((always_inline)) F32 number(I32 sum) const {
    return round(clamped(sum)) + to_float(zero);
  }

  I32 bias;
  F32 factor, low, high;
  I32 zero;
};

// The sum of a result and what is added to it, not yet rounded.
struct AddNumbers {
  __attribute__((always_inline)) explicit AddNumbers(const ByteAddition& a)
      : own_factor(set(a.own_factor)),
        factor(set(a.factor)),
        offset(set(a.offset)),
        low(set(a.low)),
        high(set(a.low + 255.0f)),
        is_first(a.is_first) {}
  __attribute__((always_inline)) F32 operator()(F32 own, F32 other) const {
    const F32 sum = is_first ? fma(other, factor, fma(own, own_factor, offset))
                             : fma(own, own_factor, fma(other, factor, offset));
    return at_most(at_least(sum, low), high);
  }

  F32 own_factor, factor, offset, low, high;
  bool is_first;
};

// Bytes that are added to each pixel.
enum class Residual { none, of_unsigned, of_signed };
BASCULE_INLINE Residual residual_of(const IntegerFinish& f) {
  if (f.residual == nullptr) return Residual::none;
  return f.residual->is_signed ? Residual::of_signed : Residual::of_unsigned;
}
template <Residual kind>
BASCULE_INLINE F32 load_numbers(const uint8_t* from, int64_t count) {
  if constexpr (kind == Residual::of_signed) {
    return to_float(load_narrow(reinterpret_cast<const int8_t*>(from), count));
  }
  return to_float(load_narrow(from, count));
}

// What is taken off the sums of a pixel for the zero points of the weights.
BASCULE_INLINE I32 without_zeros(const IntegerFinish& f, int64_t column, I32 sum, I32 pixel_sum) {
  if (f.weight_zero == nullptr) return sum;
  const U32 zeros = reinterpret_cast<U32>(load_int(f.weight_zero + column));
  return add(sum, reinterpret_cast<I32>(-(zeros * reinterpret_cast<U32>(pixel_sum))));
}

// `count` results from `column` on, of a pixel whose results begin at y.
BASCULE_INLINE void finish_any(const IntegerFinish& f, int64_t column, I32 sum, uint8_t* y,
                               const uint8_t* residual, int64_t count) {
  if (f.factors == nullptr) {
    const I32 value = add(sum, load_int(f.bias + column));
    return store_part(reinterpret_cast<int32_t*>(y) + column, value, count);
  }
  F32 number = ToBytes(f, column).number(sum);
  if (f.row != nullptr) {
    number = round(AddNumbers(*f.row)(number, load(f.row_values + column)));
  }
  if (f.residual != nullptr) {
    const F32 other = f.residual->is_signed
                          ? load_numbers<Residual::of_signed>(residual + column, count)
                          : load_numbers<Residual::of_unsigned>(residual + column, count);
    number = round(AddNumbers(*f.residual)(number, other));
  }
  store_narrow(y + column, to_int(number), count);
}

}  // namespace
}  // namespace bascule::BASCULE_ISA
