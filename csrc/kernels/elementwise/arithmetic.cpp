// SPDX-License-Identifier: Apache-2.0
// Add, Sub, Mul, Div, Max, Min, PRelu, Mod, BitShift and the bitwise operators; Sum and Mean of two
// operands. Integers wrap around; division by zero gives zero instead of ending the process.
#include <cmath>
#include <type_traits>

#include "kernels/elementwise/elementwise.h"

namespace bascule {

BASCULE_PER_ISA(bool float32_binary(const char* name, TileOp& op));

namespace {

template <class T, auto function>
constexpr TileFunction on = map_binary<T, T, function>;

// Python's modulo: the sign of the divisor.
template <class T>
T modulo(T a, T b) {
  if constexpr (std::is_floating_point_v<T>) {
    T rest = std::fmod(a, b);
    if (rest == 0) return std::copysign(T{0}, b);
    return (rest < 0) != (b < 0) ? rest + b : rest;
  } else {
    if (b == 0 || b == T(-1)) return std::is_signed_v<T> || b == 0 ? T{0} : T(a % b);
    const T rest = static_cast<T>(a % b);
    return rest != 0 && (rest < 0) != (b < 0) ? static_cast<T>(rest + b) : rest;
  }
}

// C's remainder: the sign of the dividend.
template <class T>
T remainder(T a, T b) {
  if constexpr (std::is_floating_point_v<T>) {
    return std::fmod(a, b);
  } else {
    if (b == 0) return T{0};
    if (std::is_signed_v<T> && b == T(-1)) return T{0};
    return static_cast<T>(a % b);
  }
}

template <class T>
T quotient(T a, T b) {
  if (b == 0) return T{0};
  if (std::is_signed_v<T> && b == T(-1)) {
    return static_cast<T>(std::make_unsigned_t<T>{0} - static_cast<std::make_unsigned_t<T>>(a));
  }
  return static_cast<T>(a / b);
}

template <class T>
T shift_left(T x, T by) {
  constexpr int bits = 8 * sizeof(T);
  if (by < 0 || by >= T(bits)) return T{0};
  return static_cast<T>(static_cast<std::make_unsigned_t<T>>(x) << by);
}
template <class T>
T shift_right(T x, T by) {
  constexpr int bits = 8 * sizeof(T);
  if (by < 0 || by >= T(bits)) return x < 0 ? T(-1) : T{0};
  return static_cast<T>(x >> by);
}

template <class T>
T larger(T a, T b) {
  return a > b || a != a ? a : b;
}
template <class T>
T smaller(T a, T b) {
  return a < b || a != a ? a : b;
}

template <class T>
TileFunction integer_function(const std::string& name) {
  using U = std::make_unsigned_t<T>;
  const NamedFunction functions[] = {
      {"Add", on<U, [](U a, U b) { return U(a + b); }>},
      {"Sub", on<U, [](U a, U b) { return U(a - b); }>},
      {"Mul", on<U, [](U a, U b) { return U(uint64_t{a} * b); }>},
      {"Div", on<T, quotient<T>>},
      {"Max", on<T, larger<T>>},
      {"Min", on<T, smaller<T>>},
      {"PRelu", on<T, [](T a, T b) { return a < 0 ? T(U(uint64_t(a) * uint64_t(b))) : a; }>},
      {"Mod", on<T, modulo<T>>},
      {"Remainder", on<T, remainder<T>>},
      {"ShiftLeft", on<T, shift_left<T>>},
      {"ShiftRight", on<T, shift_right<T>>},
      {"BitwiseAnd", on<U, [](U a, U b) { return U(a & b); }>},
      {"BitwiseOr", on<U, [](U a, U b) { return U(a | b); }>},
      {"BitwiseXor", on<U, [](U a, U b) { return U(a ^ b); }>},
  };
  return find(functions, name);
}

const NamedFunction double_functions[] = {
    {"Add", on<double, [](double a, double b) { return a + b; }>},
    {"Sum", on<double, [](double a, double b) { return a + b; }>},
    {"Mean", on<double, [](double a, double b) { return (a + b) * 0.5; }>},
    {"Sub", on<double, [](double a, double b) { return a - b; }>},
    {"Mul", on<double, [](double a, double b) { return a * b; }>},
    {"Div", on<double, [](double a, double b) { return a / b; }>},
    {"Max", on<double, larger<double>>},
    {"Min", on<double, smaller<double>>},
    {"PRelu", on<double, [](double a, double b) { return a < 0 ? a * b : a; }>},
    {"Mod", on<double, modulo<double>>},
    {"Remainder", on<double, remainder<double>>},
};

std::string resolve_arithmetic(const NodeSpec& node, ElementwiseOp& op) {
  if (node.inputs.size() != 2) return "it has not two operands";
  std::string name = node.op_type;
  if (name == "Mod" && node.get_int("fmod", 0) != 0) name = "Remainder";
  if (name == "BitShift") {
    const std::string direction = node.get_string("direction", "");
    if (direction != "LEFT" && direction != "RIGHT") {
      return "direction='" + direction + "' is neither LEFT nor RIGHT";
    }
    name = direction == "LEFT" ? "ShiftLeft" : "ShiftRight";
  }
  op.output = node.dtype();
  op.tile.operands = 2;
  op.cost = name == "Mod" || name == "Remainder" ? 16 : 1;
  switch (node.dtype()) {
    case DType::float64:
      op.tile.run = find(double_functions, name);
      break;
    case DType::float32:
    case DType::float16:
    case DType::bfloat16:
      if (name == "Mod") {
        op.tile.run = on<float, modulo<float>>;
      } else if (name == "Remainder") {
        op.tile.run = on<float, remainder<float>>;
      } else if (!BASCULE_PICK(float32_binary)(name.c_str(), op.tile)) {
        break;
      }
      if (node.dtype() != DType::float32) widen_operation(op.tile, node.dtype());
      break;
    default:
      visit(IntegerTypes{}, node.dtype(),
            [&](auto tag) { op.tile.run = integer_function<typename decltype(tag)::type>(name); });
  }
  return require_function(op, node.dtype());
}

std::string resolve_bitwise_not(const NodeSpec& node, ElementwiseOp& op) {
  op.output = node.dtype();
  op.tile.operands = 1;
  visit(IntegerTypes{}, node.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    op.tile.run = map_unary<T, T, [](T x, const TileOp&) { return static_cast<T>(~x); }>;
  });
  return require_function(op, node.dtype());
}

#define BASCULE_ARITHMETIC(op_type) \
  BASCULE_ELEMENTWISE(op_type, resolve_arithmetic, InPlace{0, 0}, InPlace{1, 0})
BASCULE_ARITHMETIC("Add");
BASCULE_ARITHMETIC("Sub");
BASCULE_ARITHMETIC("Mul");
BASCULE_ARITHMETIC("Div");
BASCULE_ARITHMETIC("Max");
BASCULE_ARITHMETIC("Min");
BASCULE_ARITHMETIC("Sum");
BASCULE_ARITHMETIC("Mean");
BASCULE_ARITHMETIC("PRelu");
BASCULE_ARITHMETIC("Mod");
BASCULE_ARITHMETIC("BitShift");
BASCULE_ARITHMETIC("BitwiseAnd");
BASCULE_ARITHMETIC("BitwiseOr");
BASCULE_ARITHMETIC("BitwiseXor");
BASCULE_ELEMENTWISE("BitwiseNot", resolve_bitwise_not, InPlace{0, 0});

}  // namespace
}  // namespace bascule
