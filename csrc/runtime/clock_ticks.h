// SPDX-License-Identifier: Apache-2.0
// The cheapest clock there is: the processor's counter where it runs evenly, else steady_clock.
#pragma once

#include <chrono>
#include <cstdint>

#if defined(__x86_64__) || defined(_M_X64)
#if defined(_MSC_VER)
#include <intrin.h>
#else
#include <x86intrin.h>
#endif
#endif

namespace bascule {

using Ticks = int64_t;

inline int64_t steady_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

#if defined(__x86_64__) || defined(_M_X64)
// Whether the counter runs at one rate, whatever the cores' clocks do, and in sleep.
extern const bool has_even_counter;

inline Ticks now_ticks() { return has_even_counter ? static_cast<Ticks>(__rdtsc()) : steady_ns(); }
#elif defined(__aarch64__) && !defined(_MSC_VER)
inline Ticks now_ticks() {
  Ticks ticks;
  __asm__ volatile("mrs %0, cntvct_el0" : "=r"(ticks));
  return ticks;
}
#else
inline Ticks now_ticks() { return steady_ns(); }
#endif

}  // namespace bascule
