// SPDX-License-Identifier: Apache-2.0
// Products of split rows (NBitsSplit): how they are cut, and by what they are made.
#include <algorithm>

#include "kernels/quantize/nbits.h"
#include "simd/isa.h"
#include "simd/tiles.h"

namespace bascule {

#if defined(__x86_64__) || defined(_M_X64)

namespace {

// Rows of A that are split at a time, and parts of a row that several threads may split.
constexpr int64_t most_split = 128, row_parts = 4;

// Fewer rows are not worth it to lay the weights out for tiles.
constexpr int64_t least_for_tiles = 13;

// Rows of a split and one panel.
void multiply_panel(const NBitsSplitRows& all) {
#if BASCULE_WITH_AVX512_AMX
  // With zero points, weights of 8 bits may be further than a signed byte from them.
  const bool signed_bytes = all.b->bits < 8 || all.b->zeros == nullptr;
  if (all.rows >= least_for_tiles && signed_bytes && has_byte_tiles()) {
    return avx512_amx::multiply_split_tiles(all);
  }
#endif
  for (int64_t row = 0; row < all.rows; row += nbits_split_rows) {
    NBitsSplitRows some = all;
    some.a.parts = all.a.parts_of(row);
    some.a.factors += row * all.a.spans;
    some.a.starts += row * all.a.spans * nbits_split_parts;
    some.rows = std::min(nbits_split_rows, all.rows - row);
    some.c += row * all.c_stride;
    avx512_vnni::multiply_split_rows(some);
  }
}

}  // namespace

bool can_multiply_split() { return active_isa() >= Isa::avx512_vnni; }

void NBitsWeights::multiply_split(RunContext& c, const float* a, int64_t rows, const float* bias,
                                  float* y) const {
  const NBitsPanels b = panels();
  const int64_t most = std::min(rows, most_split), k = shape_.k, n = shape_.n;
  const int64_t step = nbits().panel_width;
  NBitsSplit split{};
  split.span = std::min(shape_.block_size, nbits_longest_span);
  split.spans = (k + split.span - 1) / split.span;
  split.group = std::min<int64_t>(most, 16);  // the rows of a tile
  const int64_t groups = (most + split.group - 1) / split.group;
  split.parts = c.workspace<int8_t>(groups * split.spans * split.span_step());
  split.factors = c.workspace<float>(most * split.spans);
  split.starts = c.workspace<int32_t>(most * split.spans * nbits_split_parts);
  bool* part_fits = c.workspace<bool>(most * row_parts);
  const auto fits = [&](int64_t row) {
    return std::all_of(part_fits + row * row_parts, part_fits + (row + 1) * row_parts,
                       [](bool part) { return part; });
  };
  for (int64_t from = 0; from < rows; from += most, a += most * k, y += most * n) {
    const int64_t count = std::min(rows - from, most);
    const auto work = static_cast<double>(k * 4 / row_parts);
    c.parallel_for(count * row_parts, work, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t row = i / row_parts, part = i % row_parts;
        part_fits[i] =
            avx512_vnni::split_spans(b, a + row * k, k, split, row, split.spans * part / row_parts,
                                     split.spans * (part + 1) / row_parts);
      }
    });
    const double cost = static_cast<double>(k * step) * static_cast<double>(count + 3) / 16;
    c.parallel_for((n + step - 1) / step, cost, [&](int64_t begin, int64_t end) {
      for (int64_t panel = begin; panel < end; ++panel) {
        const int64_t column = panel * step, columns = std::min(step, n - column);
        const float* panel_bias = bias != nullptr ? bias + column : nullptr;
        multiply_panel({&b, panel, split, count, panel_bias, y + column, n, columns});
        for (int64_t row = 0; row < count; ++row) {
          if (fits(row)) continue;
          nbits().multiply(
              {&b, panel, k, a + row * k, k, 1, panel_bias, y + row * n + column, n, columns});
        }
      }
    });
  }
}

#else

bool can_multiply_split() { return false; }
void NBitsWeights::multiply_split(RunContext&, const float*, int64_t, const float*, float*) const {}

#endif

}  // namespace bascule
