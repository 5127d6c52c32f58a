// SPDX-License-Identifier: Apache-2.0
// Mutexes that the child of a fork() finds free, whatever other threads did at that moment.
#pragma once

#include <mutex>

namespace bascule {

enum class ForkSafe { pool_creation, affinities, buffers, mappings, random };

// The process's mutex for one purpose. fork() waits until nobody holds any of these: their holders
// take no other one of them that comes before it in this list, and do not fork.
std::mutex& fork_safe_mutex(ForkSafe purpose);

// One of a few for the objects of a kind, picked by address.
std::mutex& fork_safe_mutex(const void* object);

// Calls `act` in every child from now on, while the mutexes are held.
void after_fork_in_child(void (*act)());

}  // namespace bascule
