// SPDX-License-Identifier: Apache-2.0
// instruction sets: base avx2 avx512 avx512_fp16
// Products of float16 in float16: each 32 products are added up in it, and these partial sums in
// float32. Twice the elements a vector; the results are within a thousandth or two of the largest.
// Below avx512_fp16 each step is emulated in float32, which is for tests.
#include "kernels/gemm/half_passes.h"

namespace bascule::BASCULE_ISA {
namespace {

// The elements of one row of a panel.
#if defined(__AVX512FP16__)
struct Row {
  __m512h elements;
};
BASCULE_INLINE Row load_row(const uint16_t* p) { return {_mm512_loadu_ph(p)}; }
BASCULE_INLINE Row broadcast_pair(uint32_t pair) {
  return {reinterpret_cast<__m512h>(_mm512_set1_epi32(static_cast<int>(pair)))};
}
BASCULE_INLINE Row multiply_add(Row a, Row b, Row c) {
  return {_mm512_fmadd_ph(a.elements, b.elements, c.elements)};
}
BASCULE_INLINE F32 widen(Row row, int v) {
  const __m512i bits = reinterpret_cast<__m512i>(row.elements);
  const __m256i part = v == 0 ? _mm512_castsi512_si256(bits) : _mm512_extracti64x4_epi64(bits, 1);
  return reinterpret_cast<F32>(_mm512_cvtph_ps(part));
}
#else
struct Row {
  U16 elements[2];
};
BASCULE_INLINE Row load_row(const uint16_t* p) {
  return {{load_u16(p, lanes), load_u16(p + lanes, lanes)}};
}
BASCULE_INLINE Row broadcast_pair(uint32_t pair) {
  const U16 all = static_cast<uint16_t>(pair) - U16{};
  return {{all, all}};
}
BASCULE_INLINE F32 widen(Row row, int v) { return widen_f16(row.elements[v]); }
BASCULE_INLINE Row multiply_add(Row a, Row b, Row c) {
  Row result;
  for (int v = 0; v < 2; ++v) {
    result.elements[v] = narrow_f16(fma(widen(a, v), widen(b, v), widen(c, v)));
  }
  return result;
}
#endif

constexpr int64_t partial_steps = 32;

struct Float16Sums {
  typedef F16 Format;
  // Each element twice: pairs are broadcast as they are loaded, single ones by a shuffle after it.
  typedef uint32_t A;
  static constexpr bool widens_panels = false;
  static constexpr int tile_rows = max_rows;

  static void take_rows(const uint16_t* from, int64_t from_stride, uint32_t* to, int64_t to_stride,
                        int64_t rows, int64_t n) {
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t i = 0; i < n; ++i) to[r * to_stride + i] = from[r * from_stride + i] * 0x10001u;
    }
  }

  template <int rows, int count>
  BASCULE_INLINE void add(const HalfTile<uint32_t>& t, int64_t a_stride) {
    const auto* b = static_cast<const uint16_t*>(t.b);
    const char* next = t.next;
    int64_t k = 0;
    do {
      const int64_t end = least(t.depth, k + partial_steps);
      const bool first = t.first && k == 0;
      Row sum[rows][count] = {};
      for (; k < end; ++k) {
        Row column[count];
#pragma GCC unroll 4
        for (int p = 0; p < count; ++p) column[p] = load_row(b + p * t.b_panel_stride + k * width);
        __builtin_prefetch(b + (k + 8) * width);
        if (next != nullptr) __builtin_prefetch(next + 64 * k, 0, 2);
#pragma GCC unroll 14
        for (int r = 0; r < rows; ++r) {
          const Row value = broadcast_pair(t.a[r * a_stride + k]);
#pragma GCC unroll 4
          for (int p = 0; p < count; ++p) {
            sum[r][p] = multiply_add(value, column[p], sum[r][p]);
          }
        }
      }
#pragma GCC unroll 14
      for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 4
        for (int p = 0; p < count; ++p) {
          float* to = t.sums + r * t.row_stride + p * t.panel_stride;
#pragma GCC unroll 2
          for (int v = 0; v < 2; ++v) {
            const F32 part = widen(sum[r][p], v);
            store(to + v * lanes, first ? part : load(to + v * lanes) + part);
          }
        }
      }
    } while (k < t.depth);
  }

  template <int rows>
  static void tile(const HalfTile<uint32_t>& t) {
    add<rows, 1>(t, half_a_stride);
  }
  template <int rows, int count>
  static void panels(const HalfTile<uint32_t>& t) {
    add<rows, count>(t, t.a_stride);
  }
};

}  // namespace

void multiply_float16_sums(const HalfBlock& g) { multiply<Float16Sums>(g); }

}  // namespace bascule::BASCULE_ISA
