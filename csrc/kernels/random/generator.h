// SPDX-License-Identifier: Apache-2.0
// The numbers of the random operators.
//
// Without a seed they come from a counter: Philox 4x32-10 (Salmon et al., "Parallel Random Numbers:
// As Easy as 1, 2, 3", 2011). Number i of a run depends on the key, the run and i only, so any
// thread can draw any part. A node with a seed draws what the standard's reference implementation
// draws, in every run the same.
#pragma once

#include <atomic>
#include <bit>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <optional>

#include "kernels/random/seeded_stream.h"
#include "runtime/node.h"
#include "runtime/random.h"
#include "runtime/run_context.h"

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

// The generator of one kernel. Without a seed each run draws from a sequence of its own.
class Generator {
 public:
  explicit Generator(const NodeSpec& node)
      : seed_(seed_of(node)), key_(seed_ ? 0 : next_random_key()) {}

  // body(i, number) for each i in [0, count), the numbers uniform in [0, 1): doubles with a seed,
  // else of type T (24 bits for float, 53 for double). `cost` as in parallel_for.
  template <class T, class Body>
  void uniform(RunContext& c, int64_t count, double cost, Body&& body) const {
    if (std::optional<SeededStream> stream = seeded()) {
      for (int64_t i = 0; i < count; ++i) body(i, stream->uniform());
      return;
    }
    const Run numbers = next_run();
    c.parallel_for(count, cost, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) body(i, numbers.uniform<T>(i));
    });
  }

  // The same with normal numbers, of mean 0 and deviation 1.
  template <class T, class Body>
  void normal(RunContext& c, int64_t count, double cost, Body&& body) const {
    if (std::optional<SeededStream> stream = seeded()) {
      for (int64_t i = 0; i < count; ++i) body(i, stream->normal());
      return;
    }
    const Run numbers = next_run();
    c.parallel_for(count, cost, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) body(i, numbers.normal<T>(i));
    });
  }

  // The numbers that the seed stands for, nothing if there is none.
  std::optional<SeededStream> seeded() const {
    return seed_ ? std::optional<SeededStream>(*seed_) : std::nullopt;
  }

 private:
  // The numbers of one run.
  class Run {
   public:
    Run(uint64_t key, uint64_t run) : key_(key), run_(run) {}

    template <class T>
    T uniform(int64_t i) const {
      if constexpr (sizeof(T) == 4) {
        return static_cast<T>(block(i / 4).words[i % 4] >> 8) * 0x1p-24f;
      } else {
        return static_cast<T>(wide(i) >> 11) * 0x1p-53;
      }
    }

    // Box and Muller: elements come in pairs.
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

  // `seed` is an integer for Dropout and a float for the others, of which NaN is none and the
  // fraction does not count. The reference takes 32 bits; what is beyond them is mixed in.
  static std::optional<uint32_t> seed_of(const NodeSpec& node) {
    const auto seed = node.attributes.find("seed");
    if (seed == node.attributes.end()) return std::nullopt;
    uint64_t bits = 0;
    if (const int64_t* number = std::get_if<int64_t>(&seed->second)) {
      bits = static_cast<uint64_t>(*number);
    } else {
      const float real = node.get_float("seed", 0);
      if (std::isnan(real)) return std::nullopt;
      const bool fits = std::fabs(real) < 0x1p63f;
      bits =
          fits ? static_cast<uint64_t>(static_cast<int64_t>(real)) : std::bit_cast<uint32_t>(real);
    }
    if (bits >> 32 != 0) {  // the finalizer of SplitMix64
      bits = (bits ^ (bits >> 30)) * 0xbf58476d1ce4e5b9u;
      bits = (bits ^ (bits >> 27)) * 0x94d049bb133111ebu;
      bits ^= bits >> 31;
    }
    return static_cast<uint32_t>(bits);
  }

  std::optional<uint32_t> seed_;
  uint64_t key_;
  mutable std::atomic<uint64_t> runs_{0};
};

}  // namespace bascule
