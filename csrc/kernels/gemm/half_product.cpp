// SPDX-License-Identifier: Apache-2.0
// instruction sets: base avx2 avx512
// Products of 16-bit floats with weights that are kept 16 bits wide. A block of A and a panel of B
// are widened into scratch memory of the second cache, where the float32 tile reads them many
// times; a few rows run through B at the speed of its memory, and widen it in registers. The sums
// are those of float32, step by step, so that all ways give the same bits.
#include "kernels/gemm/half_block.h"
#include "kernels/gemm/tile.h"
#include "simd/half.h"

namespace bascule::BASCULE_ISA {
namespace {

constexpr int width = panel_width<float>;

struct F16 {
  typedef uint16_t Element;
  static constexpr int64_t step = 1;  // rows of a panel that stand together
  BASCULE_INLINE F32 widen(U16 v) { return widen_f16(v); }
  BASCULE_INLINE U16 narrow(F32 v) { return narrow_f16(v); }
  // Row `row` of a step, `lanes` columns from `column` on.
  BASCULE_INLINE F32 columns(const uint16_t* b, int64_t column, int) {
    return widen_f16(load_u16(b + column, lanes));
  }
};

struct BF16 {
  typedef uint16_t Element;
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

template <class Format>
void widen_rows(const uint16_t* from, int64_t from_stride, float* to, int64_t to_stride,
                int64_t rows, int64_t n) {
  for (int64_t r = 0; r < rows; ++r) {
    const uint16_t* row = from + r * from_stride;
    float* out = to + r * to_stride;
    for_vectors(n, [&](int64_t i, int64_t count) {
      store(out + i, Format::widen(load_u16(row + i, count)), count);
    });
  }
}

// Panels of floats, widened beforehand.
struct Floats {
  typedef float Element;
  static constexpr int64_t step = 1;
  BASCULE_INLINE F32 columns(const float* b, int64_t column, int) { return load(b + column); }
};

// Whether the tile widens B itself, which takes 2 of its operations for each k beside 28 others;
// where it has 12 others a panel is widened once for all tiles.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr bool widens_in_tile = true;
#else
constexpr bool widens_in_tile = false;
#endif
template <class Format, bool in_tile>
struct PanelOf {
  typedef Format Type;
};
template <class Format>
struct PanelOf<Format, false> {
  typedef Floats Type;
};
// Two rows of words take registers that the sums of a taller tile would need.
template <class Format>
constexpr int tile_rows = widens_in_tile && Format::step == 2 ? 12 : max_rows;
template <class Format>
using Panel = typename PanelOf<Format, widens_in_tile>::Type;

// Sums of the rows of one tile and one panel: [rows][width], over `depth` more steps of K.
template <class Source>
struct HalfTile {
  const float* a;  // half_a_stride apart
  const typename Source::Element* b;
  int64_t depth;
  float* sums;
  bool first;        // starts from zero
  const char* next;  // what to fetch into the second cache meanwhile, a line for each step
};

template <class Source, int rows>
void sum_tile(const HalfTile<Source>& t) {
  F32 sum[rows][2];
#pragma GCC unroll 14
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) {
      sum[r][v] = t.first ? F32{} : load(t.sums + r * width + v * lanes);
    }
  }
  const float* a = t.a;
  const typename Source::Element* b = t.b;
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

template <class Source>
BASCULE_INLINE void run(int64_t height, const HalfTile<Source>& t) {
  using Function = void (*)(const HalfTile<Source>&);
  constexpr int m = max_rows;
  static constexpr Function functions[14] = {
      sum_tile<Source, 1>,
      sum_tile<Source, 2>,
      sum_tile<Source, 3>,
      sum_tile<Source, 4>,
      sum_tile<Source, 5>,
      sum_tile<Source, 6>,
      sum_tile<Source, (7 < m ? 7 : m)>,
      sum_tile<Source, (8 < m ? 8 : m)>,
      sum_tile<Source, (9 < m ? 9 : m)>,
      sum_tile<Source, (10 < m ? 10 : m)>,
      sum_tile<Source, (11 < m ? 11 : m)>,
      sum_tile<Source, (12 < m ? 12 : m)>,
      sum_tile<Source, (13 < m ? 13 : m)>,
      sum_tile<Source, m>,
  };
  functions[height - 1](t);
}

// C from sums, for rows from `row` on and `columns` columns from `column` on.
template <class Format>
void finish(const HalfBlock& g, float* sums, int64_t stride, int64_t row, int64_t rows,
            int64_t column, int64_t columns) {
  const GemmEpilogue<float>& e = g.epilogue;
  const float* bias = e.bias != nullptr ? e.bias + column : nullptr;
  for (int64_t r = 0; r < rows; ++r) {
    float* from = sums + r * stride;
    const int64_t at = (row + r) * g.c_stride + column;
    const uint16_t* residual = g.residual != nullptr ? g.residual + at : nullptr;
    uint16_t* to = g.c + at;
    for_vectors(columns, [&](int64_t i, int64_t count) {
      F32 y = load(from + i, count, 0);
      if (e.alpha != 1) y = y * e.alpha;
      if (bias != nullptr) y = y + load(bias + i, count, 0);
      if (residual != nullptr) y = y + Format::widen(load_u16(residual + i, count));
      if (e.clamp) y = clamp(y, set(e.low), set(e.high));
      if (e.activate != nullptr) {
        store(from + i, y, count);
      } else {
        store_u16(to + i, Format::narrow(y), count);
      }
    });
  }
  if (e.activate == nullptr) return;
  e.activate(sums, stride, rows, columns, e.activation_alpha, e.activation_beta);
  for (int64_t r = 0; r < rows; ++r) {
    uint16_t* to = g.c + (row + r) * g.c_stride + column;
    for_vectors(columns, [&](int64_t i, int64_t count) {
      store_u16(to + i, Format::narrow(load(sums + r * stride + i, count, 0)), count);
    });
  }
}

struct Scratch {
  float* b;     // panels of a pass, or rows of A where they are few
  float* sums;  // of a pass
  float* a;     // rows of a tile
  explicit Scratch(const HalfBlock& g) {
    sums = g.scratch;
    a = sums + half_sums;
    b = a + half_tile_rows * half_a_stride;
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

template <class Format>
void run_pass(const HalfBlock& g, const Scratch& s, const Pass& pass) {
  const int64_t end = pass.column + pass.columns;
  const auto halves = [&](int64_t column) {
    return g.b + column / width * g.b_panel_stride + pass.k * width;
  };
  const auto floats = [&](int64_t column) { return s.b + (column - pass.column) * pass.depth; };
  if constexpr (!widens_in_tile) {
    for (int64_t column = pass.column; column < end; column += width) {
      widen_panel<Format>(halves(column), pass.depth, floats(column));
    }
  }
  const bool last = pass.k + pass.depth >= g.k;
  const int64_t tiles = parts_of(pass.rows, tile_rows<Format>);
  // While the tiles pass over this block, each fetches its share of the next.
  const int64_t share = pass.depth * width / tiles;
  for (int64_t tile = 0; tile < tiles; ++tile) {
    const int64_t row = pass.rows * tile / tiles;
    const int64_t height = pass.rows * (tile + 1) / tiles - row;
    widen_rows<Format>(g.a + (pass.row + row) * g.a_stride + pass.k, g.a_stride, s.a, half_a_stride,
                       height, pass.depth);
    for (int64_t column = pass.column; column < end; column += width) {
      HalfTile<Panel<Format>> t;
      t.a = s.a;
      if constexpr (widens_in_tile) {
        t.b = halves(column);
      } else {
        t.b = floats(column);
      }
      t.depth = pass.depth;
      t.sums = s.sums + (column - pass.column) * pass.rows + row * width;
      t.first = pass.k == 0;
      t.next = reinterpret_cast<const char*>(
          pass.next + (column - pass.column) / width * g.b_panel_stride + tile * share);
      run(height, t);
      if (!last) continue;
      finish<Format>(g, t.sums, width, pass.row + row, height, column,
                     least(g.columns - column, width));
    }
  }
}

// Elements of K that are taken together; an even number, but for the last.
BASCULE_INLINE int64_t depth_of(int64_t left) {
  if (left <= half_k_block) return left;
  return left >= 2 * half_k_block ? half_k_block : parts_of(left, 4) * 2;
}

template <class Format>
void multiply_many_rows(const HalfBlock& g) {
  const Scratch s(g);
  constexpr int64_t height = tile_rows<Format>;
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
        run_pass<Format>(g, s, pass);
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

// `rows` sums of the columns of `panels` panels. A is in floats.
template <class Format, int rows, int panels>
void sum_panels(const HalfBlock& g, const float* a, int64_t a_stride, const uint16_t* b, float* c,
                int64_t c_stride) {
  constexpr int vectors = 2 * panels;
  F32 sum[rows][vectors] = {};
  const auto add = [&](int64_t k, int row) __attribute__((always_inline)) {
    F32 value[rows];
#pragma GCC unroll 6
    for (int r = 0; r < rows; ++r) value[r] = set(a[r * a_stride + k + row]);
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) {
      const F32 column =
          Format::columns(b + v / 2 * g.b_panel_stride + k * width, v % 2 * lanes, row);
#pragma GCC unroll 6
      for (int r = 0; r < rows; ++r) sum[r][v] = fma(value[r], column, sum[r][v]);
    }
  };
  int64_t k = 0;
  for (; k + Format::step <= g.k; k += Format::step) {
#pragma GCC unroll 2
    for (int row = 0; row < Format::step; ++row) add(k, row);
  }
  if (k < g.k) add(k, 0);
  for (int r = 0; r < rows; ++r) {
    for (int v = 0; v < vectors; ++v) store(c + r * c_stride + v * lanes, sum[r][v]);
  }
}

// `panels` panels at a time, and then the rest.
template <class Format, int rows, int panels = panels_for(rows)>
void sum_rows(const HalfBlock& g, const float* a, int64_t a_stride, int64_t panel, int64_t end,
              float* c, int64_t c_stride) {
  for (; end - panel >= panels; panel += panels) {
    sum_panels<Format, rows, panels>(g, a, a_stride, g.b + panel * g.b_panel_stride, c, c_stride);
    c += panels * width;
  }
  if constexpr (panels > 1) {
    if (panel < end) sum_rows<Format, rows, panels - 1>(g, a, a_stride, panel, end, c, c_stride);
  }
}

template <class Format>
void sum_few_rows(const HalfBlock& g, const float* a, int64_t a_stride, int64_t panel, int64_t end,
                  float* c, int64_t c_stride) {
  switch (g.rows) {
    case 1:
      return sum_rows<Format, 1>(g, a, a_stride, panel, end, c, c_stride);
    case 2:
      return sum_rows<Format, 2>(g, a, a_stride, panel, end, c, c_stride);
    case 3:
      return sum_rows<Format, 3>(g, a, a_stride, panel, end, c, c_stride);
#if defined(__AVX512F__) || defined(__aarch64__)
    case 4:
      return sum_rows<Format, 4>(g, a, a_stride, panel, end, c, c_stride);
    case 5:
      return sum_rows<Format, 5>(g, a, a_stride, panel, end, c, c_stride);
    case 6:
      return sum_rows<Format, 6>(g, a, a_stride, panel, end, c, c_stride);
#endif
    default:
      return;
  }
}

template <class Format>
void multiply_few_rows(const HalfBlock& g) {
  const Scratch s(g);
  const int64_t a_stride = g.k + 16;
  widen_rows<Format>(g.a, g.a_stride, s.b, a_stride, g.rows, g.k);
  const int64_t panels = parts_of(g.columns, width);
  constexpr int64_t step = 64;
  constexpr int64_t stride = step * width;
  for (int64_t first = 0; first < panels; first += step) {
    const int64_t end = least(panels, first + step);
    sum_few_rows<Format>(g, s.b, a_stride, first, end, s.sums, stride);
    const int64_t column = first * width;
    const int64_t columns = least(g.columns, end * width) - column;
    finish<Format>(g, s.sums, stride, 0, g.rows, column, columns);
  }
}

template <class Format>
void multiply(const HalfBlock& g) {
  g.rows <= most_few_rows ? multiply_few_rows<Format>(g) : multiply_many_rows<Format>(g);
}

}  // namespace

void multiply_half(const HalfBlock& g, bool bfloat16) {
  bfloat16 ? multiply<BF16>(g) : multiply<F16>(g);
}

}  // namespace bascule::BASCULE_ISA

#if BASCULE_ONCE
#include <algorithm>

#include "kernels/gemm/half_product.h"
#include "kernels/move/transpose_tile.h"
#include "simd/isa.h"

namespace bascule {
BASCULE_PER_ISA(void multiply_half(const HalfBlock& g, bool bfloat16));

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

void multiply_half(RunContext& c, DType dtype, const HalfBlock& block, GemmCut cut) {
  static const auto multiply = BASCULE_PICK(multiply_half);
  if (block.rows <= 0 || block.columns <= 0) return;
  const GemmParts parts(block.rows, block.columns, block.k, c.threads(), cut);
  const int64_t size = half_scratch(block.rows, block.k);
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
      multiply(g, dtype == DType::bfloat16);
    }
  });
}

}  // namespace bascule
#endif
