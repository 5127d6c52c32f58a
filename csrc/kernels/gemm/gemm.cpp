// SPDX-License-Identifier: Apache-2.0
#include "kernels/gemm/gemm.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

#include "kernels/move/transpose_tile.h"
#include "simd/tiles.h"

namespace bascule {

namespace {

// Packs one panel of a matrix whose columns lie together in memory, as a transposition.
void transpose_panel(const float* b, int64_t column_stride, int64_t k, int64_t columns,
                     int64_t width, float* panel) {
  transpose_tile<float>(
      reinterpret_cast<const std::byte*>(b), column_stride * static_cast<int64_t>(sizeof(float)),
      reinterpret_cast<std::byte*>(panel), width * static_cast<int64_t>(sizeof(float)), columns, k);
  if (columns == width) return;
  for (int64_t i = 0; i < k; ++i)
    std::fill(panel + i * width + columns, panel + (i + 1) * width, 0);
}

// How a block is cut: rows into `rows` parts, panels into `columns` parts.
struct Cut {
  int64_t rows = 1;
  int64_t columns = 1;
};

// Work of a run of rows over one panel, in rows: a tile of few rows waits for its own sums, so it
// takes as long as one of five.
double row_work(int64_t rows, int64_t tile_rows) {
  if (rows == 0) return 0;
  const int64_t tiles = (rows + tile_rows - 1) / tile_rows;
  return static_cast<double>(std::max(rows, 5 * tiles));
}

template <class T>
Cut choose_cut(const GemmBlock<T>& g, int threads, GemmCut wanted) {
  if (wanted == GemmCut::rows) return {threads, 1};
  if (wanted == GemmCut::columns) return {1, threads};
  const GemmFunctions<T>& functions = gemm_functions<T>();
  const int64_t panels = (g.columns + functions.panel_width - 1) / functions.panel_width;
  const int64_t rows = g.groups * g.rows;
  Cut best;
  double best_work = std::numeric_limits<double>::infinity();
  double best_traffic = best_work;
  for (int row_parts = 1; row_parts <= threads; ++row_parts) {
    const int column_parts = threads / row_parts;
    if (row_parts * column_parts != threads) continue;
    const int64_t most_panels = (panels + column_parts - 1) / column_parts;
    double work;
    if (g.groups > 1) {
      const int64_t most_groups = (g.groups + row_parts - 1) / row_parts;
      work = static_cast<double>(most_groups) * row_work(g.rows, functions.tile_rows);
    } else {
      work = row_work((rows + row_parts - 1) / row_parts, functions.tile_rows);
    }
    work *= static_cast<double>(most_panels);
    // Every row part reads all of B, every column part all of A.
    const double traffic = static_cast<double>(row_parts) * static_cast<double>(g.columns) +
                           static_cast<double>(column_parts) * static_cast<double>(rows);
    if (work < 0.97 * best_work || (work < 1.03 * best_work && traffic < best_traffic)) {
      best = {row_parts, column_parts};
      best_work = work;
      best_traffic = traffic;
    }
  }
  return best;
}

// Of a product, in simple operations.
double work_of(int64_t rows, int64_t columns, int64_t k) {
  return static_cast<double>(rows) * static_cast<double>(k + 8) * static_cast<double>(columns) / 8;
}
// Below this, waking another thread takes longer than it saves.
constexpr double least_shared_work = 65536;

// One cell of the cut.
template <class T>
GemmBlock<T> part_of(const GemmBlock<T>& g, const Cut& cut, int64_t index) {
  GemmBlock<T> part = g;
  const int64_t row = index / cut.columns;
  const int64_t column = index % cut.columns;
  int64_t c_offset = 0;
  if (g.groups > 1) {
    const int64_t from = g.groups * row / cut.rows;
    part.groups = g.groups * (row + 1) / cut.rows - from;
    part.a_offset += from * g.a_group_stride;
    c_offset = from * g.c_group_stride;
  } else {
    const int64_t from = g.rows * row / cut.rows;
    part.rows = g.rows * (row + 1) / cut.rows - from;
    part.a_offset += from * g.a_stride;
    c_offset = from * g.c_stride;
  }
  const int64_t width = gemm_functions<T>().panel_width;
  const int64_t panels = (g.columns + width - 1) / width;
  const int64_t from = panels * column / cut.columns;
  const int64_t to = panels * (column + 1) / cut.columns;
  if (g.ahead != nullptr) {
    part.ahead_bytes = g.ahead_bytes / (cut.rows * cut.columns);
    part.ahead += index * part.ahead_bytes;
  }
  part.b += from * g.b_panel_stride;
  part.columns = std::min(g.columns, to * width) - from * width;
  c_offset += from * width;
  part.c += c_offset;
  if (part.epilogue.bias != nullptr) part.epilogue.bias += from * width;
  if (part.epilogue.residual != nullptr) part.epilogue.residual += c_offset;
  return part;
}

}  // namespace

bool pays_by_parts(int64_t rows, int64_t k, int64_t columns) {
  return rows >= 96 && k >= 128 && columns >= 128 && has_bfloat16_tiles();
}

#if BASCULE_WITH_AVX512_AMX
namespace avx512_amx {
bool multiply_float_tiles(const GemmBlock<float>& block);
}
#endif

#if BASCULE_WITH_AVX512_AMX
namespace {

bool are_finite(const float* from, int64_t count) {
  return std::all_of(from, from + count, [](float x) { return std::isfinite(x); });
}

// Computes rows of A and panels of B with a number that is not finite as if there were no parts. So
// they alone depend on that number, in whatever way the block was cut.
void multiply_not_finite(const GemmBlock<float>& g) {
  const auto& functions = gemm_functions<float>();
  for (int64_t index = 0; index < g.groups * g.rows; ++index) {
    const int64_t group = index / g.rows, row = index % g.rows;
    GemmBlock<float> one = g;
    one.groups = one.rows = 1;
    one.a_offset += group * g.a_group_stride + row * g.a_stride;
    const auto is_whole = [&](const float* tap) {
      return are_finite(tap + one.a_offset, g.tap_length);
    };
    if (std::all_of(g.a, g.a + g.taps, is_whole)) continue;
    const int64_t offset = group * g.c_group_stride + row * g.c_stride;
    one.c += offset;
    if (one.epilogue.residual != nullptr) one.epilogue.residual += offset;
    functions.multiply(one);
  }
  const int64_t width = functions.panel_width;
  for (int64_t column = 0; column < g.columns; column += width) {
    GemmBlock<float> one = g;
    one.b += column / width * g.b_panel_stride;
    if (are_finite(one.b, g.taps * g.tap_length * width)) continue;
    one.columns = std::min(width, g.columns - column);
    one.c += column;
    if (one.epilogue.bias != nullptr) one.epilogue.bias += column;
    if (one.epilogue.residual != nullptr) one.epilogue.residual += column;
    functions.multiply(one);
  }
}

}  // namespace
#endif

template <>
void multiply(const GemmBlock<float>& block) {
#if BASCULE_WITH_AVX512_AMX
  if (block.by_parts && !block.accumulate && block.epilogue.residual != block.c &&
      block.taps * block.tap_length > 0) {
    if (!avx512_amx::multiply_float_tiles(block)) multiply_not_finite(block);
    return;
  }
#endif
  gemm_functions<float>().multiply(block);
}

template <class T>
void pack_panels(const T* b, int64_t row_stride, int64_t column_stride, int64_t k, int64_t columns,
                 T* packed) {
  const GemmFunctions<T>& functions = gemm_functions<T>();
  const int64_t width = functions.panel_width;
  for (int64_t j = 0; j < columns; j += width) {
    if constexpr (std::is_same_v<T, float>) {
      if (row_stride == 1 && column_stride != 1) {
        transpose_panel(b + j * column_stride, column_stride, k, std::min(width, columns - j),
                        width, packed + j * k);
        continue;
      }
    }
    functions.pack_panel(b + j * column_stride, row_stride, column_stride, k,
                         std::min(width, columns - j), packed + j * k);
  }
}

template <class T>
void pack_panels(RunContext& c, const T* b, int64_t row_stride, int64_t column_stride, int64_t k,
                 int64_t columns, T* packed) {
  const int64_t width = gemm_functions<T>().panel_width;
  c.parallel_for((columns + width - 1) / width, static_cast<double>(k * width),
                 [&](int64_t begin, int64_t end) {
                   const int64_t from = begin * width;
                   pack_panels(b + from * column_stride, row_stride, column_stride, k,
                               std::min(end * width, columns) - from, packed + from * k);
                 });
}

template <class T>
GemmBlock<T> matrix_block(const T* const* a, int64_t rows, int64_t k, int64_t a_stride,
                          const T* packed, T* y, int64_t columns) {
  const int64_t width = gemm_functions<T>().panel_width;
  GemmBlock<T> g{};
  g.a = a;
  g.taps = 1;
  g.tap_length = k;
  g.a_stride = a_stride;
  g.groups = 1;
  g.rows = rows;
  g.b = packed;
  g.b_stride = width;
  g.b_panel_stride = width * k;
  g.c = y;
  g.c_stride = columns;
  g.columns = columns;
  return g;
}

template <class T>
void set_activation(GemmEpilogue<T>& epilogue, const Activation& activation) {
  if (activation.kind == ActivationKind::relu) {
    epilogue.clamp = true;
    epilogue.low = 0;
    epilogue.high = std::numeric_limits<T>::infinity();
  } else if (activation.kind == ActivationKind::clip) {
    epilogue.clamp = true;
    epilogue.low = static_cast<T>(activation.alpha);
    epilogue.high = static_cast<T>(activation.beta);
  }
  epilogue.activate = gemm_functions<T>().activation(activation.kind);
  epilogue.activation_alpha = activation.alpha;
  epilogue.activation_beta = activation.beta;
}

template <class T>
bool wants_scratch(const GemmBlock<T>& g) {
  // 64 sets of 64-byte lines: at a stride of nearly a multiple of 4096 bytes all rows of a tile
  // meet in one or two sets, which hold fewer lines than a tall tile has rows.
  constexpr int64_t sets_bytes = 4096;
  constexpr int64_t lines_of_a_set = 8;
  const int64_t step = (g.a_stride * static_cast<int64_t>(sizeof(T))) % sets_bytes;
  const int64_t apart = std::min(step, sets_bytes - step);
  const GemmFunctions<T>& functions = gemm_functions<T>();
  return functions.tile_rows > lines_of_a_set && g.groups == 1 && g.rows > 6 && apart < 64 &&
         g.columns > 2 * functions.panel_width;
}

GemmParts::GemmParts(int64_t rows, int64_t columns, int64_t k, int threads, GemmCut cut)
    : rows_(rows), columns_(columns), work_(work_of(rows, columns, k)) {
  if (work_ <= least_shared_work) return;
  GemmBlock<float> block{};
  block.groups = 1;
  block.rows = rows;
  block.columns = columns;
  const Cut chosen = choose_cut(block, threads, cut);
  row_parts_ = chosen.rows;
  column_parts_ = chosen.columns;
}

GemmPart GemmParts::operator[](int64_t index) const {
  const int64_t row = index / column_parts_;
  const int64_t column = index % column_parts_;
  const int64_t width = gemm_functions<float>().panel_width;
  const int64_t panels = (columns_ + width - 1) / width;
  GemmPart part;
  part.row = rows_ * row / row_parts_;
  part.rows = rows_ * (row + 1) / row_parts_ - part.row;
  part.column = panels * column / column_parts_ * width;
  part.columns = std::min(columns_, panels * (column + 1) / column_parts_ * width) - part.column;
  return part;
}

template <class T>
void multiply(RunContext& c, const GemmBlock<T>& block, GemmCut wanted) {
  if (block.groups <= 0 || block.rows <= 0 || block.columns <= 0) return;
  const double work =
      work_of(block.groups * block.rows, block.columns, block.taps * block.tap_length);
  Cut cut;
  if (work > least_shared_work) cut = choose_cut(block, c.threads(), wanted);
  const int64_t parts = cut.rows * cut.columns;
  T* scratch = wants_scratch(block) ? c.workspace<T>(parts * gemm_scratch) : nullptr;
  c.parallel_for(parts, work / static_cast<double>(parts), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      GemmBlock<T> part = part_of(block, cut, i);
      if (part.groups <= 0 || part.rows <= 0 || part.columns <= 0) continue;
      part.scratch = scratch != nullptr ? scratch + i * gemm_scratch : nullptr;
      multiply(part);
    }
  });
}

#define BASCULE_GEMM_FOR(T)                                                                    \
  template void pack_panels(const T*, int64_t, int64_t, int64_t, int64_t, T*);                 \
  template void pack_panels(RunContext&, const T*, int64_t, int64_t, int64_t, int64_t, T*);    \
  template GemmBlock<T> matrix_block(const T* const*, int64_t, int64_t, int64_t, const T*, T*, \
                                     int64_t);                                                 \
  template void set_activation(GemmEpilogue<T>&, const Activation&);                           \
  template bool wants_scratch(const GemmBlock<T>&);                                            \
  template void multiply(RunContext&, const GemmBlock<T>&, GemmCut)
BASCULE_GEMM_FOR(float);
BASCULE_GEMM_FOR(double);

}  // namespace bascule
