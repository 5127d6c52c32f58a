// SPDX-License-Identifier: Apache-2.0
// The matrix product of this CPU: packing B into panels, and running a product on the threads of a
// run. T is float or double.
#pragma once

#include "core/tensor.h"
#include "kernels/gemm/block.h"
#include "runtime/run_context.h"

namespace bascule {

// The functions for the active instruction set.
template <class T>
const GemmFunctions<T>& gemm_functions();

inline int64_t round_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

// Elements that the panels of a [k, columns] matrix take.
template <class T>
int64_t packed_size(int64_t k, int64_t columns) {
  return k * round_up(columns, gemm_functions<T>().panel_width);
}

// Packs all panels of a matrix; element (i, j) is at b[i * row_stride + j * column_stride]. The
// panels of [k, columns] stand one after the other.
template <class T>
void pack_panels(const T* b, int64_t row_stride, int64_t column_stride, int64_t k, int64_t columns,
                 T* packed);
// The same on the threads of a run.
template <class T>
void pack_panels(RunContext& c, const T* b, int64_t row_stride, int64_t column_stride, int64_t k,
                 int64_t columns, T* packed);

// A block over packed panels with one tap and one group: C[rows, columns] = A[rows, k] B. `a` holds
// the pointer to A and must outlive the block.
template <class T>
GemmBlock<T> matrix_block(const T* const* a, int64_t rows, int64_t k, int64_t a_stride,
                          const T* packed, T* y, int64_t columns);

// Sets the activation of an epilogue.
template <class T>
void set_activation(GemmEpilogue<T>& epilogue, const Activation& activation);

// Whether the rows of A share so few sets of the first cache that a copy of them pays: give such a
// block scratch memory.
template <class T>
bool wants_scratch(const GemmBlock<T>& block);

// Runs the block on this thread.
template <class T>
void multiply(const GemmBlock<T>& block) {
  gemm_functions<T>().multiply(block);
}
// By parts where the block may be and can be.
template <>
void multiply(const GemmBlock<float>& block);

// Whether a product [rows, k] [k, columns] is faster by parts here (GemmBlock::by_parts). Ask for
// the rows of one sample: a sum must not depend on what else is in the batch.
bool pays_by_parts(int64_t rows, int64_t k, int64_t columns);

// How the threads of a run share a block; no way changes a bit.
enum class GemmCut { best, rows, columns };

// The rows and columns of a product that one thread computes; whole panels, but for the last.
struct GemmPart {
  int64_t row;
  int64_t rows;
  int64_t column;
  int64_t columns;
};

// How the threads of a run share the rows and columns of a product of float32 panels.
class GemmParts {
 public:
  GemmParts(int64_t rows, int64_t columns, int64_t k, int threads, GemmCut cut);
  int64_t count() const { return row_parts_ * column_parts_; }
  GemmPart operator[](int64_t index) const;
  // Of one part, in simple operations.
  double work() const { return work_ / static_cast<double>(count()); }

 private:
  int64_t rows_;
  int64_t columns_;
  int64_t row_parts_ = 1;
  int64_t column_parts_ = 1;
  double work_;
};

// Runs the block on the threads of the run, cut by rows or columns; `best`: whichever is even and
// reads less. `scratch` is not looked at.
template <class T>
void multiply(RunContext& c, const GemmBlock<T>& block, GemmCut cut = GemmCut::best);

}  // namespace bascule
