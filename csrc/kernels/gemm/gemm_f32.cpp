// SPDX-License-Identifier: Apache-2.0
// instruction sets: base avx2 avx512
// The float32 matrix product micro-kernel, with every activation.
#include "kernels/gemm/few_rows.h"
#include "kernels/gemm/multiply_block.h"
#include "simd/activation.h"

namespace bascule::BASCULE_ISA {
namespace {

template <ActivationKind kind>
void activate_tile(float* c, int64_t stride, int64_t rows, int64_t columns, float alpha,
                   float beta) {
  for (int64_t r = 0; r < rows; ++r) {
    float* row = c + r * stride;
    for_vectors(columns, [&](int64_t i, int64_t count) {
      store(row + i, apply(kind, load(row + i, count, 0), alpha, beta), count);
    });
  }
}

using Activate = void (*)(float* c, int64_t stride, int64_t rows, int64_t columns, float alpha,
                          float beta);
Activate find_activation(ActivationKind kind) {
  switch (kind) {
    case ActivationKind::none:
    case ActivationKind::relu:
    case ActivationKind::clip:
      return nullptr;
    case ActivationKind::leaky_relu:
      return activate_tile<ActivationKind::leaky_relu>;
    case ActivationKind::gelu:
      return activate_tile<ActivationKind::gelu>;
    case ActivationKind::gelu_tanh:
      return activate_tile<ActivationKind::gelu_tanh>;
    case ActivationKind::sigmoid:
      return activate_tile<ActivationKind::sigmoid>;
    case ActivationKind::tanh:
      return activate_tile<ActivationKind::tanh>;
    case ActivationKind::swish:
      return activate_tile<ActivationKind::swish>;
    case ActivationKind::hard_swish:
      return activate_tile<ActivationKind::hard_swish>;
    case ActivationKind::hard_sigmoid:
      return activate_tile<ActivationKind::hard_sigmoid>;
    case ActivationKind::elu:
      return activate_tile<ActivationKind::elu>;
  }
  return nullptr;
}

void multiply_f32(const GemmBlock<float>& g) {
  has_few_rows(g) ? multiply_few_rows(g) : multiply_block(g);
}

}  // namespace

const GemmFunctions<float>& gemm_functions_f32() {
  static constexpr GemmFunctions<float> functions = {panel_width<float>, max_rows, multiply_f32,
                                                     find_activation, pack_columns<float>};
  return functions;
}
}  // namespace bascule::BASCULE_ISA

#if BASCULE_ONCE
#include "kernels/gemm/gemm.h"
#include "simd/isa.h"
namespace bascule {
BASCULE_PER_ISA(const GemmFunctions<float>& gemm_functions_f32());

template <>
const GemmFunctions<float>& gemm_functions<float>() {
  static const GemmFunctions<float>& functions = BASCULE_PICK(gemm_functions_f32)();
  return functions;
}
}  // namespace bascule
#endif
