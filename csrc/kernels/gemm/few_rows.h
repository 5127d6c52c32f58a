// SPDX-License-Identifier: Apache-2.0
// Products of a few rows with a large B, which run at the speed of the memory that B is in.
// Included by sources that are compiled per instruction set, after tile.h.
#pragma once

#include "kernels/gemm/multiply_block.h"
#include "kernels/gemm/panel_streams.h"

namespace bascule::BASCULE_ISA {
namespace {

// `rows` sums of the columns of `panels` panels, without the epilogue, in the order of run_tile.
template <int rows, int panels>
void sum_panels(const GemmBlock<float>& g, const float* b, float* c, int64_t columns) {
  constexpr int vectors = 2 * panels;
  F32 sum[rows][vectors] = {};
  if (g.accumulate) {
    for (int r = 0; r < rows; ++r) {
      for (int v = 0; v < vectors; ++v) {
        sum[r][v] = load_part<float>(c + r * g.c_stride + v * lanes, columns - v * lanes);
      }
    }
  }
  for (int64_t tap = 0; tap < g.taps; ++tap) {
    const float* a = g.a[tap] + g.a_offset;
    for (int64_t k = 0; k < g.tap_length; ++k, b += g.b_stride) {
      F32 value[rows];
#pragma GCC unroll 6
      for (int r = 0; r < rows; ++r) value[r] = set(a[r * g.a_stride + k]);
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) {
        const F32 column = load(b + v / 2 * g.b_panel_stride + v % 2 * lanes);
#pragma GCC unroll 6
        for (int r = 0; r < rows; ++r) sum[r][v] = fma(value[r], column, sum[r][v]);
      }
    }
  }
  for (int r = 0; r < rows; ++r) {
    for (int v = 0; v < vectors && v * lanes < columns; ++v) {
      store(c + r * g.c_stride + v * lanes, sum[r][v], columns - v * lanes);
    }
  }
}

// The columns of all panels from `column` on, `panels` at a time, and then of the rest.
template <int rows, int panels = panels_for(rows)>
void sum_rows(const GemmBlock<float>& g, int64_t column = 0) {
  for (; g.columns - column > (panels - 1) * panel_width<float>;
       column += panels * panel_width<float>) {
    const float* b = g.b + column / panel_width<float> * g.b_panel_stride;
    sum_panels<rows, panels>(g, b, g.c + column, g.columns - column);
  }
  if constexpr (panels > 1) {
    if (column < g.columns) sum_rows<rows, panels - 1>(g, column);
  }
}

// The block with these columns from `first` on.
BASCULE_INLINE GemmBlock<float> columns_of(GemmBlock<float> g, int64_t first, int64_t columns) {
  g.b += first / panel_width<float> * g.b_panel_stride;
  g.c += first;
  g.columns = columns;
  if (g.epilogue.bias != nullptr) g.epilogue.bias += first;
  if (g.epilogue.residual != nullptr) g.epilogue.residual += first;
  return g;
}

bool has_few_rows(const GemmBlock<float>& g) {
  return g.groups == 1 && g.rows <= most_few_rows && g.epilogue.residual != g.c;
}

// The sums of some columns, then what multiply_block does with them after its last step.
void multiply_few_rows(const GemmBlock<float>& g) {
  const GemmEpilogue<float>& e = g.epilogue;
  const bool finish = e.alpha != 1 || e.bias != nullptr || e.residual != nullptr || e.clamp ||
                      e.activate != nullptr;
  constexpr int64_t step = 64 * panel_width<float>;
  for (int64_t first = 0; first < g.columns; first += step) {
    GemmBlock<float> part =
        columns_of(g, first, g.columns - first < step ? g.columns - first : step);
    switch (g.rows) {
      case 1:
        sum_rows<1>(part);
        break;
      case 2:
        sum_rows<2>(part);
        break;
      case 3:
        sum_rows<3>(part);
        break;
#if defined(__AVX512F__) || defined(__aarch64__)
      case 4:
        sum_rows<4>(part);
        break;
      case 5:
        sum_rows<5>(part);
        break;
      case 6:
        sum_rows<6>(part);
        break;
#endif
      default:
        break;
    }
    if (!finish) continue;
    part.taps = 1;
    part.tap_length = 0;
    part.accumulate = true;
    multiply_block(part);
  }
}

}  // namespace
}  // namespace bascule::BASCULE_ISA
