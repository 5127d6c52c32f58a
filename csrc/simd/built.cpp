// SPDX-License-Identifier: Apache-2.0
#include "simd/built.h"

namespace bascule {

std::vector<std::string> built_isas() {
  return {
      "base",
#if defined(__x86_64__) || defined(_M_X64)
      "avx2",        "avx512", "avx512_vnni",
#endif
#if BASCULE_WITH_AVX512_BF16
      "avx512_bf16",
#endif
#if BASCULE_WITH_AVX512_FP16
      "avx512_fp16",
#endif
#if BASCULE_WITH_AVX512_AMX
      "avx512_amx",
#endif
  };
}

}  // namespace bascule
