// SPDX-License-Identifier: Apache-2.0
// Comparisons and the logical operators: results are bool.
#include "kernels/elementwise/elementwise.h"

namespace bascule {
namespace {

template <class T, auto function>
constexpr TileFunction test = map_binary<T, bool, function>;

template <class T>
TileFunction ordering(const std::string& name) {
  const NamedFunction functions[] = {
      {"Equal", test<T, [](T a, T b) { return a == b; }>},
      {"Less", test<T, [](T a, T b) { return a < b; }>},
      {"LessOrEqual", test<T, [](T a, T b) { return a <= b; }>},
      {"Greater", test<T, [](T a, T b) { return b < a; }>},
      {"GreaterOrEqual", test<T, [](T a, T b) { return b <= a; }>},
  };
  return find(functions, name);
}

// Bytes that are not zero are true.
const NamedFunction logical_functions[] = {
    {"Equal", test<uint8_t, [](uint8_t a, uint8_t b) { return (a != 0) == (b != 0); }>},
    {"And", test<uint8_t, [](uint8_t a, uint8_t b) { return (a != 0) & (b != 0); }>},
    {"Or", test<uint8_t, [](uint8_t a, uint8_t b) { return (a | b) != 0; }>},
    {"Xor", test<uint8_t, [](uint8_t a, uint8_t b) { return (a != 0) != (b != 0); }>},
};

std::string resolve_compare(const NodeSpec& node, ElementwiseOp& op) {
  const DType dtype = node.dtype();
  const std::string& name = node.op_type;
  op.output = DType::boolean;
  op.tile.operands = 2;
  if (dtype == DType::boolean) {
    op.tile.run = find(logical_functions, name);
  } else if (dtype == DType::float16 || dtype == DType::bfloat16) {
    op.tile.run = ordering<float>(name);
    if (op.tile.run != nullptr) widen_operation(op.tile, dtype, true);
  } else {
    using Compared = Types<float, double, int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t,
                           uint32_t, uint64_t>;
    visit(Compared{}, dtype,
          [&](auto tag) { op.tile.run = ordering<typename decltype(tag)::type>(name); });
  }
  return require_function(op, dtype);
}

std::string resolve_not(const NodeSpec& node, ElementwiseOp& op) {
  op.output = DType::boolean;
  op.tile.operands = 1;
  if (node.dtype() == DType::boolean) {
    op.tile.run = map_unary<uint8_t, bool, [](uint8_t x, const TileOp&) { return x == 0; }>;
  }
  return require_function(op, node.dtype());
}

BASCULE_ELEMENTWISE("Equal", resolve_compare);
BASCULE_ELEMENTWISE("Less", resolve_compare);
BASCULE_ELEMENTWISE("LessOrEqual", resolve_compare);
BASCULE_ELEMENTWISE("Greater", resolve_compare);
BASCULE_ELEMENTWISE("GreaterOrEqual", resolve_compare);
BASCULE_ELEMENTWISE("And", resolve_compare, InPlace{0, 0}, InPlace{1, 0});
BASCULE_ELEMENTWISE("Or", resolve_compare, InPlace{0, 0}, InPlace{1, 0});
BASCULE_ELEMENTWISE("Xor", resolve_compare, InPlace{0, 0}, InPlace{1, 0});
BASCULE_ELEMENTWISE("Not", resolve_not, InPlace{0, 0});

}  // namespace
}  // namespace bascule
