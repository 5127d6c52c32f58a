// SPDX-License-Identifier: Apache-2.0
#include "simd/cpu_model.h"

#if defined(__x86_64__)
#include <cpuid.h>

#include <cstring>
#endif

namespace bascule {

std::string cpu_model() {
#if defined(__x86_64__)
  constexpr unsigned first = 0x80000002, last = 0x80000004;
  char name[3 * 16 + 1] = {};
  if (__get_cpuid_max(0x80000000, nullptr) < last) return "";
  for (unsigned leaf = first; leaf <= last; ++leaf) {
    unsigned words[4];
    if (__get_cpuid(leaf, &words[0], &words[1], &words[2], &words[3]) == 0) return "";
    std::memcpy(name + (leaf - first) * 16, words, sizeof(words));
  }
  return name;
#else
  return "";
#endif
}

}  // namespace bascule
