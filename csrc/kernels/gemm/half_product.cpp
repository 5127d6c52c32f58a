// SPDX-License-Identifier: Apache-2.0
// instruction sets: base avx2 avx512
// Products of 16-bit floats with weights that are kept 16 bits wide, in float32: the rows of A are
// widened a tile at a time, B in the tile or a panel at a time. The sums are those of float32, step
// by step.
#include "kernels/gemm/half_passes.h"

namespace bascule::BASCULE_ISA {
namespace {

// Panels of floats, widened beforehand.
struct Floats {
  typedef float Element;
  static constexpr int64_t step = 1;
  BASCULE_INLINE F32 columns(const float* b, int64_t column, int) { return load(b + column); }
};
template <class Elements>
struct Halves : Elements {
  typedef uint16_t Element;
};

template <class Elements>
struct Widening {
  typedef Elements Format;
  typedef float A;
#if defined(__AVX512F__) || defined(__aarch64__)
  // A tile widens B itself, which takes 2 of its operations for each k beside 28 others. Two rows
  // of words take registers that the sums of a taller tile would need.
  static constexpr bool widens_panels = false;
  static constexpr int tile_rows = Format::step == 2 ? 12 : max_rows;
  typedef Halves<Format> Source;
#else
  // Where a tile has 12 others, a panel is widened once for all tiles.
  static constexpr bool widens_panels = true;
  static constexpr int tile_rows = max_rows;
  typedef Floats Source;
#endif

  static void take_rows(const uint16_t* from, int64_t from_stride, float* to, int64_t to_stride,
                        int64_t rows, int64_t n) {
    for (int64_t r = 0; r < rows; ++r) {
      const uint16_t* row = from + r * from_stride;
      float* out = to + r * to_stride;
      for_vectors(n, [&](int64_t i, int64_t count) {
        store(out + i, Format::widen(load_u16(row + i, count)), count);
      });
    }
  }

  template <int rows>
  static void tile(const HalfTile<float>& t) {
    F32 sum[rows][2];
#pragma GCC unroll 14
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
      for (int v = 0; v < 2; ++v) {
        sum[r][v] = t.first ? F32{} : load(t.sums + r * width + v * lanes);
      }
    }
    const float* a = t.a;
    const auto* b = static_cast<const typename Source::Element*>(t.b);
    const char* next = t.next;
    const auto add = [&](int row) __attribute__((always_inline)) {
      F32 column[2];
#pragma GCC unroll 2
      for (int v = 0; v < 2; ++v) column[v] = Source::columns(b, v * lanes, row);
#pragma GCC unroll 14
      for (int r = 0; r < rows; ++r) {
        const F32 value = set(a[r * half_a_stride + row]);
#pragma GCC unroll 2
        for (int v = 0; v < 2; ++v) sum[r][v] = fma(value, column[v], sum[r][v]);
      }
    };
    int64_t k = 0;
    for (; k + Source::step <= t.depth; k += Source::step) {
      __builtin_prefetch(b + 8 * Source::step * width);
      __builtin_prefetch(next, 0, 2);
      next += 64;
#pragma GCC unroll 2
      for (int row = 0; row < Source::step; ++row) add(row);
      a += Source::step;
      b += Source::step * width;
    }
    if (k < t.depth) add(0);
#pragma GCC unroll 14
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
      for (int v = 0; v < 2; ++v) store(t.sums + r * width + v * lanes, sum[r][v]);
    }
  }

  template <int rows, int count>
  static void panels(const HalfTile<float>& t) {
    constexpr int vectors = 2 * count;
    F32 sum[rows][vectors] = {};
    const auto* b = static_cast<const uint16_t*>(t.b);
    const auto add = [&](int64_t k, int row) __attribute__((always_inline)) {
      F32 value[rows];
#pragma GCC unroll 6
      for (int r = 0; r < rows; ++r) value[r] = set(t.a[r * t.a_stride + k + row]);
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) {
        const F32 column =
            Format::columns(b + v / 2 * t.b_panel_stride + k * width, v % 2 * lanes, row);
#pragma GCC unroll 6
        for (int r = 0; r < rows; ++r) sum[r][v] = fma(value[r], column, sum[r][v]);
      }
    };
    int64_t k = 0;
    for (; k + Format::step <= t.depth; k += Format::step) {
#pragma GCC unroll 2
      for (int row = 0; row < Format::step; ++row) add(k, row);
    }
    if (k < t.depth) add(k, 0);
    store_panels(t, sum);
  }
};

}  // namespace

void multiply_float16(const HalfBlock& g) { multiply<Widening<F16>>(g); }
void multiply_bfloat16(const HalfBlock& g) { multiply<Widening<BF16>>(g); }

}  // namespace bascule::BASCULE_ISA

#if BASCULE_ONCE
#include <algorithm>
#include <vector>

#include "kernels/gemm/half_product.h"
#include "kernels/move/transpose_tile.h"
#include "simd/bfloat16_dot.h"
#include "simd/isa.h"
#include "simd/tiles.h"

namespace bascule {
BASCULE_PER_ISA(void multiply_float16(const HalfBlock& g);
                void multiply_bfloat16(const HalfBlock& g));
BASCULE_PER_ISA(void multiply_float16_sums(const HalfBlock& g));
#if BASCULE_WITH_AVX512_BF16
namespace avx512_bf16 {
void multiply_bfloat16_dot(const HalfBlock& g);
}
#endif
#if BASCULE_WITH_AVX512_AMX
namespace avx512_amx {
void multiply_bfloat16_tiles(const HalfBlock& g);
bool multiply_float16_tiles(const HalfBlock& g);
}  // namespace avx512_amx
#endif
#if BASCULE_WITH_AVX512_FP16
namespace avx512_fp16 {
void multiply_float16_sums(const HalfBlock& g);
}
#endif

namespace {

// Rows of a panel that stand together, as HalfBlock says.
int64_t rows_together(DType dtype) { return dtype == DType::bfloat16 ? 2 : 1; }

// One panel; `words` are 16 bits of float16, or 32 of two rows of bfloat16 whose columns lie
// together in memory.
template <class Word>
void transpose_panel(const uint16_t* b, int64_t column_stride, int64_t rows, int64_t columns,
                     int64_t width, uint16_t* panel) {
  constexpr auto size = static_cast<int64_t>(sizeof(Word));
  transpose_tile<Word>(reinterpret_cast<const std::byte*>(b), column_stride * 2,
                       reinterpret_cast<std::byte*>(panel), width * size, columns, rows);
}

void pack_panel(const uint16_t* b, int64_t row_stride, int64_t column_stride, int64_t k,
                int64_t columns, int64_t width, int64_t together, uint16_t* panel) {
  const int64_t rows = round_up(k, together);
  if (columns < width || rows > k) std::fill_n(panel, rows * width, uint16_t{0});
  if (row_stride == 1 && column_stride != 1 && together == 1) {
    return transpose_panel<uint16_t>(b, column_stride, k, columns, width, panel);
  }
  int64_t done = 0;
  if (row_stride == 1 && column_stride != 1) {
    done = k / 2 * 2;
    transpose_panel<float>(b, column_stride, done / 2, columns, width, panel);
  }
  for (int64_t i = done; i < k; ++i) {
    const uint16_t* from = b + i * row_stride;
    uint16_t* to = panel + i / together * together * width + i % together;
    for (int64_t j = 0; j < columns; ++j) to[j * together] = from[j * column_stride];
  }
}

using Multiply = void (*)(const HalfBlock& g);

// Float16 in float16, emulated where there is no AVX512-FP16.
Multiply float16_sums() {
#if BASCULE_WITH_AVX512_FP16
  if (active_isa() >= Isa::avx512_fp16) return avx512_fp16::multiply_float16_sums;
#endif
  return BASCULE_PICK(multiply_float16_sums);
}

// How products of this type are made here.
Multiply half_multiply(DType dtype, bool in_float16) {
  if (dtype == DType::float16) {
    return in_float16 && active_isa() >= Isa::avx512_fp16 ? float16_sums()
                                                          : BASCULE_PICK(multiply_float16);
  }
#if BASCULE_WITH_AVX512_AMX
  if (has_bfloat16_tiles()) return avx512_amx::multiply_bfloat16_tiles;
#endif
#if BASCULE_WITH_AVX512_BF16
  if (has_fast_bfloat16_dot()) return avx512_bf16::multiply_bfloat16_dot;
#endif
  return BASCULE_PICK(multiply_bfloat16);
}

#if BASCULE_WITH_AVX512_AMX
bool are_finite(const uint16_t* from, int64_t count) {
  return std::all_of(from, from + count, [](uint16_t x) { return (x & 0x7c00) != 0x7c00; });
}

// Computes rows of A and panels of B with a float16 that is not finite by another function, so that
// they alone depend on it.
void multiply_not_finite(const HalfBlock& g, Multiply multiply) {
  for (int64_t row = 0; row < g.rows; ++row) {
    HalfBlock one = g;
    one.rows = 1;
    one.a += row * g.a_stride;
    if (are_finite(one.a, g.k)) continue;
    one.c += row * g.c_stride;
    if (one.residual != nullptr) one.residual += row * g.c_stride;
    multiply(one);
  }
  const int64_t width = gemm_functions<float>().panel_width;
  for (int64_t column = 0; column < g.columns; column += width) {
    HalfBlock one = g;
    one.b += column / width * g.b_panel_stride;
    if (are_finite(one.b, g.k * width)) continue;
    one.columns = std::min(width, g.columns - column);
    one.c += column;
    if (one.residual != nullptr) one.residual += column;
    if (one.epilogue.bias != nullptr) one.epilogue.bias += column;
    multiply(one);
  }
}
#endif

}  // namespace

int64_t half_packed_size(DType dtype, int64_t k, int64_t columns) {
  return round_up(k, rows_together(dtype)) * round_up(columns, gemm_functions<float>().panel_width);
}

void pack_half_panels(DType dtype, const uint16_t* b, int64_t row_stride, int64_t column_stride,
                      int64_t k, int64_t columns, uint16_t* packed) {
  const int64_t width = gemm_functions<float>().panel_width;
  for (int64_t j = 0; j < columns; j += width) {
    pack_panel(b + j * column_stride, row_stride, column_stride, k, std::min(width, columns - j),
               width, rows_together(dtype), packed);
    packed += half_packed_size(dtype, k, width);
  }
}

void multiply_half(RunContext& c, DType dtype, const HalfBlock& block, GemmCut cut,
                   bool float16_sums, [[maybe_unused]] bool by_parts) {
#if BASCULE_WITH_AVX512_AMX
  by_parts = by_parts && dtype == DType::float16 && block.residual != block.c;
#endif
  const auto multiply = half_multiply(dtype, float16_sums);
  if (block.rows <= 0 || block.columns <= 0) return;
  const GemmParts parts(block.rows, block.columns, block.k, c.threads(), cut);
  // Single rows may need more.
  const int64_t size = std::max(half_scratch(block.rows, block.k), half_scratch(1, block.k));
  float* scratch = c.workspace<float>(parts.count() * size);
  const int64_t width = gemm_functions<float>().panel_width;
  c.parallel_for(parts.count(), parts.work(), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const GemmPart part = parts[i];
      if (part.rows <= 0 || part.columns <= 0) continue;
      HalfBlock g = block;
      const int64_t offset = part.row * block.c_stride + part.column;
      g.a += part.row * block.a_stride;
      g.rows = part.rows;
      g.b += part.column / width * block.b_panel_stride;
      g.columns = part.columns;
      g.c += offset;
      if (g.residual != nullptr) g.residual += offset;
      if (g.epilogue.bias != nullptr) g.epilogue.bias += part.column;
      g.scratch = scratch + i * size;
#if BASCULE_WITH_AVX512_AMX
      if (by_parts) {
        if (!avx512_amx::multiply_float16_tiles(g)) multiply_not_finite(g, multiply);
        continue;
      }
#endif
      multiply(g);
    }
  });
}

void float16_product(const uint16_t* a, const uint16_t* b, int64_t m, int64_t k, int64_t n,
                     uint16_t* y) {
  std::vector<uint16_t> panels(static_cast<size_t>(half_packed_size(DType::float16, k, n)));
  pack_half_panels(DType::float16, b, n, 1, k, n, panels.data());
  std::vector<float> scratch(static_cast<size_t>(half_scratch(m, k)));
  HalfBlock g{};
  g.a = a;
  g.a_stride = g.k = k;
  g.rows = m;
  g.b = panels.data();
  g.b_panel_stride = half_packed_size(DType::float16, k, 1);
  g.c = y;
  g.c_stride = g.columns = n;
  g.scratch = scratch.data();
  if (m > 0 && n > 0) float16_sums()(g);
}

}  // namespace bascule
#endif
