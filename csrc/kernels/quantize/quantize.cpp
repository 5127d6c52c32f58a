// SPDX-License-Identifier: Apache-2.0
// QuantizeLinear: y = saturate(round(x / scale) + zero_point), with one scale, one for each index
// of an axis, or one for each block along an axis.
#include <algorithm>
#include <cmath>

#include "kernels/gemm/convert.h"
#include "kernels/quantize/granularity.h"
#include "kernels/quantize/number.h"
#include "kernels/quantize/row_functions.h"
#include "runtime/kernel.h"

namespace bascule {
namespace {

// Elements that are converted at a time, in the first cache.
constexpr int64_t chunk = 512;

using ScaleTypes = Types<float, Float16, BFloat16, int32_t, Float8E8M0>;

DType attribute_dtype(const NodeSpec& node, const char* name) {
  const int64_t value = node.get_int(name, 0);
  if (value < 0 || value >= dtype_count) {
    fail(std::string(name) + " is " + std::to_string(value) + ", which is no element type");
  }
  return static_cast<DType>(value);
}

DType result_type(const NodeSpec& node) {
  const DType asked = attribute_dtype(node, "output_dtype");
  if (node.has_input(2)) {
    if (asked != DType::undefined && asked != node.dtype(2)) {
      fail(std::string("output_dtype is ") + name_of(asked) + ", but the zero point is " +
           name_of(node.dtype(2)));
    }
    return node.dtype(2);
  }
  return asked != DType::undefined ? asked : DType::uint8;
}

class QuantizeLinear final : public Kernel {
 public:
  static Capability capability(const NodeSpec& node) {
    for (const size_t i : {size_t{0}, size_t{1}}) {
      const Capability typed = require_dtype(node, i, ScaleTypes{});
      if (!typed.accepted()) return typed;
    }
    if (is_quantized_type(result_type(node))) return accept;
    return reject(std::string("no quantization to ") + name_of(result_type(node)));
  }

  explicit QuantizeLinear(const NodeSpec& node)
      : dtype_(result_type(node)),
        type_(quantized_type(dtype_)),
        precision_(attribute_dtype(node, "precision")),
        axis_(node.get_int("axis", 1)),
        block_size_(node.get_int("block_size", 0)),
        overflow_(node.get_int("saturate", 1) != 0 ? Overflow::saturate : Overflow::to_special) {
    // The type of the scale says how the quotient is rounded.
    if (precision_ == DType::undefined) precision_ = node.dtype(1);
    if (precision_ != DType::float16 && precision_ != DType::bfloat16 &&
        precision_ != DType::int32) {
      precision_ = DType::float32;
    }
  }

  void run(RunContext& c) const override {
    const Tensor& x = c.input(0);
    const Tensor& scale = c.input(1);
    const Granularity granularity(x.shape(), scale.shape(), axis_, block_size_);
    float* scales = c.workspace<float>(scale.size());
    to_floats(scale, 0, scale.size(), scales);
    const float* zeros = zero_points(c, scale.shape());
    Tensor& y = c.output(0, dtype_, x.shape());
    auto* patterns =
        is_packed(dtype_) ? c.workspace<uint8_t>(x.size()) : reinterpret_cast<uint8_t*>(y.raw());
    const auto piece = [&](int64_t first, int64_t count, int64_t at) {
      quantize(x, first, count, {scales + at, zeros ? zeros + at : nullptr, granularity.each()},
               patterns);
    };
    const double cost = type_.integer ? 1 : 20;
    if (granularity.rows() == 1) {
      c.parallel_for(x.size(), cost, [&](int64_t begin, int64_t end) {
        piece(begin, end - begin, granularity.each() ? begin : 0);
      });
    } else {
      c.parallel_for(granularity.rows(), cost * static_cast<double>(granularity.width() + 8),
                     [&](int64_t begin, int64_t end) {
                       for (int64_t i = begin; i < end; ++i) {
                         const auto row = granularity.row(i);
                         piece(row.first, row.count, row.scale);
                       }
                     });
    }
    if (is_packed(dtype_)) {
      const int bits = bits_of(dtype_);
      for (int64_t i = 0; i < x.size(); ++i) {
        set_packed(y.raw(), bits, i, static_cast<uint8_t>(patterns[i] & ((1 << bits) - 1)));
      }
    }
  }

 private:
  void quantize(const Tensor& x, int64_t first, int64_t count, Affine affine,
                uint8_t* patterns) const {
    const int bytes = std::max(1, bits_of(dtype_) / 8);
    const bool direct = x.dtype() == DType::float32 && precision_ == DType::float32;
    if (direct && type_.integer) {
      rows_.quantize({x.data<float>() + first, affine, type_.low, type_.high, bytes,
                      patterns + first * bytes, count});
      return;
    }
    float values[chunk], ones[1] = {1};
    for (int64_t i = 0; i < count; i += chunk) {
      const int64_t n = std::min(chunk, count - i);
      Affine part = affine;
      if (affine.each) {
        part.scale += i;
        if (part.zero != nullptr) part.zero += i;
      }
      divide(x, first + i, n, part, values);
      uint8_t* to = patterns + (first + i) * bytes;
      if (!type_.integer) {
        encode(values, n, part, to);
        continue;
      }
      // What is left is to add the zero point, round and clamp.
      float scales[chunk];
      if (part.each) std::fill_n(scales, n, 1.0f);
      part.scale = part.each ? scales : ones;
      rows_.quantize({values, part, type_.low, type_.high, bytes, to, n});
    }
  }

  // The quotients in the precision that is asked for.
  void divide(const Tensor& x, int64_t first, int64_t n, const Affine& affine,
              float* values) const {
    if (precision_ == DType::int32 && x.dtype() == DType::int32) {
      const int32_t* from = x.data<int32_t>() + first;
      for (int64_t i = 0; i < n; ++i) {
        const double scale = static_cast<double>(affine.scale[affine.each ? i : 0]);
        values[i] = static_cast<float>(std::nearbyint(from[i] / scale));
      }
      return;
    }
    to_floats(x, first, n, values);
    const bool narrow = precision_ == DType::float16 || precision_ == DType::bfloat16;
    if (narrow) round_to_precision(values, n);
    float scales[chunk];
    for (int64_t i = 0; i < n; ++i) scales[i] = affine.scale[affine.each ? i : 0];
    if (narrow) round_to_precision(scales, n);
    for (int64_t i = 0; i < n; ++i) values[i] /= scales[i];
    if (narrow) round_to_precision(values, n);
  }

  void round_to_precision(float* values, int64_t n) const {
    std::byte rounded[chunk * 2];
    narrow_row(precision_, values, rounded, n);
    widen_row(precision_, rounded, values, n);
  }

  void encode(const float* values, int64_t n, const Affine& affine, uint8_t* to) const {
    for (int64_t i = 0; i < n; ++i) {
      float value = values[i];
      if (affine.zero != nullptr) value += affine.zero[affine.each ? i : 0];
      to[i] = encode_narrow(value, *type_.format, overflow_);
    }
  }

  DType dtype_;
  QuantizedType type_;
  DType precision_;
  int64_t axis_;
  int64_t block_size_;
  Overflow overflow_;
  const QuantizedRows& rows_ = quantized_rows();
};
BASCULE_KERNEL("QuantizeLinear", QuantizeLinear);

// Scale and zero point so that 0..255 span the values and zero.
class DynamicQuantizeLinear final : public Kernel {
 public:
  static Capability capability(const NodeSpec& node) {
    return require_dtype(node, 0, Types<float>{});
  }

  void run(RunContext& c) const override {
    const Tensor& x = c.input(0);
    const float* from = x.data<float>();
    float low = 0, high = 0;
    // Each thread finds the range of its part; how it is cut does not matter to a maximum.
    const int64_t parts = c.threads();
    float* ranges = c.workspace<float>(parts * 2);
    c.parallel_for(parts, static_cast<double>(x.size()) / static_cast<double>(parts) / 2,
                   [&](int64_t begin, int64_t end) {
                     for (int64_t part = begin; part < end; ++part) {
                       const int64_t first = x.size() * part / parts;
                       const int64_t last = x.size() * (part + 1) / parts;
                       ranges[2 * part] = ranges[2 * part + 1] = 0;
                       if (last > first) {
                         rows_.range_of(from + first, last - first, ranges + 2 * part,
                                        ranges + 2 * part + 1);
                       }
                     }
                   });
    for (int64_t part = 0; part < parts; ++part) {
      low = std::min(low, ranges[2 * part]);
      high = std::max(high, ranges[2 * part + 1]);
    }
    const float scale = high == low ? 1.0f : (high - low) / 255.0f;
    const float zero = std::nearbyint(std::clamp(-low / scale, 0.0f, 255.0f));
    auto* to = c.output(0, DType::uint8, x.shape()).data<uint8_t>();
    *c.output(1, DType::float32, {}).data<float>() = scale;
    *c.output(2, DType::uint8, {}).data<uint8_t>() = static_cast<uint8_t>(zero);
    c.parallel_for(x.size(), 1, [&](int64_t begin, int64_t end) {
      rows_.quantize({from + begin, {&scale, &zero, false}, 0, 255, 1, to + begin, end - begin});
    });
  }

 private:
  const QuantizedRows& rows_ = quantized_rows();
};
BASCULE_KERNEL("DynamicQuantizeLinear", DynamicQuantizeLinear);

}  // namespace
}  // namespace bascule
