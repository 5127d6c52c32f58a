// SPDX-License-Identifier: Apache-2.0
// instruction sets: base avx2 avx512
// 4-byte transposition in registers: squares of 8 x 8 (AVX2 and up) or 4 x 4, edges one by one.
#include "simd/vec.h"  // and nothing else above BASCULE_ONCE

namespace bascule::BASCULE_ISA {
namespace {
#if defined(__AVX2__)
constexpr int64_t square = 8;
BASCULE_INLINE void transpose_square(const char* from, int64_t from_step, char* to,
                                     int64_t to_step) {
  __m256 r[8], t[8];
  for (int i = 0; i < 8; ++i) {
    r[i] = _mm256_loadu_ps(reinterpret_cast<const float*>(from + i * from_step));
  }
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
  }
  for (int i = 0; i < 8; i += 4) {
    r[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
    r[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
    r[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
    r[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
  }
  for (int i = 0; i < 4; ++i) {
    _mm256_storeu_ps(reinterpret_cast<float*>(to + i * to_step),
                     _mm256_permute2f128_ps(r[i], r[i + 4], 0x20));
    _mm256_storeu_ps(reinterpret_cast<float*>(to + (i + 4) * to_step),
                     _mm256_permute2f128_ps(r[i], r[i + 4], 0x31));
  }
}
#else
constexpr int64_t square = 4;
BASCULE_INLINE void transpose_square(const char* from, int64_t from_step, char* to,
                                     int64_t to_step) {
  typedef uint32_t Row __attribute__((vector_size(16)));
  Row r[4];
  for (int i = 0; i < 4; ++i) __builtin_memcpy(&r[i], from + i * from_step, 16);
  const Row a = __builtin_shuffle(r[0], r[1], Row{0, 4, 1, 5});
  const Row b = __builtin_shuffle(r[0], r[1], Row{2, 6, 3, 7});
  const Row c = __builtin_shuffle(r[2], r[3], Row{0, 4, 1, 5});
  const Row d = __builtin_shuffle(r[2], r[3], Row{2, 6, 3, 7});
  r[0] = __builtin_shuffle(a, c, Row{0, 1, 4, 5});
  r[1] = __builtin_shuffle(a, c, Row{2, 3, 6, 7});
  r[2] = __builtin_shuffle(b, d, Row{0, 1, 4, 5});
  r[3] = __builtin_shuffle(b, d, Row{2, 3, 6, 7});
  for (int i = 0; i < 4; ++i) __builtin_memcpy(to + i * to_step, &r[i], 16);
}
#endif
constexpr int64_t line = 16;  // elements of a cache line
}  // namespace

void transpose_4(const char* from, int64_t from_step, char* to, int64_t to_step, int64_t rows,
                 int64_t columns) {
  const auto edge = [&](int64_t first_row, int64_t last_row, int64_t first, int64_t last) {
    for (int64_t j = first; j < last; ++j) {
      for (int64_t i = first_row; i < last_row; ++i) {
        __builtin_memcpy(to + j * to_step + i * 4, from + i * from_step + j * 4, 4);
      }
    }
  };
  const int64_t whole_rows = rows / square * square;
  const int64_t whole_columns = columns / square * square;
  for (int64_t i = 0; i < whole_rows; i += line) {
    // A cache line of the result is written at once, while it is surely in the first level.
    const int64_t last = i + line < whole_rows ? i + line : whole_rows;
    for (int64_t j = 0; j < whole_columns; j += square) {
      for (int64_t k = i; k < last; k += square) {
        transpose_square(from + k * from_step + j * 4, from_step, to + j * to_step + k * 4,
                         to_step);
      }
    }
    edge(i, last, whole_columns, columns);
  }
  edge(whole_rows, rows, 0, columns);
}
}  // namespace bascule::BASCULE_ISA

#if BASCULE_ONCE
#include "kernels/move/transpose_tile.h"
#include "simd/isa.h"
namespace bascule {
BASCULE_PER_ISA(void transpose_4(const char* from, int64_t from_step, char* to, int64_t to_step,
                                 int64_t rows, int64_t columns));

void transpose_4_bytes(const std::byte* from, int64_t from_step, std::byte* to, int64_t to_step,
                       int64_t rows, int64_t columns) {
  static const auto function = BASCULE_PICK(transpose_4);
  function(reinterpret_cast<const char*>(from), from_step, reinterpret_cast<char*>(to), to_step,
           rows, columns);
}
}  // namespace bascule
#endif
