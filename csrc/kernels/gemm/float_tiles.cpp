// SPDX-License-Identifier: Apache-2.0
// instruction sets: avx512_amx
// Products of float32 by tile registers of bfloat16. A number is the sum of three of bfloat16,
// which hold 8 bits of its mantissa each; of the nine products of the parts of two numbers the six
// largest are added up, in float32, so that what is left out is as small as what float32 rounds
// off. (The same split: G. Henry, P. Tang, A. Heinecke, "Leveraging the bfloat16 Artificial
// Intelligence Datatype For Higher-Precision Computations", ARITH 2019.)
//
// Parts are made where they are used, so that weights stay as they were packed. Numbers that are
// not finite have no such parts: rows and panels with one are left to others.
#if defined(__AMX_BF16__)
#include "kernels/gemm/split.h"
#include "kernels/gemm/tile.h"
#include "simd/tile_config.h"
#include "simd/tiles.h"

namespace bascule::BASCULE_ISA {
namespace {

constexpr int64_t step_bytes = 6 * tile_bytes;  // three parts
constexpr int64_t most_rows = 224, most_depth = 768;
constexpr int64_t a_bytes = most_rows / group_rows * (most_depth / step) * step_bytes;
constexpr int64_t b_bytes = 640 * 1024;
constexpr int64_t width = panel_width<float>;
static_assert(width == 32);

BASCULE_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
BASCULE_INLINE int64_t parts_of(int64_t n, int64_t size) { return (n + size - 1) / size; }

// The scratch memory of a thread. Of each step: tiles [part][half].
struct Space {
  uint8_t a[a_bytes];  // [group][step]
  uint8_t b[b_bytes];  // [panel][step]
  alignas(64) float sums[group_rows][width];
  alignas(64) float row[most_depth];
  int64_t c_offsets[most_rows];  // where rows are in C and in what is added to it
};

// Stores the parts of two vectors. The last part of what is not finite is NaN, and stays in `seen`.
template <class Join>
BASCULE_INLINE void store_parts(__m512 x, __m512 y, uint8_t* to, __m512& seen, Join&& join) {
  const Split x0 = split(x), y0 = split(y), x1 = split(x0.rest), y1 = split(y0.rest);
  _mm512_store_si512(to, join(x0.high, y0.high));
  _mm512_store_si512(to + 2 * tile_bytes, join(x1.high, y1.high));
  _mm512_store_si512(to + 4 * tile_bytes, join(x1.rest, y1.rest));
  seen = _mm512_fmadd_ps(x1.rest, y1.rest, seen);
}

// A row of A, whole steps; true if all of it is finite (and not so large that this is unknown).
bool split_row(const float* from, int64_t steps, uint8_t* to) {
  __m512 seen = _mm512_setzero_ps();
  for (int64_t s = 0; s < steps; ++s, from += step, to += step_bytes) {
    const __m512 x = _mm512_loadu_ps(from), y = _mm512_loadu_ps(from + 16);
    store_parts(x, y, to, seen, neighbours);
  }
  return is_number(seen);
}

// `depth` rows of a panel, and zeros up to whole steps.
bool split_panel(const float* from, int64_t stride, int64_t depth, uint8_t* to) {
  __m512 seen = _mm512_setzero_ps();
  split_rows(
      depth, step_bytes, to,
      [&](int64_t row, int64_t half) __attribute__((always_inline)) {
        return _mm512_loadu_ps(from + row * stride + half * 16);
      },
      [&](__m512 x, __m512 y, uint8_t* at)
          __attribute__((always_inline)) { store_parts(x, y, at, seen, pairs); });
  return is_number(seen);
}

// Memory that is read soon; each step asks for some lines of it.
struct Ahead {
  static constexpr int64_t line = 64;
  static constexpr int64_t times = 6;  // in a step
  const char* at = nullptr;
  int64_t lines = 0;  // each time: few, so that others come through

  __attribute__((always_inline)) void fetch() {
    for (int64_t i = 0; i < lines; ++i, at += line) __builtin_prefetch(at, 0, 2);
  }
};

// sums += A B for a group of rows and a panel.
void add_products(const uint8_t* a, const uint8_t* b, int64_t steps, bool is_first,
                  float (*sums)[width], int64_t tile_rows, Ahead& ahead) {
  before_tile_loads();
  is_first ? clear_sums() : load_sums(&sums[0][0], &sums[tile_rows][0], width);
  const auto add = [&]() __attribute__((always_inline)) {
    add_parts();
    ahead.fetch();
  };
  for (int64_t s = 0; s < steps; ++s, a += step_bytes, b += step_bytes) {
    // The small products first; from each to the next one factor changes.
    load_a(a, 0);
    load_b(b, 2);
    add();
    load_b(b, 1);
    add();
    load_a(a, 1);
    add();
    load_b(b, 0);
    add();
    load_a(a, 2);
    add();
    load_a(a, 0);
    add();
  }
  store_sums(&sums[0][0], &sums[tile_rows][0], width);
}

// k from `first` on of a row of A, `depth` of them and zeros up to `padded`: in place, or copied.
const float* row_of(const GemmBlock<float>& g, int64_t index, int64_t first, int64_t depth,
                    int64_t padded, float* copy) {
  const int64_t offset =
      g.a_offset + index / g.rows * g.a_group_stride + index % g.rows * g.a_stride;
  int64_t tap = first / g.tap_length, at = first % g.tap_length;
  if (depth == padded && at + depth <= g.tap_length) return g.a[tap] + offset + at;
  int64_t done = 0;
  while (done < depth) {
    const int64_t count = smaller(depth - done, g.tap_length - at);
    __builtin_memcpy(copy + done, g.a[tap] + offset + at, static_cast<size_t>(count) * 4);
    done += count;
    ++tap;
    at = 0;
  }
  for (; done < padded; ++done) copy[done] = 0;
  return copy;
}

// What follows the last sums of a row, as in run_tile.
void finish_row(const GemmBlock<float>& g, const float* sums, int64_t offset, int64_t column,
                int64_t columns) {
  const GemmEpilogue<float>& e = g.epilogue;
  float* c = g.c + offset + column;
  for (int64_t v = 0; v < columns; v += lanes) {
    F32 sum = load(sums + v);
    if (e.alpha != 1) sum = sum * set(e.alpha);
    if (e.bias != nullptr) sum = sum + load(e.bias + column + v, columns - v, 0);
    if (e.residual != nullptr) {
      sum = sum + load(e.residual + offset + column + v, columns - v, 0);
    }
    if (e.clamp) sum = clamp(sum, set(e.low), set(e.high));
    store(c + v, sum, columns - v);
  }
}

// Rows of a group, the first of which is number `row` of all, and one panel: a part of K is added
// to C.
void work_on(const GemmBlock<float>& g, Space& space, const uint8_t* a, const uint8_t* b,
             int64_t steps, int64_t row, const int64_t* offsets, int64_t rows, int64_t column,
             int64_t tile_rows, bool is_first, bool is_last, Ahead& ahead) {
  const int64_t columns = smaller(g.columns - column, width);
  if (!is_first) {
    for (int64_t r = 0; r < rows; ++r) {
      const float* c = g.c + offsets[r] + column;
      for (int64_t v = 0; v < columns; v += lanes) {
        store(space.sums[r] + v, load(c + v, columns - v, 0));
      }
    }
  }
  add_products(a, b, steps, is_first, space.sums, tile_rows, ahead);
  if (!is_last) {
    for (int64_t r = 0; r < rows; ++r) {
      float* c = g.c + offsets[r] + column;
      for (int64_t v = 0; v < columns; v += lanes) {
        store(c + v, load(space.sums[r] + v), columns - v);
      }
    }
    return;
  }
  for (int64_t r = 0; r < rows; ++r) finish_row(g, space.sums[r], offsets[r], column, columns);
  if (g.epilogue.activate == nullptr) return;
  for (int64_t r = 0; r < rows;) {  // rows that are c_stride apart
    const int64_t count = smaller(rows - r, g.rows - (row + r) % g.rows);
    g.epilogue.activate(g.c + offsets[r] + column, g.c_stride, count, columns,
                        g.epilogue.activation_alpha, g.epilogue.activation_beta);
    r += count;
  }
}

// Even cuts of rows, so that the last tiles are not nearly empty: the time of a product of tiles is
// that of their rows.
struct RowCut {
  int64_t block;  // rows whose parts are kept
  int64_t tile;

  explicit RowCut(int64_t rows)
      : block(parts_of(rows, parts_of(rows, most_rows))),
        tile(parts_of(block, 2 * parts_of(block, group_rows))) {}
};

// Whether all numbers are finite.
bool run(const GemmBlock<float>& g, const RowCut& cut, Space& space) {
  bool is_finite = true;
  const int64_t k = g.taps * g.tap_length, rows = g.groups * g.rows, group = 2 * cut.tile;
  const int64_t blocks = parts_of(k, most_depth);
  const int64_t block_depth = parts_of(parts_of(k, blocks), step) * step;
  const int64_t panels = parts_of(g.columns, width);
  const int64_t panel_bytes = block_depth / step * step_bytes;
  // Few rows keep their parts, and panels come one by one; else as many panels as find room.
  const bool keeps_a = rows <= most_rows;
  const int64_t chunk = keeps_a ? 1 : smaller(panels, b_bytes / panel_bytes);
  for (int64_t first = 0; first < k; first += block_depth) {
    const int64_t depth = smaller(block_depth, k - first), steps = parts_of(depth, step);
    const bool is_first = first == 0, is_last = first + depth == k;
    for (int64_t panel = 0; panel < panels; panel += chunk) {
      const int64_t count = smaller(chunk, panels - panel);
      for (int64_t i = 0; i < count; ++i) {
        const float* from = g.b + (panel + i) * g.b_panel_stride + first * g.b_stride;
        is_finite &= split_panel(from, g.b_stride, depth, space.b + i * panel_bytes);
      }
      for (int64_t row = 0; row < rows; row += cut.block) {
        const int64_t some = smaller(cut.block, rows - row);
        if (!keeps_a || (panel == 0 && is_first)) {
          for (int64_t r = 0; r < some; ++r) {
            const int64_t index = row + r;
            space.c_offsets[r] = index / g.rows * g.c_group_stride + index % g.rows * g.c_stride;
          }
        }
        if (!keeps_a || panel == 0) {
          for (int64_t r = 0; r < some; ++r) {
            const float* from = row_of(g, row + r, first, depth, steps * step, space.row);
            uint8_t* to = space.a + r / group * steps * step_bytes +
                          r % group / cut.tile * tile_bytes + r % cut.tile * 64;
            is_finite &= split_row(from, steps, to);
          }
        }
        Ahead ahead;
        if (keeps_a && g.b_stride == width) {  // the next panel, or the first of the next rows of k
          const int64_t of_panel = block_depth * width * 4 / Ahead::line;
          const bool goes_on = panel + 1 < panels;
          ahead.at =
              reinterpret_cast<const char*>(g.b + (goes_on ? panel + 1 : 0) * g.b_panel_stride +
                                            (first + (goes_on ? 0 : block_depth)) * width);
          if (goes_on || !is_last) {
            ahead.lines = parts_of(of_panel, parts_of(some, group) * steps * Ahead::times);
          }
        }
        for (int64_t i = 0; i < count; ++i) {
          for (int64_t r = 0; r < some; r += group) {
            work_on(g, space, space.a + r / group * steps * step_bytes, space.b + i * panel_bytes,
                    steps, row + r, space.c_offsets + r, smaller(group, some - r),
                    (panel + i) * width, cut.tile, is_first, is_last, ahead);
          }
        }
      }
    }
  }
  return is_finite;
}

}  // namespace

// Computes a block. Returns false if a number may not be finite: then rows and panels with such a
// number are to be computed anew.
bool multiply_float_tiles(const GemmBlock<float>& g) {
  auto& space = *static_cast<Space*>(tile_space(sizeof(Space)));
  const RowCut cut(g.groups * g.rows);
  TileConfig config;
  for (int tile = 0; tile < 6; ++tile) config.set(tile, cut.tile, 64);
  config.set(6, 16, 64);
  config.set(7, 16, 64);
  load_config(config);
  const bool is_finite = run(g, cut, space);
  _tile_release();
  return is_finite;
}

}  // namespace bascule::BASCULE_ISA
#endif
