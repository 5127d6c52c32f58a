// SPDX-License-Identifier: Apache-2.0
#include "kernels/move/stream_copy.h"

#include <algorithm>

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

namespace bascule {

void stream_copy(const std::byte* from, int64_t bytes, std::byte* to) {
#if defined(__x86_64__) || defined(_M_X64)
  constexpr int64_t line = 64, ahead = 2048;
  const auto misplaced = static_cast<int64_t>(reinterpret_cast<uintptr_t>(to) % line);
  const int64_t first = misplaced == 0 ? 0 : std::min(line - misplaced, bytes);
  std::copy_n(from, first, to);
  int64_t i = first;
  for (; i + line <= bytes; i += line) {
    // Stores like these hold the hardware's own fetching back.
    _mm_prefetch(reinterpret_cast<const char*>(from + i + ahead), _MM_HINT_T0);
    for (int64_t j = i; j < i + line; j += 16) {
      _mm_stream_si128(reinterpret_cast<__m128i*>(to + j),
                       _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + j)));
    }
  }
  std::copy_n(from + i, bytes - i, to + i);
  _mm_sfence();  // other threads see them when they see what is written later
#else
  std::copy_n(from, bytes, to);
#endif
}

}  // namespace bascule
