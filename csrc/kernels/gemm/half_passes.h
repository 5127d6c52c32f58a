// SPDX-License-Identifier: Apache-2.0
// The order in which a product of 16-bit floats is gone through. Included by sources that are
// compiled per instruction set; everything is local to them.
//
// A class M says how sums are made: `Format` of the elements, `A` that a row of A is copied as,
// tile_rows of the tallest tile, take_rows() that copies, and
//   tile<rows>(HalfTile) for one panel,
//   panels<rows, count>(HalfTile) for a few rows and panels side by side.
// Neither the sums nor their bits may depend on which of the two is used.
#pragma once

#include "kernels/gemm/half_block.h"
#include "kernels/gemm/tile.h"
#include "simd/half.h"

namespace bascule::BASCULE_ISA {
namespace {

constexpr int width = panel_width<float>;

struct F16 {
  static constexpr int64_t step = 1;  // rows of a panel that stand together
  BASCULE_INLINE F32 widen(U16 v) { return widen_f16(v); }
  BASCULE_INLINE U16 narrow(F32 v) { return narrow_f16(v); }
  // Row `row` of a step, `lanes` columns from `column` on.
  BASCULE_INLINE F32 columns(const uint16_t* b, int64_t column, int) {
    return widen_f16(load_u16(b + column, lanes));
  }
};

struct BF16 {
  static constexpr int64_t step = 2;
  BASCULE_INLINE F32 widen(U16 v) { return widen_bf16(v); }
  BASCULE_INLINE U16 narrow(F32 v) { return narrow_bf16(v); }
  BASCULE_INLINE F32 columns(const uint16_t* b, int64_t column, int row) {
    U32 words;
    __builtin_memcpy(&words, b + 2 * column, sizeof(words));
    return reinterpret_cast<F32>(row == 0 ? words << 16 : words & 0xffff0000u);
  }
};

BASCULE_INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
BASCULE_INLINE int64_t parts_of(int64_t n, int64_t size) { return (n + size - 1) / size; }

// Sums over `depth` more steps of K: row r of panel p is at sums + r * row_stride + p *
// panel_stride, whole panels of it.
template <class A>
struct HalfTile {
  const A* a;
  int64_t a_stride;  // half_a_stride for one panel
  const void* b;     // what M reads of the first panel
  int64_t b_panel_stride;
  int64_t depth;
  float* sums;
  int64_t row_stride;  // `width` for one panel
  int64_t panel_stride;
  bool first;        // starts from zero
  const char* next;  // what to fetch into the second cache meanwhile, a line for each step; or null
};

// C from sums, for rows from `row` on and `columns` columns from `column` on. What the epilogue
// leaves out is done with numbers that change nothing.
template <class Format>
void finish(const HalfBlock& g, float* sums, int64_t stride, int64_t row, int64_t rows,
            int64_t column, int64_t columns) {
  const GemmEpilogue<float>& e = g.epilogue;
  const F32 alpha = set(e.alpha);
  const F32 low = set(e.clamp ? e.low : -infinity);
  const F32 high = set(e.clamp ? e.high : infinity);
  const int64_t at = row * g.c_stride + column;
  for (int64_t j = 0; j < columns; j += lanes) {
    const int64_t count = columns - j;
    const F32 bias = e.bias != nullptr ? load(e.bias + column + j, count, 0) : set(-0.0f);
    const uint16_t* residual = g.residual != nullptr ? g.residual + at + j : nullptr;
    for (int64_t r = 0; r < rows; ++r) {
      float* from = sums + r * stride + j;
      F32 y = load(from) * alpha + bias;
      if (residual != nullptr) y += Format::widen(load_u16(residual + r * g.c_stride, count));
      y = clamp(y, low, high);
      if (e.activate != nullptr) {
        store(from, y);
      } else {
        store_u16(g.c + at + r * g.c_stride + j, Format::narrow(y), count);
      }
    }
  }
  if (e.activate == nullptr) return;
  e.activate(sums, stride, rows, columns, e.activation_alpha, e.activation_beta);
  for (int64_t r = 0; r < rows; ++r) {
    uint16_t* to = g.c + at + r * g.c_stride;
    for_vectors(columns, [&](int64_t i, int64_t count) {
      store_u16(to + i, Format::narrow(load(sums + r * stride + i)), count);
    });
  }
}

// What is in the scratch memory of a block.
template <class M>
struct Scratch {
  float* sums;           // of a pass
  typename M::A* a;      // rows of a tile
  float* panels;         // of a pass, as floats
  typename M::A* few_a;  // all rows, where they are few
  explicit Scratch(const HalfBlock& g) {
    sums = g.scratch;
    float* rows = sums + half_sums;
    panels = rows + half_tile_rows * half_a_stride;
    a = reinterpret_cast<typename M::A*>(rows);
    few_a = reinterpret_cast<typename M::A*>(panels);
  }
};

// What one pass over a part of K works on.
struct Pass {
  int64_t row;
  int64_t rows;
  int64_t column;
  int64_t columns;
  int64_t k;
  int64_t depth;
  const uint16_t* next;  // the first panel of the next pass
};

// n rows of a panel, from an even one on, as floats.
template <class Format>
void widen_panel(const uint16_t* b, int64_t n, float* to) {
  for (int64_t k = 0; k < n; k += Format::step) {
    for (int row = 0; row < Format::step && k + row < n; ++row) {
      for (int v = 0; v < 2; ++v) {
        store(to + (k + row) * width + v * lanes, Format::columns(b + k * width, v * lanes, row));
      }
    }
  }
}

template <class M>
BASCULE_INLINE void run_tile(int64_t height, const HalfTile<typename M::A>& t) {
  using Function = void (*)(const HalfTile<typename M::A>&);
  constexpr int m = M::tile_rows;
  static constexpr Function functions[14] = {
      M::template tile<1>,
      M::template tile<2>,
      M::template tile<3>,
      M::template tile<4>,
      M::template tile<5>,
      M::template tile<6>,
      M::template tile<(7 < m ? 7 : m)>,
      M::template tile<(8 < m ? 8 : m)>,
      M::template tile<(9 < m ? 9 : m)>,
      M::template tile<(10 < m ? 10 : m)>,
      M::template tile<(11 < m ? 11 : m)>,
      M::template tile<(12 < m ? 12 : m)>,
      M::template tile<(13 < m ? 13 : m)>,
      M::template tile<m>,
  };
  functions[height - 1](t);
}

template <class M>
void run_pass(const HalfBlock& g, const Scratch<M>& s, const Pass& pass) {
  using Format = typename M::Format;
  const int64_t end = pass.column + pass.columns;
  const auto halves = [&](int64_t column) {
    return g.b + column / width * g.b_panel_stride + pass.k * width;
  };
  const auto floats = [&](int64_t column) {
    return s.panels + (column - pass.column) * pass.depth;
  };
  if constexpr (M::widens_panels) {
    for (int64_t column = pass.column; column < end; column += width) {
      widen_panel<Format>(halves(column), pass.depth, floats(column));
    }
  }
  const bool last = pass.k + pass.depth >= g.k;
  const int64_t tiles = parts_of(pass.rows, M::tile_rows);
  // While the tiles pass over this block, each fetches its share of the next.
  const int64_t share = pass.depth * width / tiles;
  HalfTile<typename M::A> t{};
  t.a = s.a;
  t.a_stride = half_a_stride;
  t.depth = pass.depth;
  t.row_stride = width;
  t.first = pass.k == 0;
  for (int64_t tile = 0; tile < tiles; ++tile) {
    const int64_t row = pass.rows * tile / tiles;
    const int64_t height = pass.rows * (tile + 1) / tiles - row;
    M::take_rows(g.a + (pass.row + row) * g.a_stride + pass.k, g.a_stride, s.a, half_a_stride,
                 height, pass.depth);
    for (int64_t column = pass.column; column < end; column += width) {
      if constexpr (M::widens_panels) {
        t.b = floats(column);
      } else {
        t.b = halves(column);
      }
      t.sums = s.sums + (column - pass.column) * pass.rows + row * width;
      t.next = reinterpret_cast<const char*>(
          pass.next + (column - pass.column) / width * g.b_panel_stride + tile * share);
      run_tile<M>(height, t);
      if (!last) continue;
      finish<Format>(g, t.sums, width, pass.row + row, height, column,
                     least(g.columns - column, width));
    }
  }
}

// Elements of K that are taken together: a multiple of 32, but for the last.
BASCULE_INLINE int64_t depth_of(int64_t left) {
  if (left <= half_k_block) return left;
  return left >= 2 * half_k_block ? half_k_block : parts_of(left, 64) * 32;
}

template <class M>
void multiply_many_rows(const HalfBlock& g) {
  const Scratch<M> s(g);
  constexpr int64_t height = M::tile_rows;
  const int64_t even = parts_of(g.rows, parts_of(g.rows, half_row_block));
  const int64_t rows = least(least(parts_of(even, height) * height, half_row_block), g.rows);
  const int64_t panels = parts_of(g.columns, width);
  const int64_t depth = least(g.k, half_k_block) | 1;
  const int64_t most = least(half_b / depth, half_sums / rows) / width;
  const int64_t chunk = parts_of(panels, parts_of(panels, most)) * width;
  const auto panel = [&](int64_t column) { return g.b + column / width * g.b_panel_stride; };
  Pass pass;
  for (pass.column = 0; pass.column < g.columns; pass.column += chunk) {
    pass.columns = least(g.columns - pass.column, chunk);
    const int64_t after = pass.column + chunk < g.columns ? pass.column + chunk : pass.column;
    for (pass.row = 0; pass.row < g.rows; pass.row += rows) {
      pass.rows = least(rows, g.rows - pass.row);
      pass.k = 0;
      do {
        pass.depth = depth_of(g.k - pass.k);
        const int64_t k = pass.k + pass.depth;
        pass.next = k < g.k                    ? panel(pass.column) + k * width
                    : pass.row + rows < g.rows ? panel(pass.column)
                                               : panel(after);
        run_pass<M>(g, s, pass);
        pass.k = k;
      } while (pass.k < g.k);
    }
  }
}

// Several panels side by side: that many streams for the hardware to fetch ahead, and enough
// independent sums to hide the latency of the additions.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int most_few_rows = 6;
constexpr int sums_at_once = 24;
#else
constexpr int most_few_rows = 3;
constexpr int sums_at_once = 12;
#endif
constexpr int panels_for(int rows) {
  const int panels = sums_at_once / (2 * rows);
  return panels > 4 ? 4 : panels < 1 ? 1 : panels;
}

// Panels [panel, end), some at a time, and then the rest.
template <class M, int rows, int count = panels_for(rows)>
void sum_rows(const HalfBlock& g, HalfTile<typename M::A> t, int64_t panel, int64_t end) {
  for (; end - panel >= count; panel += count) {
    t.b = g.b + panel * g.b_panel_stride;
    M::template panels<rows, count>(t);
    t.sums += count * width;
  }
  if constexpr (count > 1) {
    if (panel < end) sum_rows<M, rows, count - 1>(g, t, panel, end);
  }
}

template <class M>
void multiply_few_rows(const HalfBlock& g) {
  const Scratch<M> s(g);
  const int64_t panels = parts_of(g.columns, width);
  constexpr int64_t step = 64;
  HalfTile<typename M::A> t{};
  t.a = s.few_a;
  t.a_stride = g.k + 16;
  t.b_panel_stride = g.b_panel_stride;
  t.depth = g.k;
  t.sums = s.sums;
  t.row_stride = step * width;
  t.panel_stride = width;
  t.first = true;
  M::take_rows(g.a, g.a_stride, s.few_a, t.a_stride, g.rows, g.k);
  constexpr decltype(&sum_rows<M, 1>) functions[] = {
      sum_rows<M, 1>, sum_rows<M, 2>, sum_rows<M, 3>,
#if defined(__AVX512F__) || defined(__aarch64__)
      sum_rows<M, 4>, sum_rows<M, 5>, sum_rows<M, 6>,
#endif
  };
  for (int64_t panel = 0; panel < panels; panel += step) {
    const int64_t end = least(panels, panel + step);
    functions[g.rows - 1](g, t, panel, end);
    finish<typename M::Format>(g, s.sums, t.row_stride, 0, g.rows, panel * width,
                               least(g.columns, end * width) - panel * width);
  }
}

template <class M>
void multiply(const HalfBlock& g) {
  g.rows <= most_few_rows ? multiply_few_rows<M>(g) : multiply_many_rows<M>(g);
}

}  // namespace
}  // namespace bascule::BASCULE_ISA
