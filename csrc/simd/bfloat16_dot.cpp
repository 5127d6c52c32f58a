// SPDX-License-Identifier: Apache-2.0
#include "simd/bfloat16_dot.h"

#include "simd/isa.h"

namespace bascule {

bool has_fast_bfloat16_dot() {
#if defined(__x86_64__)
  static const bool has = [] {
    __builtin_cpu_init();
    return active_isa() >= Isa::avx512_vnni && active_isa() == detected_isa() &&
           __builtin_cpu_supports("avx512bf16") && __builtin_cpu_is("amd");
  }();
  return has;
#else
  return false;
#endif
}

}  // namespace bascule
