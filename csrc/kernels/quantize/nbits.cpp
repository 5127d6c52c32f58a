// SPDX-License-Identifier: Apache-2.0
#include "kernels/quantize/nbits.h"

#include <algorithm>
#include <cstring>
#include <functional>

#include "kernels/gemm/gemm.h"
#include "kernels/move/transpose_tile.h"
#include "runtime/prepack.h"

namespace bascule {

namespace {

// Up to this many rows of A are multiplied while the weights are in registers. For more, panels of
// floats are made first.
constexpr int64_t few_rows = 12;

// Rows of k that are made floats at a time: the second cache holds a panel of them and a block of
// rows of A.
constexpr int64_t depth_expanded = 512;
constexpr int64_t pad = 16;

int64_t panel_count(int64_t columns) {
  return (columns + nbits().panel_width - 1) / nbits().panel_width;
}

NBitsNumber number_of(DType dtype) {
  switch (dtype) {
    case DType::uint8:
      return NBitsNumber::u8;
    case DType::float16:
      return NBitsNumber::f16;
    case DType::bfloat16:
      return NBitsNumber::bf16;
    default:
      return NBitsNumber::f32;
  }
}

}  // namespace

void NBitsShape::check() const {
  if (bits != 2 && bits != 4 && bits != 8) {
    fail("bits is " + std::to_string(bits) + ", expected 2, 4 or 8");
  }
  if (block_size < 16 || (block_size & (block_size - 1)) != 0) {
    fail("block_size is " + std::to_string(block_size) +
         ", expected a power of two of 16 at least");
  }
  if (n < 1 || k < 1) {
    fail("N is " + std::to_string(n) + " and K is " + std::to_string(k) +
         ", expected positive numbers");
  }
  // Beyond this no tensor could hold the weights.
  constexpr int64_t most = int64_t{1} << 48;
  if (n > most || k > most || block_size > most) fail("N, K or block_size is too large");
}

NBitsWeights::NBitsWeights(const NBitsShape& shape, const NBitsSource& source, bool split)
    : shape_(shape) {
  const auto make = [&](size_t input, DType dtype, const Shape& size,
                        const std::function<void(Tensor&)>& fill) {
    if (source.node != nullptr) return prepack(*source.node, {input}, "panels", dtype, size, fill);
    Tensor tensor = Tensor::allocate(dtype, size);
    fill(tensor);
    return tensor;
  };
  const int64_t width = nbits().panel_width, panels = panel_count(shape_.n);
  const Shape numbers{panels, shape_.blocks(), width};
  words_ = make(1, DType::uint32, {panels, (shape_.k * shape_.bits + 31) / 32, width},
                [&](Tensor& to) { pack_words(source.data, to); });
  scales_ = make(2, source.scales->dtype(), numbers,
                 [&](Tensor& to) { pack_numbers(*source.scales, source.scales_at, to); });
  if (source.zeros != nullptr) {
    zeros_ = make(3, source.zeros->dtype(), numbers,
                  [&](Tensor& to) { pack_zeros(*source.zeros, source.zeros_at, to); });
  }
  if (source.groups != nullptr) pack_groups(*source.groups);
  if (source.values != nullptr) {
    values_ = Tensor::allocate(DType::float32, {16});
    const int patterns = 1 << shape_.bits;
    for (int i = 0; i < 16; ++i) values_.data<float>()[i] = source.values[i % patterns];
  }
  const bool integers = source.zeros == nullptr || source.zeros->dtype() == DType::uint8;
  split_ =
      split && integers && groups_.size() == 0 && source.values == nullptr && can_multiply_split();
}

void NBitsWeights::pack_words(const uint8_t* data, Tensor& words) const {
  const int64_t panels = words.dim(0), rows = words.dim(1), width = words.dim(2);
  for (int64_t panel = 0; panel < panels; ++panel) {
    auto* to = words.data<std::byte>() + panel * rows * width * 4;
    const int64_t first = panel * width, columns = std::min(width, shape_.n - first);
    if (columns < width) std::memset(to, 0, static_cast<size_t>(rows * width * 4));
    transpose_4_bytes(reinterpret_cast<const std::byte*>(data) + first * shape_.row_bytes(),
                      shape_.row_bytes(), to, width * 4, columns, rows);
  }
}

// [n][blocks] as [panel][blocks][width].
void NBitsWeights::pack_numbers(const Tensor& from, int64_t at, Tensor& packed) const {
  const int64_t width = nbits().panel_width, blocks = shape_.blocks();
  const auto size = static_cast<size_t>(item_size(from.dtype()));
  std::memset(packed.raw(), 0, static_cast<size_t>(packed.bytes()));
  const std::byte* source = from.raw() + static_cast<size_t>(at) * size;
  for (int64_t column = 0; column < shape_.n; ++column) {
    std::byte* to =
        packed.raw() + static_cast<size_t>(column / width * blocks * width + column % width) * size;
    for (int64_t block = 0; block < blocks; ++block) {
      std::memcpy(to, source, size);
      source += size;
      to += static_cast<size_t>(width) * size;
    }
  }
}

void NBitsWeights::pack_zeros(const Tensor& from, int64_t at, Tensor& packed) const {
  if (from.dtype() != DType::uint8) return pack_numbers(from, at, packed);
  Tensor unpacked = Tensor::allocate(DType::uint8, {shape_.n, shape_.blocks()});
  auto* to = unpacked.data<uint8_t>();
  const std::byte* row = from.raw() + at;
  for (int64_t i = 0; i < shape_.n; ++i, row += shape_.zero_row_bytes()) {
    for (int64_t block = 0; block < shape_.blocks(); ++block) {
      *to++ =
          shape_.bits == 8 ? static_cast<uint8_t>(row[block]) : get_packed(row, shape_.bits, block);
    }
  }
  pack_numbers(unpacked, 0, packed);
}

void NBitsWeights::pack_groups(const Tensor& from) {
  const int32_t* groups = from.data<int32_t>();
  bool in_order = true;
  for (int64_t k = 0; k < shape_.k; ++k) {
    if (groups[k] < 0 || groups[k] >= shape_.blocks()) {
      invalid("g_idx[" + std::to_string(k) + "] is " + std::to_string(groups[k]) + ", there are " +
              std::to_string(shape_.blocks()) + " blocks");
    }
    in_order &= groups[k] == k / shape_.block_size;
  }
  if (in_order) return;
  groups_ = Tensor::allocate(DType::int32, {shape_.k});
  std::memcpy(groups_.raw(), groups, static_cast<size_t>(shape_.k) * sizeof(int32_t));
}

NBitsPanels NBitsWeights::panels() const {
  NBitsPanels p{};
  p.bits = shape_.bits;
  p.block_size = shape_.block_size;
  p.blocks = shape_.blocks();
  p.word_rows = words_.dim(1);
  p.words = words_.data<uint32_t>();
  p.scales = scales_.raw();
  p.scale_type = number_of(scales_.dtype());
  p.zeros = zeros_.raw();
  p.zero_type = number_of(zeros_.dtype());
  p.zero = static_cast<float>(1 << (shape_.bits - 1));
  p.values = values_.data<float>();
  p.groups = groups_.data<int32_t>();
  return p;
}

void NBitsWeights::multiply(RunContext& c, const float* a, int64_t rows, const float* bias,
                            float* y) const {
  if (rows == 0) return;
  if (split_) {
    multiply_split(c, a, rows, bias, y);
  } else if (rows <= few_rows && groups_.size() == 0) {
    multiply_few(c, a, rows, bias, y);
  } else {
    multiply_many(c, a, rows, bias, y);
  }
}

void NBitsWeights::multiply_few(RunContext& c, const float* a, int64_t rows, const float* bias,
                                float* y) const {
  const NBitsFunctions& functions = nbits();
  const NBitsPanels b = panels();
  const int64_t step = functions.panel_width;
  const int64_t items = panel_count(shape_.n);
  const int64_t parts = (rows + functions.most_rows - 1) / functions.most_rows;
  const double cost = static_cast<double>(shape_.k * step) * static_cast<double>(rows + 3) / 16;
  c.parallel_for(items, cost, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      for (int64_t part = 0; part < parts; ++part) {
        const int64_t from = rows * part / parts, column = i * step;
        NBitsRows g{};
        g.b = &b;
        g.panel = i;
        g.k = shape_.k;
        g.a = a + from * shape_.k;
        g.a_stride = shape_.k;
        g.rows = rows * (part + 1) / parts - from;
        g.bias = bias != nullptr ? bias + column : nullptr;
        g.c = y + from * shape_.n + column;
        g.c_stride = shape_.n;
        g.columns = std::min(step, shape_.n - column);
        functions.multiply(g);
      }
    }
  });
}

void NBitsWeights::multiply_many(RunContext& c, const float* a, int64_t rows, const float* bias,
                                 float* y) const {
  const int64_t width = nbits().expand_width;
  const int64_t panels = (shape_.n + width - 1) / width;
  const int64_t threads = std::min<int64_t>(c.threads(), panels);
  const int64_t panel_size = depth_expanded * width;
  const int64_t block_size = gemm_row_block * (depth_expanded + pad);
  float* space = c.workspace<float>(threads * (panel_size + block_size));
  const int64_t row_blocks = (rows + gemm_row_block - 1) / gemm_row_block;
  const double work = static_cast<double>(rows + 8) * static_cast<double>(shape_.k) *
                      static_cast<double>(shape_.n) / 8;
  c.parallel_for(threads, work / static_cast<double>(threads), [&](int64_t begin, int64_t end) {
    for (int64_t part = begin; part < end; ++part) {
      float* floats = space + part * (panel_size + block_size);
      for (int64_t block = 0; block < row_blocks; ++block) {
        const int64_t from = rows * block / row_blocks, to = rows * (block + 1) / row_blocks;
        multiply_block(a + from * shape_.k, to - from, panels * part / threads,
                       panels * (part + 1) / threads, bias, floats, y + from * shape_.n);
      }
    }
  });
}

void NBitsWeights::multiply_block(const float* a, int64_t rows, int64_t first_panel,
                                  int64_t last_panel, const float* bias, float* space,
                                  float* y) const {
  const NBitsPanels b = panels();
  const int64_t width = nbits().expand_width;
  float* copied = space + depth_expanded * width;
  for (int64_t k = 0; k < shape_.k; k += depth_expanded) {
    const int64_t depth = std::min(depth_expanded, shape_.k - k), stride = depth + pad;
    for (int64_t row = 0; row < rows; ++row) {
      std::memcpy(copied + row * stride, a + row * shape_.k + k,
                  static_cast<size_t>(depth) * sizeof(float));
    }
    for (int64_t panel = first_panel; panel < last_panel; ++panel) {
      const int64_t column = panel * width;
      nbits().expand(b, column, k, k + depth, space);
      GemmBlock<float> g =
          matrix_block<float>(&copied, rows, depth, stride, space, y + column, shape_.n);
      g.columns = std::min(width, shape_.n - column);
      g.accumulate = k > 0;
      if (k + depth == shape_.k && bias != nullptr) g.epilogue.bias = bias + column;
      bascule::multiply(g);
    }
  }
}

}  // namespace bascule
