// SPDX-License-Identifier: Apache-2.0
// Elementwise operators of one operand. float32 runs on vectors where there is a vector function,
// 16-bit floats go through float32, float64 (and the rarer functions) use the C library.
#include <cmath>
#include <cstring>
#include <type_traits>

#include "kernels/elementwise/elementwise.h"

namespace bascule {

BASCULE_PER_ISA(TileFunction float32_unary(const char* name));

namespace {

template <auto function>
constexpr TileFunction on_double = map_unary<double, double, function>;
template <auto function>
constexpr TileFunction on_float = map_unary<float, float, function>;

double sigmoid(double x) {
  const double e = std::exp(-std::fabs(x));
  return x >= 0 ? 1 / (1 + e) : e / (1 + e);
}
double softplus(double x) { return (x < 0 ? 0 : x) + std::log1p(std::exp(-std::fabs(x))); }
double clamp(double x, double least, double largest) {
  return x < least ? least : x > largest ? largest : x;
}
double hard_sigmoid(double x, double alpha, double beta) { return clamp(x * alpha + beta, 0, 1); }
double elu(double x, double alpha) { return x < 0 ? alpha * std::expm1(x) : x; }

using P = const TileOp&;

const NamedFunction double_functions[] = {
    {"Abs", on_double<[](double x, P) { return std::fabs(x); }>},
    {"Neg", on_double<[](double x, P) { return -x; }>},
    {"Sign", on_double<[](double x, P) { return 0 < x   ? 1.0
                                                : x < 0 ? -1.0
                                                        : x; }>},
    {"Ceil", on_double<[](double x, P) { return std::ceil(x); }>},
    {"Floor", on_double<[](double x, P) { return std::floor(x); }>},
    {"Round", on_double<[](double x, P) { return std::nearbyint(x); }>},
    {"Sqrt", on_double<[](double x, P) { return std::sqrt(x); }>},
    {"Reciprocal", on_double<[](double x, P) { return 1 / x; }>},
    {"Exp", on_double<[](double x, P) { return std::exp(x); }>},
    {"Log", on_double<[](double x, P) { return std::log(x); }>},
    {"Sin", on_double<[](double x, P) { return std::sin(x); }>},
    {"Cos", on_double<[](double x, P) { return std::cos(x); }>},
    {"Tan", on_double<[](double x, P) { return std::tan(x); }>},
    {"Asin", on_double<[](double x, P) { return std::asin(x); }>},
    {"Acos", on_double<[](double x, P) { return std::acos(x); }>},
    {"Atan", on_double<[](double x, P) { return std::atan(x); }>},
    {"Sinh", on_double<[](double x, P) { return std::sinh(x); }>},
    {"Cosh", on_double<[](double x, P) { return std::cosh(x); }>},
    {"Tanh", on_double<[](double x, P) { return std::tanh(x); }>},
    {"Asinh", on_double<[](double x, P) { return std::asinh(x); }>},
    {"Acosh", on_double<[](double x, P) { return std::acosh(x); }>},
    {"Atanh", on_double<[](double x, P) { return std::atanh(x); }>},
    {"Erf", on_double<[](double x, P) { return std::erf(x); }>},
    {"Sigmoid", on_double<[](double x, P) { return sigmoid(x); }>},
    {"Softplus", on_double<[](double x, P) { return softplus(x); }>},
    {"Softsign", on_double<[](double x, P) { return x / (1 + std::fabs(x)); }>},
    {"Relu", on_double<[](double x, P) { return x < 0 ? 0 : x; }>},
    {"LeakyRelu", on_double<[](double x, P p) { return x < 0 ? x * p.alpha : x; }>},
    {"Elu", on_double<[](double x, P p) { return elu(x, p.alpha); }>},
    {"Selu", on_double<[](double x, P p) { return elu(x, p.alpha) * p.beta; }>},
    {"Celu",
     on_double<[](double x, P p) { return x < 0 ? p.alpha * std::expm1(x / p.alpha) : x; }>},
    {"ThresholdedRelu", on_double<[](double x, P p) { return p.alpha < x ? x : 0; }>},
    {"HardSigmoid", on_double<[](double x, P p) { return hard_sigmoid(x, p.alpha, p.beta); }>},
    {"HardSwish", on_double<[](double x, P) { return x * hard_sigmoid(x, 1.0 / 6, 0.5); }>},
    {"Gelu", on_double<[](double x, P) { return 0.5 * x * (1 + std::erf(x * M_SQRT1_2)); }>},
    {"GeluTanh", on_double<[](double x, P) {
       return 0.5 * x * (1 + std::tanh(std::sqrt(M_2_PI) * (x + 0.044715 * x * x * x)));
     }>},
    {"Swish", on_double<[](double x, P p) { return x * sigmoid(x * p.alpha); }>},
    {"Mish", on_double<[](double x, P) { return x * std::tanh(softplus(x)); }>},
    {"Shrink", on_double<[](double x, P p) {
       return x < -p.alpha ? x + p.beta : p.alpha < x ? x - p.beta : 0;
     }>},
};

// The functions that have no vector form.
const NamedFunction float_functions[] = {
    {"Tan", on_float<[](float x, P) { return std::tan(x); }>},
    {"Sinh", on_float<[](float x, P) { return std::sinh(x); }>},
    {"Cosh", on_float<[](float x, P) { return std::cosh(x); }>},
    {"Asinh", on_float<[](float x, P) { return std::asinh(x); }>},
    {"Acosh", on_float<[](float x, P) { return std::acosh(x); }>},
    {"Atanh", on_float<[](float x, P) { return std::atanh(x); }>},
};

// x + by without its fraction; no float type holds all of x, so whole parts are added as integers.
template <class T>
T add_and_truncate(T x, float by) {
  using U = std::make_unsigned_t<T>;
  constexpr float limit = 0x1p62f;
  const float whole = std::trunc(!(by > -limit) ? -limit : by < limit ? by : limit);  // not NaN
  const float fraction = by - whole;
  const T sum = static_cast<T>(static_cast<U>(x) + static_cast<U>(static_cast<int64_t>(whole)));
  if (fraction < 0 && sum > 0) return static_cast<T>(sum - 1);
  if (fraction > 0 && sum < 0) return static_cast<T>(sum + 1);
  return sum;
}
template <class T>
T shrink(T x, P p) {
  const double wide = static_cast<double>(x), limit = p.alpha;
  if (wide < -limit) return add_and_truncate(x, p.beta);
  if (wide > limit) return add_and_truncate(x, -p.beta);
  return T{0};
}

template <class T>
TileFunction integer_function(const std::string& name) {
  using U = std::make_unsigned_t<T>;  // so that the smallest number wraps around
  const NamedFunction functions[] = {
      {"Abs", map_unary<T, T, [](T x, P) { return x < 0 ? T(U(0) - U(x)) : x; }>},
      {"Neg", map_unary<T, T, [](T x, P) { return T(U(0) - U(x)); }>},
      {"Sign", map_unary<T, T, [](T x, P) { return T((0 < x) - (x < 0)); }>},
      {"Relu", map_unary<T, T, [](T x, P) { return x < 0 ? T(0) : x; }>},
      {"Shrink", map_unary<T, T, shrink<T>>},
  };
  return find(functions, name);
}

struct Parameters {
  const char* op_type;
  const char* alpha;
  float alpha_default;
  const char* beta;
  float beta_default;
};
constexpr Parameters parameters[] = {
    {"LeakyRelu", "alpha", 0.01f, nullptr, 0},
    {"Elu", "alpha", 1, nullptr, 0},
    {"Selu", "alpha", 1.67326319217681884765625f, "gamma", 1.05070102214813232421875f},
    {"Celu", "alpha", 1, nullptr, 0},
    {"ThresholdedRelu", "alpha", 1, nullptr, 0},
    {"HardSigmoid", "alpha", 0.2f, "beta", 0.5f},
    {"Swish", "alpha", 1, nullptr, 0},
    {"Shrink", "lambd", 0.5f, "bias", 0},
};

std::string resolve_unary(const NodeSpec& node, ElementwiseOp& op) {
  std::string name = node.op_type;
  if (name == "Gelu") {
    const std::string form = node.get_string("approximate", "none");
    if (form == "tanh") {
      name = "GeluTanh";
    } else if (form != "none") {
      return "approximate='" + form + "' is neither 'none' nor 'tanh'";
    }
  }
  for (const Parameters& known : parameters) {
    if (name != known.op_type) continue;
    op.tile.alpha = node.get_float(known.alpha, known.alpha_default);
    if (known.beta != nullptr) op.tile.beta = node.get_float(known.beta, known.beta_default);
  }
  op.output = node.dtype();
  op.tile.operands = 1;
  op.cost = 4;
  switch (node.dtype()) {
    case DType::float64:
      op.tile.run = find(double_functions, name);
      op.cost = 16;
      break;
    case DType::float32:
    case DType::float16:
    case DType::bfloat16:
      op.tile.run = BASCULE_PICK(float32_unary)(name.c_str());
      if (op.tile.run == nullptr) {
        op.tile.run = find(float_functions, name);
        op.cost = 32;
      }
      if (op.tile.run != nullptr && node.dtype() != DType::float32) {
        widen_operation(op.tile, node.dtype());
      }
      break;
    default:
      visit(IntegerTypes{}, node.dtype(),
            [&](auto tag) { op.tile.run = integer_function<typename decltype(tag)::type>(name); });
      op.cost = 1;
  }
  return require_function(op, node.dtype());
}

struct NotANumber {
  template <class T>
  static bool test(T x, P) {
    return std::isnan(static_cast<float>(x));
  }
};

// alpha: whether +Inf counts, beta: whether -Inf does.
template <class T>
bool is_infinite(T x, P p) {
  const auto wide = static_cast<std::conditional_t<std::is_same_v<T, double>, double, float>>(x);
  return std::isinf(wide) && (wide > 0 ? p.alpha : p.beta) != 0;
}

using TestedTypes = Types<float, double, Float16, BFloat16, Float8E4M3FN, Float8E4M3FNUZ,
                          Float8E5M2, Float8E5M2FNUZ>;

std::string resolve_test(const NodeSpec& node, ElementwiseOp& op) {
  const bool nan = node.op_type == "IsNaN";
  op.output = DType::boolean;
  op.tile.operands = 1;
  op.tile.alpha = node.get_int("detect_positive", 1) != 0 ? 1.0f : 0.0f;
  op.tile.beta = node.get_int("detect_negative", 1) != 0 ? 1.0f : 0.0f;
  visit(TestedTypes{}, node.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    op.tile.run =
        nan ? map_unary<T, bool, NotANumber::test<T>> : map_unary<T, bool, is_infinite<T>>;
  });
  return require_function(op, node.dtype());
}

#define BASCULE_UNARY(op_type) BASCULE_ELEMENTWISE(op_type, resolve_unary, InPlace{0, 0})
BASCULE_UNARY("Abs");
BASCULE_UNARY("Neg");
BASCULE_UNARY("Sign");
BASCULE_UNARY("Ceil");
BASCULE_UNARY("Floor");
BASCULE_UNARY("Round");
BASCULE_UNARY("Sqrt");
BASCULE_UNARY("Reciprocal");
BASCULE_UNARY("Exp");
BASCULE_UNARY("Log");
BASCULE_UNARY("Sin");
BASCULE_UNARY("Cos");
BASCULE_UNARY("Tan");
BASCULE_UNARY("Asin");
BASCULE_UNARY("Acos");
BASCULE_UNARY("Atan");
BASCULE_UNARY("Sinh");
BASCULE_UNARY("Cosh");
BASCULE_UNARY("Tanh");
BASCULE_UNARY("Asinh");
BASCULE_UNARY("Acosh");
BASCULE_UNARY("Atanh");
BASCULE_UNARY("Erf");
BASCULE_UNARY("Sigmoid");
BASCULE_UNARY("Softplus");
BASCULE_UNARY("Softsign");
BASCULE_UNARY("Relu");
BASCULE_UNARY("LeakyRelu");
BASCULE_UNARY("Elu");
BASCULE_UNARY("Selu");
BASCULE_UNARY("Celu");
BASCULE_UNARY("ThresholdedRelu");
BASCULE_UNARY("HardSigmoid");
BASCULE_UNARY("HardSwish");
BASCULE_UNARY("Gelu");
BASCULE_UNARY("Swish");
BASCULE_UNARY("Mish");
BASCULE_UNARY("Shrink");
BASCULE_ELEMENTWISE("IsNaN", resolve_test);
BASCULE_ELEMENTWISE("IsInf", resolve_test);

}  // namespace
}  // namespace bascule
