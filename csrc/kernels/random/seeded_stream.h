// SPDX-License-Identifier: Apache-2.0
// The numbers of numpy.random.RandomState(seed), from which the standard's reference implementation
// draws: the Mersenne Twister MT19937 (Matsumoto and Nishimura, 1998), and NumPy's ways, kept for
// good, to make floating-point numbers of its words.
#pragma once

#include <cmath>
#include <cstdint>
#include <optional>
#include <random>

namespace bascule {

class SeededStream {
 public:
  explicit SeededStream(uint32_t seed) : engine_(seed) {}

  // Uniform in [0, 1), 53 bits of two words.
  double uniform() {
    const uint32_t high = static_cast<uint32_t>(engine_()) >> 5;
    const uint32_t low = static_cast<uint32_t>(engine_()) >> 6;
    return (high * 67108864.0 + low) / 9007199254740992.0;
  }

  // Normal with mean 0 and deviation 1 (Marsaglia's polar method): they come in pairs, of which the
  // second is kept for the next call.
  double normal() {
    if (kept_) {
      const double number = *kept_;
      kept_.reset();
      return number;
    }
    double x, y, square;
    do {
      x = 2.0 * uniform() - 1.0;
      y = 2.0 * uniform() - 1.0;
      square = x * x + y * y;
    } while (square >= 1.0 || square == 0.0);
    const double factor = std::sqrt(-2.0 * std::log(square) / square);
    kept_ = factor * x;
    return factor * y;
  }

  // True with the given probability, as RandomState.binomial(1, probability) decides it.
  bool binomial(double probability) {
    const double number = uniform();
    return probability > 0.5 ? number <= probability : number > 1 - probability;
  }

 private:
  std::mt19937 engine_;
  std::optional<double> kept_;
};

}  // namespace bascule
