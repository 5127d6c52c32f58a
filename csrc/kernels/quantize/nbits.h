// SPDX-License-Identifier: Apache-2.0
// Matrix products with weights of 2, 4 or 8 bits, which stay in their bits.
#pragma once

#include <string>

#include "core/tensor.h"
#include "kernels/quantize/nbits_panels.h"
#include "runtime/node.h"
#include "runtime/run_context.h"

namespace bascule {

// The functions for the active instruction set.
const NBitsFunctions& nbits();

// B^T as operators have it: `n` rows of `k` numbers of `bits` bits, the first in the lowest bits of
// a byte; each row is padded to whole blocks.
struct NBitsShape {
  int64_t n;
  int64_t k;
  int64_t block_size;
  int bits;

  // Refuses sizes that make no sense.
  void check() const;
  int64_t blocks() const { return (k + block_size - 1) / block_size; }
  int64_t row_bytes() const { return blocks() * (block_size * bits / 8); }
  int64_t zero_row_bytes() const { return (blocks() * bits + 7) / 8; }
};

// The tensors of one matrix, checked by the caller; pointers may be null where it says so.
struct NBitsSource {
  const uint8_t* data;   // [n][row_bytes]
  const Tensor* scales;  // its elements from `scales_at` on: [n][blocks]
  int64_t scales_at = 0;
  const Tensor* zeros = nullptr;  // null; uint8: packed rows of zero_row_bytes; floats: [n][blocks]
  int64_t zeros_at = 0;           // in elements
  const Tensor* groups = nullptr;  // null; int32 [k] or more: the block of each k
  const float* values = nullptr;   // null; what the 2^bits patterns mean
  // Null; the node whose constants 1, 2 and 3 the data, scales and zeros are.
  const NodeSpec* node = nullptr;
};

// Whether split rows (NBitsSplit) can be multiplied here.
bool can_multiply_split();

// One matrix, packed into panels.
class NBitsWeights {
 public:
  NBitsWeights() = default;
  // `split`: rows of A may be multiplied as integers (NBitsSplit).
  NBitsWeights(const NBitsShape& shape, const NBitsSource& source, bool split);

  bool present() const { return words_.size() > 0; }
  int64_t n() const { return shape_.n; }
  int64_t k() const { return shape_.k; }

  // y[rows, n] = a[rows, k] B + bias, on the threads of a run. The bits of a row do not depend on
  // the other rows. `bias` may be null.
  void multiply(RunContext& c, const float* a, int64_t rows, const float* bias, float* y) const;

 private:
  void pack_words(const uint8_t* data, Tensor& words) const;
  void pack_numbers(const Tensor& from, int64_t at, Tensor& packed) const;
  void pack_zeros(const Tensor& from, int64_t at, Tensor& packed) const;
  void pack_groups(const Tensor& from);
  void multiply_split(RunContext& c, const float* a, int64_t rows, const float* bias,
                      float* y) const;
  void multiply_few(RunContext& c, const float* a, int64_t rows, const float* bias, float* y) const;
  void multiply_many(RunContext& c, const float* a, int64_t rows, const float* bias,
                     float* y) const;
  // Some rows, and the columns of some panels, on one thread.
  void multiply_block(const float* a, int64_t rows, int64_t first_panel, int64_t last_panel,
                      const float* bias, float* space, float* y) const;
  NBitsPanels panels() const;

  NBitsShape shape_{};
  Tensor words_;
  Tensor scales_;
  Tensor zeros_;
  Tensor groups_;
  Tensor values_;
  bool split_ = false;
};

}  // namespace bascule
