// SPDX-License-Identifier: Apache-2.0
// instruction sets: base avx2 avx512
// The float64 matrix product micro-kernel. Of the activations only Relu and Clip, by clamping.
#include "kernels/gemm/multiply_block.h"

namespace bascule::BASCULE_ISA {
namespace {
using Activate = void (*)(double* c, int64_t stride, int64_t rows, int64_t columns, float alpha,
                          float beta);
Activate no_activation(ActivationKind) { return nullptr; }
}  // namespace

const GemmFunctions<double>& gemm_functions_f64() {
  static constexpr GemmFunctions<double> functions = {
      panel_width<double>, max_rows, multiply_block<double>, no_activation, pack_columns<double>};
  return functions;
}
}  // namespace bascule::BASCULE_ISA

#if BASCULE_ONCE
#include "kernels/gemm/gemm.h"
#include "simd/isa.h"
namespace bascule {
BASCULE_PER_ISA(const GemmFunctions<double>& gemm_functions_f64());

template <>
const GemmFunctions<double>& gemm_functions<double>() {
  static const GemmFunctions<double>& functions = BASCULE_PICK(gemm_functions_f64)();
  return functions;
}
}  // namespace bascule
#endif
