// SPDX-License-Identifier: Apache-2.0
// Instruction-set levels: which this CPU has, and picking a function compiled for the best one.
//
// A kernel file whose first lines say "// instruction sets: base avx2 avx512" is compiled once for
// each of them, with BASCULE_ISA naming the namespace. What stands under `#if BASCULE_ONCE` is
// compiled once, for the baseline. Above it only simd/vec.h may be included, and every function
// lives in namespace bascule::BASCULE_ISA, so that no code compiled for a newer CPU can be linked
// into what an older one runs.
#pragma once

#include <cstdint>

namespace bascule {

enum class Isa : uint8_t { base, avx2, avx512, avx512_vnni, avx512_fp16 };

// The level in use: the CPU's best, or what BASCULE_ISA in the environment lowers it to.
Isa active_isa();
const char* name_of(Isa isa);
// The best level of this CPU, whatever the environment says.
Isa detected_isa();

// The last of `functions` (base, avx2, ... in rising order) that the active level allows.
template <class F, class... More>
F pick(F base, More... better) {
  F table[] = {base, better...};
  const int best = static_cast<int>(active_isa());
  const int last = static_cast<int>(sizeof...(More));
  return table[best < last ? best : last];
}

#if defined(__x86_64__) || defined(_M_X64)
// Declares a function that the same file defines in each of its instruction-set namespaces.
#define BASCULE_PER_ISA(...) \
  namespace base {           \
  __VA_ARGS__;               \
  }                          \
  namespace avx2 {           \
  __VA_ARGS__;               \
  }                          \
  namespace avx512 {         \
  __VA_ARGS__;               \
  }
#define BASCULE_PICK(function) ::bascule::pick(&base::function, &avx2::function, &avx512::function)
// For files that are also compiled for avx512_vnni.
#define BASCULE_PER_ISA_VNNI(...) \
  BASCULE_PER_ISA(__VA_ARGS__)    \
  namespace avx512_vnni {         \
  __VA_ARGS__;                    \
  }
#define BASCULE_PICK_VNNI(function) \
  ::bascule::pick(&base::function, &avx2::function, &avx512::function, &avx512_vnni::function)
#else
#define BASCULE_PER_ISA(...) \
  namespace base {           \
  __VA_ARGS__;               \
  }
#define BASCULE_PICK(function) ::bascule::pick(&base::function)
#define BASCULE_PER_ISA_VNNI(...) BASCULE_PER_ISA(__VA_ARGS__)
#define BASCULE_PICK_VNNI(function) BASCULE_PICK(function)
#endif

}  // namespace bascule
