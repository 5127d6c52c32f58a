// SPDX-License-Identifier: Apache-2.0
// How large the caches are.
#pragma once

#include <cstdint>

namespace bascule {

// Bytes of a core's second cache; 0 where the system does not tell.
int64_t second_cache_bytes();

}  // namespace bascule
