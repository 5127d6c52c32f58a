// SPDX-License-Identifier: Apache-2.0
// The products of a recurrent state with the weights R, in blocks of units.
#pragma once

#include <algorithm>
#include <vector>

#include "kernels/gemm/gemm.h"

namespace bascule {

// R' of some gates, [hidden, gates * hidden], as blocks of units: each holds [hidden, gates,
// width], the columns of all gates of its units. So a block is one stream, and while the next one
// is fetched the gates of its units can be done.
template <class T>
struct StateBlocks {
  int64_t hidden;
  int64_t gates;

  struct Block {
    int64_t first;  // its first unit
    int64_t units;
    int64_t width;  // units, rounded up to whole vectors
  };

  static int64_t panel() { return gemm_functions<T>().panel_width; }
  static int64_t vector() { return panel() / 2; }

  // Units of a block: four panels of columns in all, where there are as many.
  int64_t most_units() const {
    const int64_t panels = std::min((hidden + panel() - 1) / panel(), 4 / gates);
    return std::max<int64_t>(panels, 1) * panel();
  }
  int64_t count() const { return (hidden + most_units() - 1) / most_units(); }
  Block block(int64_t index) const {
    const int64_t first = index * most_units();
    const int64_t units = std::min(most_units(), hidden - first);
    return {first, units, round_up(units, vector())};
  }
  // Elements of all blocks, and of what a product may read behind them.
  int64_t size() const { return hidden * gates * round_up(hidden, vector()) + panel(); }

  // From [gates * hidden, hidden].
  void pack(const T* r, T* to) const {
    std::vector<T> columns(static_cast<size_t>(hidden * panel()));
    for (int64_t i = 0; i < count(); ++i) {
      const Block b = block(i);
      for (int64_t gate = 0; gate < gates; ++gate) {
        for (int64_t j = 0; j < b.width; j += panel()) {
          const T* from = r + (gate * hidden + b.first + j) * hidden;
          pack_panels(from, 1, hidden, hidden, std::min(panel(), b.units - j), columns.data());
          for (int64_t k = 0; k < hidden; ++k) {
            std::copy_n(columns.data() + k * panel(), std::min(panel(), b.width - j),
                        to + (k * gates + gate) * b.width + j);
          }
        }
      }
      to += hidden * gates * b.width;
    }
    std::fill_n(to, panel(), T(0));
  }

  // y[rows, gates, width] = a[rows, hidden] times a block of what pack() gave.
  void multiply(const Block& b, const T* packed, const T* a, int64_t rows, int64_t stride,
                T* y) const {
    GemmBlock<T> g = matrix_block<T>(&a, rows, hidden, stride, packed + hidden * gates * b.first, y,
                                     gates * b.width);
    g.b_stride = gates * b.width;
    g.b_panel_stride = panel();
    bascule::multiply(g);
  }
};

}  // namespace bascule
