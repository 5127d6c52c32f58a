// SPDX-License-Identifier: Apache-2.0
// instruction sets: base avx2 avx512
// Elementwise functions of two or three float32 operands.
#include "kernels/elementwise/tile.h"
#include "simd/activation.h"

namespace bascule::BASCULE_ISA {
namespace {

// Operands a and b are vectors, or a single element each.
template <class Function, bool a_single, bool b_single>
void map(const TileOp&, const void* a, const void* b, const void*, void* y, int64_t n) {
  const float* left = static_cast<const float*>(a);
  const float* right = static_cast<const float*>(b);
  float* out = static_cast<float*>(y);
  const F32 one_left = set(a_single ? *left : 0), one_right = set(b_single ? *right : 0);
  for_vectors(n, [&](int64_t i, int64_t count) {
    const F32 l = a_single ? one_left : load(left + i, count, 1);
    const F32 r = b_single ? one_right : load(right + i, count, 1);
    store(out + i, Function::apply(l, r), count);
  });
}

#define BASCULE_FUNCTION(Name, ...)                                \
  struct Name {                                                    \
    BASCULE_INLINE F32 apply(F32 a, F32 b) { return __VA_ARGS__; } \
  }
BASCULE_FUNCTION(Add, a + b);
BASCULE_FUNCTION(Sub, a - b);
BASCULE_FUNCTION(Mul, a* b);
BASCULE_FUNCTION(Div, a / b);
BASCULE_FUNCTION(Max, max(a, b));
BASCULE_FUNCTION(Min, min(a, b));
BASCULE_FUNCTION(Mean, (a + b) * 0.5f);
BASCULE_FUNCTION(PRelu, a < 0.0f ? a * b : a);

// b and c are one element each: the bounds.
void clip_to_bounds(const TileOp&, const void* a, const void* b, const void* c, void* y,
                    int64_t n) {
  const float* x = static_cast<const float*>(a);
  const float least = *static_cast<const float*>(b), largest = *static_cast<const float*>(c);
  float* out = static_cast<float*>(y);
  for_vectors(n, [&](int64_t i, int64_t count) {
    store(out + i, clip(load(x + i, count, 0), least, largest), count);
  });
}

template <class Function>
bool fill(const char* name, const char* wanted, TileOp& op) {
  if (__builtin_strcmp(name, wanted) != 0) return false;
  op.run = map<Function, false, false>;
  op.run_a_single = map<Function, true, false>;
  op.run_b_single = map<Function, false, true>;
  op.operands = 2;
  return true;
}

}  // namespace

// Sets the functions of `op` to those of operator `name`; false if it has none.
bool float32_binary(const char* name, TileOp& op) {
  if (__builtin_strcmp(name, "Clip") == 0) {
    op.run = clip_to_bounds;
    op.operands = 3;
    return true;
  }
  return fill<Add>(name, "Add", op) || fill<Sub>(name, "Sub", op) || fill<Mul>(name, "Mul", op) ||
         fill<Div>(name, "Div", op) || fill<Max>(name, "Max", op) || fill<Min>(name, "Min", op) ||
         fill<Add>(name, "Sum", op) || fill<Mean>(name, "Mean", op) ||
         fill<PRelu>(name, "PRelu", op);
}

}  // namespace bascule::BASCULE_ISA
