// SPDX-License-Identifier: Apache-2.0
// The order in which a block of a matrix product is gone through. Included by sources that are
// compiled per instruction set.
#pragma once

#include "kernels/gemm/tile.h"
#include "simd/caches.h"

namespace bascule::BASCULE_ISA {
namespace {

// What of C is worked on over all of K before the next ones: with their rows of A and
// panels of B for one block of K they stay in the second cache.
constexpr int64_t chunk_bytes = 229376;

// Both were measured, on processors whose second cache has 1 MB and 2 MB (bench/NOTES.md).
struct Blocking {
  // Rows of k in a block. Where more rows of A and of a panel find room, C is gone over less often.
  int64_t depth;
  // While tiles pass over a panel of B, each fetches its share of the next panel, or so many
  // shares: lines asked for early come in time, lines asked for again keep others waiting.
  int64_t shares;
};
BASCULE_INLINE Blocking choose_blocking() {
  const bool is_large = second_cache_bytes() >= int64_t{3} << 19;
#if defined(__AVX512F__)
  return is_large ? Blocking{gemm_k_block, 1} : Blocking{gemm_k_block / 2, 4};
#else
  return is_large ? Blocking{gemm_k_block, 1} : Blocking{gemm_k_block / 2, 1};
#endif
}

BASCULE_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
BASCULE_INLINE int64_t parts_of(int64_t n, int64_t size) { return (n + size - 1) / size; }

// Some whole short groups, or a part of a long one.
struct RowBlock {
  int64_t group = 0;
  int64_t row = 0;
  int64_t groups = 1;
  int64_t rows = 0;

  template <class T>
  static RowBlock at(const GemmBlock<T>& g, int64_t group, int64_t row) {
    RowBlock block{group, row, 1, g.rows - row};
    if (g.rows < gemm_row_block) {
      block.groups = gemm_row_block / (g.rows | 1);
      if (block.groups < 1) block.groups = 1;
      block.groups = smaller(block.groups, g.groups - group);
    } else if (block.rows > gemm_row_block) {
      const int64_t even = parts_of(block.rows, parts_of(block.rows, gemm_row_block));
      block.rows = smaller(parts_of(even, max_rows) * max_rows, gemm_row_block);
      block.rows = smaller(block.rows, g.rows - row);
    }
    return block;
  }
  template <class T>
  RowBlock next(const GemmBlock<T>& g) const {
    if (row + rows < g.rows) return at(g, group, row + rows);
    if (group + groups < g.groups) return at(g, group + groups, 0);
    return RowBlock{g.groups, 0, 0, 0};
  }
};

// Some whole pieces of K, or a part of one: about `most` rows of k, or all of them if that is 0.
struct DepthBlock {
  int64_t tap = 0;
  int64_t start = 0;
  int64_t taps = 0;
  int64_t length = 0;

  template <class T>
  static DepthBlock at(const GemmBlock<T>& g, int64_t most, int64_t tap, int64_t start) {
    const bool part = g.tap_length >= most;
    DepthBlock block{tap, start, g.taps - tap, g.tap_length - start};
    if (most == 0) return block;
    block.taps = smaller(block.taps, part ? 1 : most / (g.tap_length | 1) + 1);
    if (part && block.length > most) {
      block.length = block.length >= 2 * most ? most : (block.length + 1) / 2;
    }
    return block;
  }
  template <class T>
  bool last(const GemmBlock<T>& g) const {
    return tap + taps >= g.taps && start + length >= g.tap_length;
  }
  template <class T>
  DepthBlock next(const GemmBlock<T>& g, int64_t most) const {
    const bool within = start + length < g.tap_length;
    return at(g, most, within ? tap : tap + taps, within ? start + length : 0);
  }
};

// Columns of C that are worked on over all of K before the next.
template <class T>
int64_t chunk_columns(const GemmBlock<T>& g, int64_t rows) {
  constexpr int64_t width = panel_width<T>;
  constexpr int64_t panel_row = width * static_cast<int64_t>(sizeof(T));
  const int64_t most = chunk_bytes / panel_row / (rows | 1) | 1;
  const int64_t panels = parts_of(g.columns, width);
  if (panels <= 2 * most) return panels * width;
  return parts_of(panels, parts_of(panels, most)) * width;
}

// Bytes that a tile fetches for each k: a line, or one for every other k.
constexpr int64_t fetched_bytes = steps_at_once > 1 ? 32 : 64;

// What is still to be fetched of GemmBlock::ahead.
struct Ahead {
  const char* at;
  const char* end;
};

// One block of rows and of K, and the columns [from, to).
template <class T>
void multiply_columns(const GemmBlock<T>& g, const RowBlock& block, const DepthBlock& depth,
                      int64_t from, int64_t to, const T* after, int64_t shares, Ahead& ahead) {
  const int64_t k = depth.tap * g.tap_length + depth.start;
  const bool last = depth.last(g);
  Tile<T> t;
  t.first = k == 0 && !g.accumulate;
  t.epilogue = last ? &g.epilogue : nullptr;
  t.b_stride = g.b_stride;
  t.c_stride = g.c_stride;
  t.taps = depth.taps;
  t.length = depth.length;
  t.a = g.a + depth.tap;
  t.a_stride = g.a_stride;
  int64_t a_offset =
      g.a_offset + block.group * g.a_group_stride + block.row * g.a_stride + depth.start;
  const T* copied[1] = {g.scratch};
  if (g.scratch != nullptr && depth.taps == 1 && depth.length <= gemm_k_block &&
      block.groups == 1) {
    constexpr int64_t pad = 16;
    const T* rows = *t.a + a_offset;
    t.a = copied;
    t.a_stride = depth.length + pad;
    a_offset = 0;
    for (int64_t i = 0; i < block.rows; ++i) {
      __builtin_memcpy(g.scratch + i * t.a_stride, rows + i * g.a_stride,
                       static_cast<size_t>(depth.length) * sizeof(T));
    }
  }
  const bool packed = g.b_stride == panel_width<T>;
  const int64_t fetched = depth.taps * depth.length * fetched_bytes;
  for (int64_t column = from; column < to; column += panel_width<T>) {
    t.columns = smaller(g.columns - column, panel_width<T>);
    const bool narrow = t.columns <= vector_lanes<T>;
    const int64_t tiles = parts_of(block.rows, narrow ? max_narrow_rows : max_rows);
    const int64_t low = block.rows / tiles;
    const int64_t taller = block.rows % tiles;
    const int64_t sharers = block.groups * tiles;
    const int64_t share = packed ? depth.taps * depth.length * panel_width<T> / sharers : 0;
    constexpr int64_t panel_row = panel_width<T> * static_cast<int64_t>(sizeof(T));
    t.next_step = packed ? smaller(parts_of(shares * panel_row, sharers), 64) : 0;
    // Two tiles fetch most of the panel; those between can look ahead.
    const int64_t every = sharers > 2 ? sharers / 2 : 1;
    const bool looks_ahead = ahead.at < ahead.end && every > 1;
    if (looks_ahead) t.next_step = fetched_bytes;
    t.b = g.b + column / panel_width<T> * g.b_panel_stride + k * g.b_stride;
    t.bias = g.epilogue.bias != nullptr ? g.epilogue.bias + column : nullptr;
    const T* next = !packed ? t.b : column + panel_width<T> < to ? t.b + g.b_panel_stride : after;
    for (int64_t i = 0; i < block.groups; ++i) {
      for (int64_t tile = 0; tile < tiles; ++tile) {
        // The taller first: every change of the height is a branch that the processor does not
        // expect.
        const int64_t row = tile * low + smaller(tile, taller);
        const int64_t height = low + (tile < taller ? 1 : 0);
        t.a_offset = a_offset + i * g.a_group_stride + row * t.a_stride;
        const int64_t c =
            (block.group + i) * g.c_group_stride + (block.row + row) * g.c_stride + column;
        t.c = g.c + c;
        t.next = next + (i * tiles + tile) * share;
        if (looks_ahead && (i * tiles + tile) % every != 0) {
          t.next = reinterpret_cast<const T*>(ahead.at);
          ahead.at += fetched;
        }
        t.residual = g.epilogue.residual != nullptr ? g.epilogue.residual + c : nullptr;
        if (narrow) {
          run_rows<T, 1>(height, t);
        } else {
          run_rows<T, 2>(height, t);
        }
        if (last && g.epilogue.activate != nullptr) {
          const bool whole = t.c_stride == t.columns;
          g.epilogue.activate(t.c, t.c_stride, whole ? 1 : height,
                              whole ? height * t.columns : t.columns, g.epilogue.activation_alpha,
                              g.epilogue.activation_beta);
        }
      }
    }
  }
}

template <class T>
void multiply_block(const GemmBlock<T>& g) {
  const Blocking blocking = choose_blocking();
  // Few rows: K in one block, so that B streams through once.
  const int64_t most = g.groups == 1 && g.rows <= max_rows ? 0 : blocking.depth;
  const RowBlock top = RowBlock::at(g, 0, 0);
  // If K is one block, no part of C is gone over again, and no columns need to stay.
  const int64_t width = DepthBlock::at(g, most, 0, 0).last(g)
                            ? parts_of(g.columns, panel_width<T>) * panel_width<T>
                            : chunk_columns(g, top.groups * top.rows);
  Ahead ahead{g.ahead, g.ahead + g.ahead_bytes};
  const auto panel = [&](int64_t column) {
    return g.b + column / panel_width<T> * g.b_panel_stride;
  };
  for (int64_t from = 0; from < g.columns; from += width) {
    const int64_t to = smaller(g.columns, from + width);
    for (RowBlock block = top; block.group < g.groups; block = block.next(g)) {
      const bool last_rows = block.next(g).group >= g.groups;
      DepthBlock depth = DepthBlock::at(g, most, 0, 0);
      while (!depth.last(g)) {
        const DepthBlock next = depth.next(g, most);
        multiply_columns(g, block, depth, from, to,
                         panel(from) + (next.tap * g.tap_length + next.start) * g.b_stride,
                         blocking.shares, ahead);
        depth = next;
      }
      // Behind the last panel lies the next product's first where several are packed together.
      const int64_t after =
          last_rows ? from + parts_of(to - from, panel_width<T>) * panel_width<T> : from;
      multiply_columns(g, block, depth, from, to, panel(after), blocking.shares, ahead);
    }
  }
}

}  // namespace
}  // namespace bascule::BASCULE_ISA
