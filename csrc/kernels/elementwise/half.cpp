// SPDX-License-Identifier: Apache-2.0
// instruction sets: base avx2 avx512
// 16-bit floats: an operation widens its operands to float32, works there and rounds once.
#include "simd/half.h"
#include "kernels/elementwise/tile.h"

namespace bascule::BASCULE_ISA {
namespace {

struct F16 {
  BASCULE_INLINE F32 widen(U16 v) { return widen_f16(v); }
  BASCULE_INLINE U16 narrow(F32 v) { return narrow_f16(v); }
};
struct BF16 {
  BASCULE_INLINE F32 widen(U16 v) { return widen_bf16(v); }
  BASCULE_INLINE U16 narrow(F32 v) { return narrow_bf16(v); }
};

template <class Format>
void widen(const TileOp&, const void* a, const void*, const void*, void* y, int64_t n) {
  const uint16_t* x = static_cast<const uint16_t*>(a);
  float* out = static_cast<float*>(y);
  for_vectors(n, [&](int64_t i, int64_t count) {
    store(out + i, Format::widen(load_u16(x + i, count)), count);
  });
}

template <class Format>
void narrow(const TileOp&, const void* a, const void*, const void*, void* y, int64_t n) {
  const float* x = static_cast<const float*>(a);
  uint16_t* out = static_cast<uint16_t*>(y);
  for_vectors(n, [&](int64_t i, int64_t count) {
    store_u16(out + i, Format::narrow(load(x + i, count, 0)), count);
  });
}

// op.inner on widened operands. With `to_bool` the result is bytes and not narrowed.
template <class Format, bool to_bool>
void widened(const TileOp& op, const void* a, const void* b, const void* c, void* y, int64_t n) {
  float left[tile_size], right[tile_size], third[tile_size];
  for (int64_t i = 0; i < n; i += tile_size) {
    const int64_t count = n - i < tile_size ? n - i : tile_size;
    widen<Format>(op, static_cast<const uint16_t*>(a) + i, nullptr, nullptr, left, count);
    if (b != nullptr) {
      widen<Format>(op, static_cast<const uint16_t*>(b) + i, nullptr, nullptr, right, count);
    }
    if (c != nullptr) {
      widen<Format>(op, static_cast<const uint16_t*>(c) + i, nullptr, nullptr, third, count);
    }
    if constexpr (to_bool) {
      op.inner(op, left, right, third, static_cast<uint8_t*>(y) + i, count);
    } else {
      op.inner(op, left, right, third, left, count);
      narrow<Format>(op, left, nullptr, nullptr, static_cast<uint16_t*>(y) + i, count);
    }
  }
}

// Like widened(), with one element each at b and c.
template <class Format>
void widened_bounds(const TileOp& op, const void* a, const void* b, const void* c, void* y,
                    int64_t n) {
  float buffer[tile_size], least, largest;
  widen<Format>(op, b, nullptr, nullptr, &least, 1);
  widen<Format>(op, c, nullptr, nullptr, &largest, 1);
  for (int64_t i = 0; i < n; i += tile_size) {
    const int64_t count = n - i < tile_size ? n - i : tile_size;
    widen<Format>(op, static_cast<const uint16_t*>(a) + i, nullptr, nullptr, buffer, count);
    op.inner(op, buffer, &least, &largest, buffer, count);
    narrow<Format>(op, buffer, nullptr, nullptr, static_cast<uint16_t*>(y) + i, count);
  }
}

template <class Format>
HalfFunctions functions() {
  return {widen<Format>, narrow<Format>, widened<Format, false>, widened<Format, true>,
          widened_bounds<Format>};
}

}  // namespace

HalfFunctions half_functions(bool bfloat16) {
  return bfloat16 ? functions<BF16>() : functions<F16>();
}

}  // namespace bascule::BASCULE_ISA
