// SPDX-License-Identifier: Apache-2.0
// How a thread computes with denormal numbers.
#pragma once

#include <cstdint>

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

namespace bascule {

// The calling thread's mode; false: denormal numbers are computed with, true: they count as zero.
inline bool flushes_denormals() {
#if defined(__x86_64__) || defined(_M_X64)
  return (_mm_getcsr() & 0x8040u) == 0x8040u;
#elif defined(__aarch64__)
  uint64_t mode;
  __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
  return (mode & (uint64_t{1} << 24)) != 0;
#else
  return false;
#endif
}

// Sets the calling thread's mode as long as it lives.
class DenormalMode {
 public:
  explicit DenormalMode(bool flush) : changed_(flush != flushes_denormals()), flush_(flush) {
    if (changed_) set(flush_);
  }
  DenormalMode(const DenormalMode&) = delete;
  DenormalMode& operator=(const DenormalMode&) = delete;
  ~DenormalMode() {
    if (changed_) set(!flush_);
  }

 private:
  static void set(bool flush) {
#if defined(__x86_64__) || defined(_M_X64)
    // Flush to zero, and denormals are zero.
    _mm_setcsr(flush ? _mm_getcsr() | 0x8040u : _mm_getcsr() & ~0x8040u);
#elif defined(__aarch64__)
    uint64_t mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
    const uint64_t bit = uint64_t{1} << 24;
    mode = flush ? mode | bit : mode & ~bit;
    __asm__ volatile("msr fpcr, %0" : : "r"(mode));
#else
    (void)flush;
#endif
  }

  bool changed_;
  bool flush_;
};

}  // namespace bascule
