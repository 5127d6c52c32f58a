// SPDX-License-Identifier: Apache-2.0
// instruction sets: base avx2 avx512
// Rows of floats to quantized numbers and back.
#include "kernels/quantize/rows.h"
#include "kernels/quantize/narrow_lanes.h"
#include "simd/vec.h"

namespace bascule::BASCULE_ISA {
namespace {

// `each` is a template argument so that the loop of the common case keeps its vectors.
template <bool each>
BASCULE_INLINE F32 pick(const float* values, F32 shared, int64_t i, int64_t count) {
  return each ? load(values + i, count, 1.0f) : shared;
}

// NaN becomes low.
BASCULE_INLINE I32 clamp(F32 value, F32 low, F32 high) {
  return to_int(at_most(at_least(value, low), high));
}

template <bool each, class T>
void quantize(const QuantizeRow& r) {
  const F32 scale = set(r.affine.scale[0]);
  const F32 zero = set(r.affine.zero != nullptr ? r.affine.zero[0] : 0);
  const F32 low = set(r.low), high = set(r.high);
  T* y = static_cast<T*>(r.y);
  for_vectors(r.n, [&](int64_t i, int64_t count) {
    const F32 quotient =
        round(load(r.x + i, count, 0) / pick<each>(r.affine.scale, scale, i, count));
    const F32 moved =
        r.affine.zero != nullptr ? quotient + pick<each>(r.affine.zero, zero, i, count) : quotient;
    store_narrow(y + i, clamp(moved, low, high), count);
  });
}

template <bool each>
void requantize(const RequantizeRow& r) {
  const F32 scale = set(r.scale[0]), zero = set(r.zero);
  const F32 low = set(r.low), high = set(r.high);
  for_vectors(r.n, [&](int64_t i, int64_t count) {
    const F32 x = to_float(load_narrow(r.x + i, count));
    const F32 value = round(x * pick<each>(r.scale, scale, i, count)) + zero;
    store_narrow(static_cast<uint8_t*>(r.y) + i, clamp(value, low, high), count);
  });
}

template <bool each, class Load>
BASCULE_INLINE void dequantize(const DequantizeRow& r, Load&& read) {
  const F32 scale = set(r.affine.scale[0]);
  const F32 zero = set(r.affine.zero != nullptr ? r.affine.zero[0] : 0);
  for_vectors(r.n, [&](int64_t i, int64_t count) {
    F32 value = read(i, count);
    if (r.affine.zero != nullptr) value = value - pick<each>(r.affine.zero, zero, i, count);
    store(r.y + i, value * pick<each>(r.affine.scale, scale, i, count), count);
  });
}

template <bool each>
void dequantize(const DequantizeRow& r) {
  const auto integers = [&]<class T>(const T* x) {
    dequantize<each>(r,
                     [x](int64_t i, int64_t count) { return to_float(load_narrow(x + i, count)); });
  };
  switch (r.source) {
    case QuantizedSource::i8:
      return integers(static_cast<const int8_t*>(r.x));
    case QuantizedSource::u8:
      return integers(static_cast<const uint8_t*>(r.x));
    case QuantizedSource::i16:
      return integers(static_cast<const int16_t*>(r.x));
    case QuantizedSource::u16:
      return integers(static_cast<const uint16_t*>(r.x));
    case QuantizedSource::i32:
      return integers(static_cast<const int32_t*>(r.x));
    case QuantizedSource::f32: {
      const float* x = static_cast<const float*>(r.x);
      return dequantize<each>(r, [x](int64_t i, int64_t count) { return load(x + i, count, 0); });
    }
  }
}

}  // namespace

void quantize_row(const QuantizeRow& r) {
  if (r.bytes == 1) {
    r.affine.each ? quantize<true, uint8_t>(r) : quantize<false, uint8_t>(r);
  } else {
    r.affine.each ? quantize<true, uint16_t>(r) : quantize<false, uint16_t>(r);
  }
}

void requantize_row(const RequantizeRow& r) { r.each ? requantize<true>(r) : requantize<false>(r); }

void dequantize_row(const DequantizeRow& r) {
  r.affine.each ? dequantize<true>(r) : dequantize<false>(r);
}

// Widens [low, high] to hold x; NaN does not count.
void range_of_row(const float* x, int64_t n, float* low, float* high) {
  F32 least = set(*low), most = set(*high);
  for_vectors(n, [&](int64_t i, int64_t count) {
    least = at_most(load(x + i, count, *low), least);
    most = at_least(load(x + i, count, *high), most);
  });
  *low = -reduce_max(-least);
  *high = reduce_max(most);
}

}  // namespace bascule::BASCULE_ISA

#if BASCULE_ONCE
#include "kernels/quantize/row_functions.h"

namespace bascule {
BASCULE_PER_ISA(void quantize_row(const QuantizeRow& r);
                void requantize_row(const RequantizeRow& r);
                void dequantize_row(const DequantizeRow& r);
                void range_of_row(const float* x, int64_t n, float* low, float* high));

const QuantizedRows& quantized_rows() {
  static const QuantizedRows functions = {BASCULE_PICK(quantize_row), BASCULE_PICK(requantize_row),
                                          BASCULE_PICK(dequantize_row), BASCULE_PICK(range_of_row)};
  return functions;
}
}  // namespace bascule
#endif
