// SPDX-License-Identifier: Apache-2.0
// Random numbers from a counter: Philox 4x32-10 (Salmon et al., "Parallel Random Numbers: As Easy
// as 1, 2, 3", 2011). Number i of a run depends on the key, the run and i only, so any thread can
// draw any part.
#pragma once

#include <atomic>
#include <bit>
#include <cmath>
#include <cstdint>
#include <numbers>

#include "runtime/node.h"
#include "runtime/random.h"

namespace bascule {

struct RandomBlock {
  uint32_t words[4];
};

inline RandomBlock random_block(uint64_t key, uint64_t run, uint64_t index) {
  uint32_t c0 = static_cast<uint32_t>(index), c1 = static_cast<uint32_t>(index >> 32);
  uint32_t c2 = static_cast<uint32_t>(run), c3 = static_cast<uint32_t>(run >> 32);
  uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xd2511f53u} * c0;
    const uint64_t b = uint64_t{0xcd9e8d57u} * c2;
    c0 = static_cast<uint32_t>(b >> 32) ^ c1 ^ k0;
    c1 = static_cast<uint32_t>(b);
    c2 = static_cast<uint32_t>(a >> 32) ^ c3 ^ k1;
    c3 = static_cast<uint32_t>(a);
    k0 += 0x9e3779b9u;
    k1 += 0xbb67ae85u;
  }
  return {{c0, c1, c2, c3}};
}

// The generator of one kernel. Each run draws from a sequence of its own.
class Generator {
 public:
  explicit Generator(const NodeSpec& node) : key_(key_of(node)) {}

  // The numbers of one run.
  class Run {
   public:
    // Uniform in [0, 1): 24 bits for float, 53 for double.
    template <class T>
    T uniform(int64_t i) const {
      if constexpr (sizeof(T) == 4) {
        return static_cast<T>(block(i / 4).words[i % 4] >> 8) * 0x1p-24f;
      } else {
        return static_cast<T>(wide(i) >> 11) * 0x1p-53;
      }
    }

    // Normal with mean 0 and deviation 1 (Box and Muller): elements come in pairs.
    template <class T>
    T normal(int64_t i) const {
      const int64_t first = i / 2 * 2;
      // Never 0, whose logarithm is not finite.
      const T u = 1 - uniform<T>(first);
      const T angle = T(2 * std::numbers::pi) * uniform<T>(first + 1);
      const T radius = std::sqrt(-2 * std::log(u));
      return radius * (i % 2 == 0 ? std::cos(angle) : std::sin(angle));
    }

   private:
    friend class Generator;
    Run(uint64_t key, uint64_t run) : key_(key), run_(run) {}
    RandomBlock block(int64_t i) const {
      return random_block(key_, run_, static_cast<uint64_t>(i));
    }
    uint64_t wide(int64_t i) const {
      const RandomBlock b = block(i / 2);
      return (static_cast<uint64_t>(b.words[i % 2 * 2 + 1]) << 32) | b.words[i % 2 * 2];
    }
    uint64_t key_, run_;
  };

  Run next_run() const { return Run(key_, runs_.fetch_add(1, std::memory_order_relaxed)); }

 private:
  // `seed` is an integer for Dropout and a float for the others.
  static uint64_t key_of(const NodeSpec& node) {
    const auto seed = node.attributes.find("seed");
    if (seed == node.attributes.end()) return next_random_key();
    if (const int64_t* number = std::get_if<int64_t>(&seed->second)) {
      return static_cast<uint64_t>(*number);
    }
    return std::bit_cast<uint32_t>(node.get_float("seed", 0));
  }

  uint64_t key_;
  mutable std::atomic<uint64_t> runs_{0};
};

}  // namespace bascule
