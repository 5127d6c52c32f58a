// SPDX-License-Identifier: Apache-2.0
// DequantizeLinear: y = (x - zero_point) * scale, with one scale, one for each index of an axis, or
// one for each block along an axis.
#include <algorithm>

#include "kernels/gemm/convert.h"
#include "kernels/quantize/granularity.h"
#include "kernels/quantize/number.h"
#include "kernels/quantize/row_functions.h"
#include "runtime/kernel.h"

namespace bascule {
namespace {

constexpr int64_t chunk = 512;

using ResultTypes = Types<float, Float16, BFloat16>;

DType result_type(const NodeSpec& node) {
  const int64_t asked = node.get_int("output_dtype", 0);
  return asked > 0 && asked < dtype_count ? static_cast<DType>(asked) : node.dtype(1);
}

// How a row of this type is read; false: through a table of patterns.
bool source_of(DType dtype, QuantizedSource& source) {
  switch (dtype) {
    case DType::int8:
      source = QuantizedSource::i8;
      return true;
    case DType::uint8:
      source = QuantizedSource::u8;
      return true;
    case DType::int16:
      source = QuantizedSource::i16;
      return true;
    case DType::uint16:
      source = QuantizedSource::u16;
      return true;
    case DType::int32:
      source = QuantizedSource::i32;
      return true;
    default:
      return false;
  }
}

class DequantizeLinear final : public Kernel {
 public:
  static Capability capability(const NodeSpec& node) {
    if (!is_quantized_type(node.dtype()) && node.dtype() != DType::int32) {
      return reject(std::string("no dequantization of ") + name_of(node.dtype()));
    }
    const Capability typed = require_dtype(node, 1, Types<float, Float16, BFloat16, Float8E8M0>{});
    if (!typed.accepted()) return typed;
    if (contains(ResultTypes{}, result_type(node))) return accept;
    return reject(std::string("no dequantization to ") + name_of(result_type(node)));
  }

  explicit DequantizeLinear(const NodeSpec& node)
      : dtype_(result_type(node)),
        axis_(node.get_int("axis", 1)),
        block_size_(node.get_int("block_size", 0)) {
    direct_ = source_of(node.dtype(), source_);
    if (!direct_) table_ = pattern_table(node.dtype());
  }

  void run(RunContext& c) const override {
    const Tensor& x = c.input(0);
    const Tensor& scale = c.input(1);
    const Granularity granularity(x.shape(), scale.shape(), axis_, block_size_);
    float* scales = c.workspace<float>(scale.size());
    to_floats(scale, 0, scale.size(), scales);
    const float* zeros = zero_points(c, scale.shape());
    std::byte* y = c.output(0, dtype_, x.shape()).raw();
    const auto piece = [&](int64_t first, int64_t count, int64_t at) {
      dequantize(x, first, count, {scales + at, zeros ? zeros + at : nullptr, granularity.each()},
                 y);
    };
    if (granularity.rows() == 1) {
      c.parallel_for(x.size(), 1, [&](int64_t begin, int64_t end) {
        piece(begin, end - begin, granularity.each() ? begin : 0);
      });
      return;
    }
    c.parallel_for(granularity.rows(), static_cast<double>(granularity.width() + 8),
                   [&](int64_t begin, int64_t end) {
                     for (int64_t i = begin; i < end; ++i) {
                       const auto row = granularity.row(i);
                       piece(row.first, row.count, row.scale);
                     }
                   });
  }

 private:
  void dequantize(const Tensor& x, int64_t first, int64_t count, Affine affine,
                  std::byte* y) const {
    if (direct_ && dtype_ == DType::float32) {
      rows_.dequantize({x.raw() + first * item_size(x.dtype()), source_, affine,
                        reinterpret_cast<float*>(y) + first, count});
      return;
    }
    float values[chunk], results[chunk];
    const int64_t size = item_size(dtype_);
    for (int64_t i = 0; i < count; i += chunk) {
      const int64_t n = std::min(chunk, count - i), at = first + i;
      DequantizeRow row{x.raw() + at * item_size(x.dtype()), source_, affine, results, n};
      if (!direct_) {
        look_up(x, at, n, values);
        row.x = values;
        row.source = QuantizedSource::f32;
      }
      if (affine.each) {
        row.affine.scale += i;
        if (row.affine.zero != nullptr) row.affine.zero += i;
      }
      if (dtype_ == DType::float32) row.y = reinterpret_cast<float*>(y) + at;
      rows_.dequantize(row);
      if (dtype_ != DType::float32) narrow_row(dtype_, results, y + at * size, n);
    }
  }

  void look_up(const Tensor& x, int64_t first, int64_t n, float* values) const {
    const std::byte* raw = x.raw();
    const int bits = bits_of(x.dtype());
    if (bits == 8) {
      for (int64_t i = 0; i < n; ++i)
        values[i] = table_.values[static_cast<uint8_t>(raw[first + i])];
      return;
    }
    for (int64_t i = 0; i < n; ++i) values[i] = table_.values[get_packed(raw, bits, first + i)];
  }

  DType dtype_;
  int64_t axis_;
  int64_t block_size_;
  bool direct_ = false;
  QuantizedSource source_ = QuantizedSource::f32;
  PatternTable table_{};
  const QuantizedRows& rows_ = quantized_rows();
};
BASCULE_KERNEL("DequantizeLinear", DequantizeLinear);

}  // namespace
}  // namespace bascule
