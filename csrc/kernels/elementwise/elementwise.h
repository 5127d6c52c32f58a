// SPDX-License-Identifier: Apache-2.0
// Elementwise operators: a table of how each one, for given types and attributes, is a tile
// function, and the kernel that runs any of them with NumPy's broadcasting.
#pragma once

#include <string>

#include "kernels/elementwise/tile.h"
#include "runtime/kernel.h"

namespace bascule {

// An elementwise operation ready to run.
struct ElementwiseOp {
  TileOp tile;
  DType output = DType::undefined;
  double cost = 1;          // of one element, in simple operations
  bool has_bounds = false;  // operands 1 and 2 are one element each, like the bounds of Clip
};

// Fills in the operation of a node, from types and attributes. Returns the empty string, or why
// there is none.
using ElementwiseResolver = std::string (*)(const NodeSpec& node, ElementwiseOp& op);

// Finds the resolver of the node's operator and asks it.
std::string resolve_elementwise(const NodeSpec& node, ElementwiseOp& op);

bool register_elementwise(const char* op_type, ElementwiseResolver resolver);

// Runs op on operands that broadcast against each other and writes output 0.
void run_elementwise(RunContext& c, const ElementwiseOp& op, const Tensor* const* operands);

// The operator with one to three required operands.
class Elementwise final : public Kernel {
 public:
  static Capability capability(const NodeSpec& node);
  explicit Elementwise(const NodeSpec& node);
  void run(RunContext& c) const override;

 private:
  ElementwiseOp op_;
};

// BASCULE_ELEMENTWISE("Add", resolve_arithmetic, InPlace{0, 0}, InPlace{1, 0});
#define BASCULE_ELEMENTWISE(op_type, resolver, ...)                         \
  [[maybe_unused]] static const bool BASCULE_JOIN(resolver_, __COUNTER__) = \
      ::bascule::register_elementwise(op_type, resolver);                   \
  BASCULE_KERNEL(op_type, ::bascule::Elementwise, __VA_ARGS__)

// The functions for 16-bit floats of the instruction set in use.
const HalfFunctions& half_functions_of(DType dtype);

// Turns a float32 operation into the one for float16 or bfloat16.
void widen_operation(TileOp& op, DType dtype, bool result_is_bool = false);

// A table of functions for one type, by operator name.
struct NamedFunction {
  const char* name;
  TileFunction function;
};

// The function called `name`, or null.
template <size_t count>
TileFunction find(const NamedFunction (&table)[count], const std::string& name) {
  for (const NamedFunction& entry : table) {
    if (name == entry.name) return entry.function;
  }
  return nullptr;
}

// "type X is not supported" if op has no function, else nothing.
inline std::string require_function(const ElementwiseOp& op, DType dtype) {
  if (op.tile.run != nullptr) return "";
  return std::string("type ") + name_of(dtype) + " is not supported";
}

// Loops over two typed operands. The pragma says that in-place operands (equal pointers) do not
// stand against vectorizing.
template <class In, class Out, auto function>
void map_unary(const TileOp& op, const void* a, const void*, const void*, void* y, int64_t n) {
  const In* x = static_cast<const In*>(a);
  Out* out = static_cast<Out*>(y);
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) out[i] = static_cast<Out>(function(x[i], op));
}
template <class In, class Out, auto function>
void map_binary(const TileOp&, const void* a, const void* b, const void*, void* y, int64_t n) {
  const In* left = static_cast<const In*>(a);
  const In* right = static_cast<const In*>(b);
  Out* out = static_cast<Out*>(y);
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) out[i] = static_cast<Out>(function(left[i], right[i]));
}

}  // namespace bascule
