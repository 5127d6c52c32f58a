// SPDX-License-Identifier: Apache-2.0
#include "simd/caches.h"

#if defined(__unix__)
#include <unistd.h>
#endif

namespace bascule {

int64_t second_cache_bytes() {
#if defined(_SC_LEVEL2_CACHE_SIZE)
  static const int64_t bytes = [] {
    const int64_t found = sysconf(_SC_LEVEL2_CACHE_SIZE);
    return found > 0 ? found : 0;
  }();
  return bytes;
#else
  return 0;
#endif
}

}  // namespace bascule
