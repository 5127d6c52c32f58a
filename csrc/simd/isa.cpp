// SPDX-License-Identifier: Apache-2.0
#include "simd/isa.h"

#include <cstdlib>
#include <cstring>

namespace bascule {

namespace {

constexpr const char* isa_names[] = {"base", "avx2", "avx512", "avx512_vnni", "avx512_fp16"};

Isa detect() {
#if defined(__x86_64__) || defined(_M_X64)
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") ||
      !__builtin_cpu_supports("f16c")) {
    return Isa::base;
  }
  if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
      !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl")) {
    return Isa::avx2;
  }
  if (!__builtin_cpu_supports("avx512vnni")) return Isa::avx512;
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12
  if (__builtin_cpu_supports("avx512fp16")) return Isa::avx512_fp16;
#endif
  return Isa::avx512_vnni;
#else
  return Isa::base;
#endif
}

Isa choose() {
  const Isa best = detected_isa();
  const char* wanted = std::getenv("BASCULE_ISA");
  if (wanted == nullptr || *wanted == '\0') return best;
  if (std::strcmp(wanted, "baseline") == 0) return Isa::base;
  for (int i = 0; i <= static_cast<int>(best); ++i) {
    if (std::strcmp(wanted, isa_names[i]) == 0) return static_cast<Isa>(i);
  }
  return best;
}

}  // namespace

Isa detected_isa() {
  static const Isa isa = detect();
  return isa;
}

Isa active_isa() {
  static const Isa isa = choose();
  return isa;
}

const char* name_of(Isa isa) { return isa_names[static_cast<int>(isa)]; }

}  // namespace bascule
