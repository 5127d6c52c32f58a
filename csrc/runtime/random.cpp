// SPDX-License-Identifier: Apache-2.0
#include "runtime/random.h"

#include <mutex>
#include <random>

#include "core/fork_safety.h"

namespace bascule {

namespace {

struct Seed {
  std::mutex& mutex = fork_safe_mutex(ForkSafe::random);
  uint64_t seed;
  uint64_t taken = 0;
  Seed() {
    std::random_device device;
    seed = (static_cast<uint64_t>(device()) << 32) | device();
  }
};

Seed& process_seed() {
  static Seed seed;
  return seed;
}

// SplitMix64: neighbouring numbers become unrelated keys, different ones stay different.
uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

}  // namespace

void set_random_seed(uint64_t seed) {
  Seed& state = process_seed();
  const std::lock_guard<std::mutex> lock(state.mutex);
  state.seed = seed;
  state.taken = 0;
}

uint64_t next_random_key() {
  Seed& state = process_seed();
  const std::lock_guard<std::mutex> lock(state.mutex);
  return mix(mix(state.seed) + 0x9e3779b97f4a7c15u * ++state.taken);
}

}  // namespace bascule
