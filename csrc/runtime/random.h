// SPDX-License-Identifier: Apache-2.0
// The process-wide seed of the random operators that have no `seed` attribute.
#pragma once

#include <cstdint>

namespace bascule {

// Every model compiled from now on draws the same numbers as after an equal call. Without one the
// seed comes from the system.
void set_random_seed(uint64_t seed);

// A key for one generator; no two calls give the same.
uint64_t next_random_key();

}  // namespace bascule
