// SPDX-License-Identifier: Apache-2.0
// instruction sets: base avx2 avx512 avx512_vnni
// The 8-bit matrix product micro-kernel.
#include "kernels/quantize/byte_quads.h"
#include "kernels/quantize/integer_block.h"
#include "kernels/quantize/narrow_lanes.h"
#include "simd/vec.h"

namespace bascule::BASCULE_ISA {
namespace {

#if defined(__AVX512F__)
constexpr int tile_rows = 14;
#else
constexpr int tile_rows = 4;
#endif
constexpr int vectors = 2;
constexpr int panel_width = vectors * lanes;

template <int rows>
void run_tile(const IntegerBlock& g) {
  for (int64_t column = 0; column < g.columns; column += panel_width) {
    const int8_t* b = g.b + column / panel_width * g.b_panel_stride;
    const uint8_t* a = g.a;
    I32 sum[rows][vectors] = {};
    for (int64_t k = 0; k < g.quads; ++k) {
      Quad columns[vectors];
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) columns[v] = load_quads(b + v * vector_bytes);
#pragma GCC unroll 14
      for (int r = 0; r < rows; ++r) {
        int32_t quad;
        __builtin_memcpy(&quad, a + r * g.a_stride, sizeof(quad));
        const Quad value = broadcast_quad(quad);
#pragma GCC unroll 2
        for (int v = 0; v < vectors; ++v) sum[r][v] = multiply_add(value, columns[v], sum[r][v]);
      }
      a += 4;
      b += vectors * vector_bytes;
    }
    int32_t* c = g.c + column;
    const int64_t left = g.columns - column;
#pragma GCC unroll 14
    for (int r = 0; r < rows; ++r) {
      if (left >= panel_width) {
#pragma GCC unroll 2
        for (int v = 0; v < vectors; ++v) store_int(c + r * g.c_stride + v * lanes, sum[r][v]);
      } else {
        int32_t part[panel_width];
#pragma GCC unroll 2
        for (int v = 0; v < vectors; ++v) store_int(part + v * lanes, sum[r][v]);
        for (int64_t i = 0; i < left; ++i) c[r * g.c_stride + i] = part[i];
      }
    }
  }
}

void multiply_block(const IntegerBlock& g) {
  using Function = void (*)(const IntegerBlock&);
#if defined(__AVX512F__)
  static constexpr Function functions[tile_rows] = {
      run_tile<1>,  run_tile<2>,  run_tile<3>,  run_tile<4>, run_tile<5>,
      run_tile<6>,  run_tile<7>,  run_tile<8>,  run_tile<9>, run_tile<10>,
      run_tile<11>, run_tile<12>, run_tile<13>, run_tile<14>};
#else
  static constexpr Function functions[tile_rows] = {run_tile<1>, run_tile<2>, run_tile<3>,
                                                    run_tile<4>};
#endif
  functions[g.rows - 1](g);
}

// Arithmetic is modulo 2^32, so on unsigned lanes.
BASCULE_INLINE U32 load_word(const int32_t* p, int64_t count) {
  return reinterpret_cast<U32>(load_narrow(p, count));
}

void correct_row(int32_t* c, int64_t n, const IntegerCorrection& r) {
  const U32 a_zero = reinterpret_cast<U32>(set_int(r.a_zero));
  const U32 depth = reinterpret_cast<U32>(set_int(static_cast<int32_t>(r.depth)));
  const U32 row_sum = reinterpret_cast<U32>(set_int(r.row_sum));
  const U32 bias = reinterpret_cast<U32>(set_int(r.bias));
  for_vectors(n, [&](int64_t i, int64_t count) {
    U32 value = load_word(c + i, count) + bias;
    U32 column = load_word(r.column_sums + i, count);
    if (r.b_zero != nullptr) {
      const U32 b_zero = load_word(r.b_zero + i, count);
      column = column - depth * b_zero;
      value = value - b_zero * row_sum;
    }
    store_narrow(c + i, reinterpret_cast<I32>(value - a_zero * column), count);
  });
}

// The bytes of column i of four rows.
BASCULE_INLINE I32 quads_at(const uint8_t* const* rows, int64_t i, int64_t count, uint8_t flip) {
  const I32 word = load_narrow(rows[0] + i, count) | load_narrow(rows[1] + i, count) << 8 |
                   load_narrow(rows[2] + i, count) << 16 | load_narrow(rows[3] + i, count) << 24;
  return word ^ set_int(flip * 0x01010101);
}

BASCULE_INLINE void add_quads(int32_t* sums, I32 quads, int64_t count) {
  const Quad ones = broadcast_quad(0x01010101);
  store_narrow(sums, multiply_add(ones, as_quads(quads), load_narrow(sums, count)), count);
}

void interleave_rows(const uint8_t* const* rows, int64_t columns, uint8_t flip, int8_t* to,
                     int32_t* column_sums) {
  for (int64_t i = 0; i < panel_width; i += lanes) {
    if (i >= columns) {
      store_int(to + 4 * i, I32{});
      continue;
    }
    const int64_t count = columns - i;
    const I32 quads = quads_at(rows, i, count, flip);
    store_int(to + 4 * i, quads);
    add_quads(column_sums + i, quads, count);
  }
}

int32_t copy_row(const uint8_t* from, int64_t n, int64_t padded, uint8_t flip, uint8_t* to) {
  I32 sums = {};
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const I32 value = load_narrow(from + i, lanes) ^ set_int(flip);
    store_narrow(to + i, value, lanes);
    sums += value;
  }
  int32_t sum = 0;
  for (int lane = 0; lane < lanes; ++lane) sum += sums[lane];
  for (; i < n; ++i) {
    to[i] = from[i] ^ flip;
    sum += to[i];
  }
  for (; i < padded; ++i) to[i] = 0;
  return sum;
}

}  // namespace

const IntegerGemmFunctions& integer_gemm_functions() {
  static constexpr IntegerGemmFunctions functions = {panel_width, tile_rows,       multiply_block,
                                                     correct_row, interleave_rows, copy_row};
  return functions;
}

}  // namespace bascule::BASCULE_ISA

#if BASCULE_ONCE
#include "kernels/quantize/byte_tiles.h"
#include "kernels/quantize/integer_gemm.h"
#include "simd/isa.h"
#include "simd/tiles.h"

namespace bascule {
BASCULE_PER_ISA_VNNI(const IntegerGemmFunctions& integer_gemm_functions());

namespace {

const IntegerGemmFunctions& by_vectors() {
  static const IntegerGemmFunctions& functions = BASCULE_PICK_VNNI(integer_gemm_functions)();
  return functions;
}

#if BASCULE_WITH_AVX512_AMX
void multiply_by_tiles(const IntegerBlock& block) {
  if (fits_byte_tiles(block.quads)) return avx512_amx::multiply_byte_block(block);
  IntegerBlock part = block;
  const int64_t most = by_vectors().tile_rows;
  for (int64_t row = 0; row < block.rows; row += most) {
    part.rows = block.rows - row < most ? block.rows - row : most;
    part.a = block.a + row * block.a_stride;
    part.c = block.c + row * block.c_stride;
    by_vectors().multiply(part);
  }
}
#endif

IntegerGemmFunctions best_functions() {
  IntegerGemmFunctions functions = by_vectors();
#if BASCULE_WITH_AVX512_AMX
  if (has_byte_tiles()) {
    functions.tile_rows = 2 * byte_tile_rows;
    functions.multiply = multiply_by_tiles;
  }
#endif
  return functions;
}

}  // namespace

const IntegerGemmFunctions& integer_gemm() {
  static const IntegerGemmFunctions functions = best_functions();
  return functions;
}
}  // namespace bascule
#endif
