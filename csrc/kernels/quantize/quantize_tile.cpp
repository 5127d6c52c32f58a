// SPDX-License-Identifier: Apache-2.0
// QuantizeLinear and DequantizeLinear of bytes, with one scale, in fused elementwise chains.
#include "kernels/elementwise/elementwise.h"
#include "kernels/quantize/number.h"
#include "kernels/quantize/row_functions.h"

namespace bascule {
namespace {

using Bytes = Types<int8_t, uint8_t>;

enum Input : size_t { input_x, input_scale, input_zero };

// Scale and zero point are one element each.
template <class T>
void dequantize(const TileOp&, const void* x, const void* scale, const void* zero, void* y,
                int64_t n) {
  const auto source = dtype_of<T> == DType::int8 ? QuantizedSource::i8 : QuantizedSource::u8;
  const auto moved = static_cast<float>(*static_cast<const T*>(zero));
  const Affine affine{static_cast<const float*>(scale), &moved, false};
  quantized_rows().dequantize({x, source, affine, static_cast<float*>(y), n});
}

template <class T>
void quantize(const TileOp&, const void* x, const void* scale, const void* zero, void* y,
              int64_t n) {
  static const QuantizedType type = quantized_type(dtype_of<T>);
  const auto moved = static_cast<float>(*static_cast<const T*>(zero));
  const Affine affine{static_cast<const float*>(scale), &moved, false};
  quantized_rows().quantize({static_cast<const float*>(x), affine, type.low, type.high, 1, y, n});
}

// Of what fuse_elementwise takes in; other forms have kernels of their own.
std::string resolve(const NodeSpec& node, ElementwiseOp& op) {
  const bool to_bytes = node.op_type == "QuantizeLinear";
  if (!node.has_input(input_zero)) return "there is no zero point";
  for (const char* name : {"block_size", "output_dtype", "precision"}) {
    if (node.get_int(name, 0) != 0) return std::string("attribute '") + name + "' is set";
  }
  const DType bytes = node.dtype(input_zero);
  if (node.dtype(input_scale) != DType::float32) return "the scale is not float32";
  if (node.dtype(input_x) != (to_bytes ? DType::float32 : bytes)) return "the types differ";
  op.tile.operands = 3;
  op.has_bounds = true;
  op.output = to_bytes ? bytes : DType::float32;
  visit(Bytes{}, bytes, [&](auto tag) {
    using T = typename decltype(tag)::type;
    op.tile.run = to_bytes ? quantize<T> : dequantize<T>;
  });
  return require_function(op, bytes);
}

[[maybe_unused]] const bool registered = register_elementwise("QuantizeLinear", resolve) &&
                                         register_elementwise("DequantizeLinear", resolve);

}  // namespace
}  // namespace bascule
