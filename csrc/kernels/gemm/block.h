// SPDX-License-Identifier: Apache-2.0
// What the matrix product micro-kernels are given. Plain data, shared by code of every instruction
// set: no functions here.
#pragma once

#include <cstdint>

#include "simd/activation_kind.h"

namespace bascule {

// y = activate(clamp(alpha * sum + bias[column] + residual[row, column], low, high)), on the tile
// while it is in registers or in the first cache. Null pointers are left out.
template <class T>
struct GemmEpilogue {
  T alpha = 1;
  const T* bias = nullptr;
  const T* residual = nullptr;  // addressed like C
  bool clamp = false;           // NaN stays NaN
  T low = 0;
  T high = 0;
  void (*activate)(T* c, int64_t stride, int64_t rows, int64_t columns, float alpha,
                   float beta) = nullptr;
  float activation_alpha = 0;
  float activation_beta = 0;
};

// C = epilogue(A B) for some rows and columns of a product.
//
// Rows come in `groups` of `rows` each: within a group they are a constant stride apart (one output
// row of a convolution; a plain matrix is one group). Each row of A is made of `taps` pieces of
// `tap_length` consecutive elements: piece t of row r of group g starts at
// a[t] + a_offset + g * a_group_stride + r * a_stride. So K = taps * tap_length, and every sum runs
// over k in rising order with one fused multiply-add per step, whatever the tile it is in (but see
// by_parts).
//
// B is in panels of panel_width columns: column j is in panel j / panel_width, row k of a panel at
// b + panel * b_panel_stride + k * b_stride. Loads may touch all panel_width columns of a panel.
template <class T>
struct GemmBlock {
  const T* const* a;
  int64_t taps;
  int64_t tap_length;
  int64_t a_offset;
  int64_t a_stride;
  int64_t a_group_stride;
  int64_t groups;
  int64_t rows;

  const T* b;
  int64_t b_stride;
  int64_t b_panel_stride;

  T* c;
  int64_t c_stride;
  int64_t c_group_stride;
  int64_t columns;

  bool accumulate;  // starts from what C holds: the sums over the k before these
  GemmEpilogue<T> epilogue;
  T* scratch;  // gemm_scratch elements for this call alone, or null
  // Whether numbers may be multiplied in parts, by tile registers, which pays for many rows: sums
  // then are of another order and rounding, which depend on K alone too. B is packed.
  bool by_parts;

  // Memory of another product that is fetched into the caches meanwhile, or null.
  const char* ahead;
  int64_t ahead_bytes;
};

// Elements of GemmBlock::scratch: rows of A that would fall into the same few sets of the first
// cache are copied there.
inline constexpr int64_t gemm_row_block = 140;
inline constexpr int64_t gemm_k_block = 1024;  // at most
inline constexpr int64_t gemm_scratch = gemm_row_block * (gemm_k_block + 16);

// What one instruction set offers for one element type.
template <class T>
struct GemmFunctions {
  int64_t panel_width;
  int64_t tile_rows;  // the tallest tile
  void (*multiply)(const GemmBlock<T>& block);
  // Null where none is needed, or where the clamp does it.
  void (*(*activation)(ActivationKind kind))(T* c, int64_t stride, int64_t rows, int64_t columns,
                                             float alpha, float beta);
  // Packs `columns` <= panel_width columns and k rows into a panel, the rest zero. Element (i, j)
  // is at b[i * row_stride + j * column_stride].
  void (*pack_panel)(const T* b, int64_t row_stride, int64_t column_stride, int64_t k,
                     int64_t columns, T* panel);
};

}  // namespace bascule
