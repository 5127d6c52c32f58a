// SPDX-License-Identifier: Apache-2.0
// instruction sets: base avx2 avx512
// Transposition in registers. Four bytes: squares of 16 x 16 (AVX-512), 8 x 8 (AVX2) and 4 x 4,
// edges one by one; one and two bytes: 8 x 8.
#include "simd/vec.h"  // and nothing else above BASCULE_ONCE

namespace bascule::BASCULE_ISA {
namespace {

template <int side>
struct Square {};

#if defined(__AVX512F__)
constexpr int largest_square = 16;
BASCULE_INLINE void transpose_square(Square<16>, const char* from, int64_t from_step, char* to,
                                     int64_t to_step) {
  __m512 r[16], t[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) r[i] = _mm512_loadu_ps(from + i * from_step);
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
  }
  // Four rows in a quarter each: r[4 g + c] holds columns c, c + 4, c + 8, c + 12 of rows 4 g ....
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    r[i] = _mm512_shuffle_ps(t[i], t[i + 2], 0x44);
    r[i + 1] = _mm512_shuffle_ps(t[i], t[i + 2], 0xee);
    r[i + 2] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0x44);
    r[i + 3] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0xee);
  }
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) {
    const __m512 a = _mm512_shuffle_f32x4(r[c], r[c + 4], 0x44);
    const __m512 b = _mm512_shuffle_f32x4(r[c], r[c + 4], 0xee);
    const __m512 d = _mm512_shuffle_f32x4(r[c + 8], r[c + 12], 0x44);
    const __m512 e = _mm512_shuffle_f32x4(r[c + 8], r[c + 12], 0xee);
    _mm512_storeu_ps(to + c * to_step, _mm512_shuffle_f32x4(a, d, 0x88));
    _mm512_storeu_ps(to + (c + 4) * to_step, _mm512_shuffle_f32x4(a, d, 0xdd));
    _mm512_storeu_ps(to + (c + 8) * to_step, _mm512_shuffle_f32x4(b, e, 0x88));
    _mm512_storeu_ps(to + (c + 12) * to_step, _mm512_shuffle_f32x4(b, e, 0xdd));
  }
}
#elif defined(__AVX2__)
constexpr int largest_square = 8;
#else
constexpr int largest_square = 4;
#endif

#if defined(__AVX2__)
BASCULE_INLINE void transpose_square(Square<8>, const char* from, int64_t from_step, char* to,
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
#endif

BASCULE_INLINE void transpose_square(Square<4>, const char* from, int64_t from_step, char* to,
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

BASCULE_INLINE void transpose_square(Square<1>, const char* from, int64_t, char* to, int64_t) {
  __builtin_memcpy(to, from, 4);
}

// In squares of `side`, the edges in smaller ones.
template <int side>
void transpose_squares(const char* from, int64_t from_step, char* to, int64_t to_step, int64_t rows,
                       int64_t columns) {
  constexpr int64_t line = 16;  // elements of a cache line
  constexpr int smaller = side == 4 ? 1 : side / 2;
  if constexpr (side > 4) {
    if (columns < side) {
      return transpose_squares<smaller>(from, from_step, to, to_step, rows, columns);
    }
  }
  const int64_t whole_rows = rows / side * side;
  const int64_t whole_columns = columns / side * side;
  for (int64_t i = 0; i < whole_rows; i += line) {
    // A cache line of the result is written at once, while it is surely in the first level.
    const int64_t last = i + line < whole_rows ? i + line : whole_rows;
    for (int64_t j = 0; j < whole_columns; j += side) {
      for (int64_t k = i; k < last; k += side) {
        transpose_square(Square<side>{}, from + k * from_step + j * 4, from_step,
                         to + j * to_step + k * 4, to_step);
      }
    }
    if constexpr (side > 1) {
      if (whole_columns == columns) continue;
      transpose_squares<smaller>(from + i * from_step + whole_columns * 4, from_step,
                                 to + whole_columns * to_step + i * 4, to_step, last - i,
                                 columns - whole_columns);
    }
  }
  if constexpr (side > 1) {
    if (whole_rows == rows) return;
    transpose_squares<smaller>(from + whole_rows * from_step, from_step, to + whole_rows * 4,
                               to_step, rows - whole_rows, columns);
  }
}

#if defined(__AVX512F__)
// Of each lane of three vectors of triples: which lane of the first two rows, or of the third, it
// comes from, and whether it is the third.
struct Triples {
  alignas(64) int32_t place[3][16] = {};
  __mmask16 third[3] = {};
  constexpr Triples() {
    for (int i = 0; i < 48; ++i) {
      place[i / 16][i % 16] = i / 3 + (i % 3 == 1 ? 16 : 0);
      if (i % 3 == 2) third[i / 16] = static_cast<__mmask16>(third[i / 16] | 1u << i % 16);
    }
  }
};
#endif

// Three rows become one of triples: the planes of an image become pixels.
void interleave_3(const char* from, int64_t from_step, char* to, int64_t columns) {
  int64_t j = 0;
#if defined(__AVX512F__)
  static constexpr Triples triples;
  for (; j + 16 <= columns; j += 16) {
    const __m512 a = _mm512_loadu_ps(from + j * 4);
    const __m512 b = _mm512_loadu_ps(from + from_step + j * 4);
    const __m512 c = _mm512_loadu_ps(from + 2 * from_step + j * 4);
    for (int v = 0; v < 3; ++v) {
      const __m512i place = _mm512_load_si512(triples.place[v]);
      const __m512 pairs = _mm512_permutex2var_ps(a, place, b);
      _mm512_storeu_ps(to + j * 12 + v * 64,
                       _mm512_mask_permutexvar_ps(pairs, triples.third[v], place, c));
    }
  }
#endif
  for (; j < columns; ++j) {
    for (int64_t i = 0; i < 3; ++i) {
      __builtin_memcpy(to + j * 12 + i * 4, from + i * from_step + j * 4, 4);
    }
  }
}

#if defined(__AVX512F__)
// Of each lane of three rows: which lane of the first two vectors of triples, or of the third, it
// comes from, and whether it is the third.
struct Parts {
  alignas(64) int32_t place[3][16] = {};
  __mmask16 third[3] = {};
  constexpr Parts() {
    for (int i = 0; i < 48; ++i) {
      place[i % 3][i / 3] = i % 32;
      if (i >= 32) third[i % 3] = static_cast<__mmask16>(third[i % 3] | 1u << i / 3);
    }
  }
};
#endif

typedef uint8_t Bytes __attribute__((vector_size(16)));
typedef uint16_t Pairs __attribute__((vector_size(16)));
typedef uint32_t Quads __attribute__((vector_size(16)));
typedef uint64_t Halves __attribute__((vector_size(16)));

// Through a register: eight bytes in memory and sixteen read back would wait for each other.
BASCULE_INLINE Bytes load_8(const char* p) {
  uint64_t bytes;
  __builtin_memcpy(&bytes, p, sizeof(bytes));
  return reinterpret_cast<Bytes>(Halves{bytes, 0});
}

template <int bytes>
struct Eight {};

BASCULE_INLINE void transpose_square(Eight<1>, const char* from, int64_t from_step, char* to,
                                     int64_t to_step) {
  Bytes r[8];
  Pairs p[4];
  Quads q[4];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) r[i] = load_8(from + i * from_step);
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    p[i] = reinterpret_cast<Pairs>(__builtin_shuffle(
        r[2 * i], r[2 * i + 1], Bytes{0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23}));
  }
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    const Pairs a = p[2 * i], b = p[2 * i + 1];
    q[i] = reinterpret_cast<Quads>(__builtin_shuffle(a, b, Pairs{0, 8, 1, 9, 2, 10, 3, 11}));
    q[i + 2] = reinterpret_cast<Quads>(__builtin_shuffle(a, b, Pairs{4, 12, 5, 13, 6, 14, 7, 15}));
  }
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    const Quads low = __builtin_shuffle(q[2 * i], q[2 * i + 1], Quads{0, 4, 1, 5});
    const Quads high = __builtin_shuffle(q[2 * i], q[2 * i + 1], Quads{2, 6, 3, 7});
    char* line = to + 4 * i * to_step;
    __builtin_memcpy(line, &low, 8);
    __builtin_memcpy(line + to_step, reinterpret_cast<const char*>(&low) + 8, 8);
    __builtin_memcpy(line + 2 * to_step, &high, 8);
    __builtin_memcpy(line + 3 * to_step, reinterpret_cast<const char*>(&high) + 8, 8);
  }
}

BASCULE_INLINE void transpose_square(Eight<2>, const char* from, int64_t from_step, char* to,
                                     int64_t to_step) {
  Pairs r[8];
  Quads q[8];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) __builtin_memcpy(&r[i], from + i * from_step, 16);
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {  // columns 0 to 3, and 4 to 7, of two rows
    const Pairs a = r[2 * i], b = r[2 * i + 1];
    q[i] = reinterpret_cast<Quads>(__builtin_shuffle(a, b, Pairs{0, 8, 1, 9, 2, 10, 3, 11}));
    q[i + 4] = reinterpret_cast<Quads>(__builtin_shuffle(a, b, Pairs{4, 12, 5, 13, 6, 14, 7, 15}));
  }
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4) {
    // Two columns of four rows each.
    const Halves low[2] = {
        reinterpret_cast<Halves>(__builtin_shuffle(q[i], q[i + 1], Quads{0, 4, 1, 5})),
        reinterpret_cast<Halves>(__builtin_shuffle(q[i], q[i + 1], Quads{2, 6, 3, 7}))};
    const Halves high[2] = {
        reinterpret_cast<Halves>(__builtin_shuffle(q[i + 2], q[i + 3], Quads{0, 4, 1, 5})),
        reinterpret_cast<Halves>(__builtin_shuffle(q[i + 2], q[i + 3], Quads{2, 6, 3, 7}))};
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) {
      const Halves columns[2] = {__builtin_shuffle(low[j], high[j], Halves{0, 2}),
                                 __builtin_shuffle(low[j], high[j], Halves{1, 3})};
      __builtin_memcpy(to + (i + 2 * j) * to_step, &columns[0], 16);
      __builtin_memcpy(to + (i + 2 * j + 1) * to_step, &columns[1], 16);
    }
  }
}

// In squares of eight, the edges one by one.
template <int bytes>
void transpose_in_eights(const char* from, int64_t from_step, char* to, int64_t to_step,
                         int64_t rows, int64_t columns) {
  constexpr int64_t line = 64 / bytes;
  const int64_t whole_rows = rows / 8 * 8, whole_columns = columns / 8 * 8;
  for (int64_t i = 0; i < whole_rows; i += line) {
    const int64_t last = i + line < whole_rows ? i + line : whole_rows;
    for (int64_t j = 0; j < whole_columns; j += 8) {
      for (int64_t k = i; k < last; k += 8) {
        transpose_square(Eight<bytes>{}, from + k * from_step + j * bytes, from_step,
                         to + j * to_step + k * bytes, to_step);
      }
    }
  }
  for (int64_t j = 0; j < columns; ++j) {
    for (int64_t i = j < whole_columns ? whole_rows : 0; i < rows; ++i) {
      __builtin_memcpy(to + j * to_step + i * bytes, from + i * from_step + j * bytes, bytes);
    }
  }
}

// Rows of two elements, one behind the other, become two rows.
void separate_2(const char* from, char* to, int64_t to_step, int64_t rows) {
  int64_t i = 0;
  for (; i + 4 <= rows; i += 4) {
    Quads pairs[2];
    __builtin_memcpy(pairs, from + i * 8, sizeof(pairs));
    const Quads first = __builtin_shuffle(pairs[0], pairs[1], Quads{0, 2, 4, 6});
    const Quads second = __builtin_shuffle(pairs[0], pairs[1], Quads{1, 3, 5, 7});
    __builtin_memcpy(to + i * 4, &first, sizeof(first));
    __builtin_memcpy(to + to_step + i * 4, &second, sizeof(second));
  }
  for (; i < rows; ++i) {
    for (int64_t j = 0; j < 2; ++j) {
      __builtin_memcpy(to + j * to_step + i * 4, from + i * 8 + j * 4, 4);
    }
  }
}

// A row of triples becomes three rows: the pixels of an image become planes.
void separate_3(const char* from, char* to, int64_t to_step, int64_t rows) {
  int64_t i = 0;
#if defined(__AVX512F__)
  static constexpr Parts parts;
  for (; i + 16 <= rows; i += 16) {
    const __m512 a = _mm512_loadu_ps(from + i * 12);
    const __m512 b = _mm512_loadu_ps(from + i * 12 + 64);
    const __m512 c = _mm512_loadu_ps(from + i * 12 + 128);
    for (int v = 0; v < 3; ++v) {
      const __m512i place = _mm512_load_si512(parts.place[v]);
      const __m512 pairs = _mm512_permutex2var_ps(a, place, b);
      _mm512_storeu_ps(to + v * to_step + i * 4,
                       _mm512_mask_permutexvar_ps(pairs, parts.third[v], place, c));
    }
  }
#endif
  for (; i + 4 <= rows; i += 4) {
    Quads a, b, c;
    __builtin_memcpy(&a, from + i * 12, 16);
    __builtin_memcpy(&b, from + i * 12 + 16, 16);
    __builtin_memcpy(&c, from + i * 12 + 32, 16);
    const Quads planes[3] = {
        __builtin_shuffle(__builtin_shuffle(a, b, Quads{0, 3, 6, 0}), c, Quads{0, 1, 2, 5}),
        __builtin_shuffle(__builtin_shuffle(a, b, Quads{1, 4, 7, 0}), c, Quads{0, 1, 2, 6}),
        __builtin_shuffle(__builtin_shuffle(a, b, Quads{2, 5, 0, 0}), c, Quads{0, 1, 4, 7})};
    for (int v = 0; v < 3; ++v) __builtin_memcpy(to + v * to_step + i * 4, &planes[v], 16);
  }
  for (; i < rows; ++i) {
    for (int64_t v = 0; v < 3; ++v) {
      __builtin_memcpy(to + v * to_step + i * 4, from + i * 12 + v * 4, 4);
    }
  }
}

// A row of triples of bytes becomes three rows.
void separate_3_bytes(const char* from, char* to, int64_t to_step, int64_t rows) {
  int64_t i = 0;
  for (; i + 16 <= rows; i += 16) {
    Bytes a, b, c;
    __builtin_memcpy(&a, from + 3 * i, 16);
    __builtin_memcpy(&b, from + 3 * i + 16, 16);
    __builtin_memcpy(&c, from + 3 * i + 32, 16);
    const Bytes planes[3] = {
        __builtin_shuffle(
            __builtin_shuffle(a, b, Bytes{0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30, 0, 0, 0, 0, 0}),
            c, Bytes{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 17, 20, 23, 26, 29}),
        __builtin_shuffle(
            __builtin_shuffle(a, b, Bytes{1, 4, 7, 10, 13, 16, 19, 22, 25, 28, 31, 0, 0, 0, 0, 0}),
            c, Bytes{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 18, 21, 24, 27, 30}),
        __builtin_shuffle(
            __builtin_shuffle(a, b, Bytes{2, 5, 8, 11, 14, 17, 20, 23, 26, 29, 0, 0, 0, 0, 0, 0}),
            c, Bytes{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 19, 22, 25, 28, 31})};
    for (int v = 0; v < 3; ++v) __builtin_memcpy(to + v * to_step + i, &planes[v], 16);
  }
  for (; i < rows; ++i) {
    for (int64_t v = 0; v < 3; ++v) to[v * to_step + i] = from[3 * i + v];
  }
}

// The same of elements of two bytes.
void separate_3_pairs(const char* from, char* to, int64_t to_step, int64_t rows) {
  int64_t i = 0;
  for (; i + 8 <= rows; i += 8) {
    Pairs a, b, c;
    __builtin_memcpy(&a, from + 6 * i, 16);
    __builtin_memcpy(&b, from + 6 * i + 16, 16);
    __builtin_memcpy(&c, from + 6 * i + 32, 16);
    const Pairs planes[3] = {
        __builtin_shuffle(__builtin_shuffle(a, b, Pairs{0, 3, 6, 9, 12, 15, 0, 0}), c,
                          Pairs{0, 1, 2, 3, 4, 5, 10, 13}),
        __builtin_shuffle(__builtin_shuffle(a, b, Pairs{1, 4, 7, 10, 13, 0, 0, 0}), c,
                          Pairs{0, 1, 2, 3, 4, 8, 11, 14}),
        __builtin_shuffle(__builtin_shuffle(a, b, Pairs{2, 5, 8, 11, 14, 0, 0, 0}), c,
                          Pairs{0, 1, 2, 3, 4, 9, 12, 15})};
    for (int v = 0; v < 3; ++v) __builtin_memcpy(to + v * to_step + 2 * i, &planes[v], 16);
  }
  for (; i < rows; ++i) {
    for (int64_t v = 0; v < 3; ++v) {
      __builtin_memcpy(to + v * to_step + 2 * i, from + 6 * i + 2 * v, 2);
    }
  }
}

// Three rows of bytes become one of triples.
void interleave_3_bytes(const char* from, int64_t from_step, char* to, int64_t columns) {
  int64_t j = 0;
  for (; j + 16 <= columns; j += 16) {
    Bytes a, b, c;
    __builtin_memcpy(&a, from + j, 16);
    __builtin_memcpy(&b, from + from_step + j, 16);
    __builtin_memcpy(&c, from + 2 * from_step + j, 16);
    const Bytes triples[3] = {
        __builtin_shuffle(
            __builtin_shuffle(a, b, Bytes{0, 16, 0, 1, 17, 0, 2, 18, 0, 3, 19, 0, 4, 20, 0, 5}), c,
            Bytes{0, 1, 16, 3, 4, 17, 6, 7, 18, 9, 10, 19, 12, 13, 20, 15}),
        __builtin_shuffle(
            __builtin_shuffle(a, b, Bytes{21, 0, 6, 22, 0, 7, 23, 0, 8, 24, 0, 9, 25, 0, 10, 26}),
            c, Bytes{0, 21, 2, 3, 22, 5, 6, 23, 8, 9, 24, 11, 12, 25, 14, 15}),
        __builtin_shuffle(
            __builtin_shuffle(a, b,
                              Bytes{0, 11, 27, 0, 12, 28, 0, 13, 29, 0, 14, 30, 0, 15, 31, 0}),
            c, Bytes{26, 1, 2, 27, 4, 5, 28, 7, 8, 29, 10, 11, 30, 13, 14, 31})};
    __builtin_memcpy(to + 3 * j, triples, sizeof(triples));
  }
  for (; j < columns; ++j) {
    for (int64_t i = 0; i < 3; ++i) to[3 * j + i] = from[i * from_step + j];
  }
}

}  // namespace

void transpose_1(const char* from, int64_t from_step, char* to, int64_t to_step, int64_t rows,
                 int64_t columns) {
  if (rows == 3 && to_step == 3) return interleave_3_bytes(from, from_step, to, columns);
  if (columns == 3 && from_step == 3) return separate_3_bytes(from, to, to_step, rows);
  transpose_in_eights<1>(from, from_step, to, to_step, rows, columns);
}

void transpose_2(const char* from, int64_t from_step, char* to, int64_t to_step, int64_t rows,
                 int64_t columns) {
  if (columns == 3 && from_step == 6) return separate_3_pairs(from, to, to_step, rows);
  transpose_in_eights<2>(from, from_step, to, to_step, rows, columns);
}

void transpose_4(const char* from, int64_t from_step, char* to, int64_t to_step, int64_t rows,
                 int64_t columns) {
  if (rows == 3 && to_step == 12) return interleave_3(from, from_step, to, columns);
  if (columns == 3 && from_step == 12) return separate_3(from, to, to_step, rows);
  if (columns == 2 && from_step == 8) return separate_2(from, to, to_step, rows);
  transpose_squares<largest_square>(from, from_step, to, to_step, rows, columns);
}
}  // namespace bascule::BASCULE_ISA

#if BASCULE_ONCE
#include "kernels/move/transpose_tile.h"
#include "simd/isa.h"
namespace bascule {
BASCULE_PER_ISA(void transpose_1(const char* from, int64_t from_step, char* to, int64_t to_step,
                                 int64_t rows, int64_t columns);
                void transpose_2(const char* from, int64_t from_step, char* to, int64_t to_step,
                                 int64_t rows, int64_t columns);
                void transpose_4(const char* from, int64_t from_step, char* to, int64_t to_step,
                                 int64_t rows, int64_t columns));

void transpose_bytes(const std::byte* from, int64_t from_step, std::byte* to, int64_t to_step,
                     int64_t rows, int64_t columns) {
  static const auto function = BASCULE_PICK(transpose_1);
  function(reinterpret_cast<const char*>(from), from_step, reinterpret_cast<char*>(to), to_step,
           rows, columns);
}

void transpose_2_bytes(const std::byte* from, int64_t from_step, std::byte* to, int64_t to_step,
                       int64_t rows, int64_t columns) {
  static const auto function = BASCULE_PICK(transpose_2);
  function(reinterpret_cast<const char*>(from), from_step, reinterpret_cast<char*>(to), to_step,
           rows, columns);
}

void transpose_4_bytes(const std::byte* from, int64_t from_step, std::byte* to, int64_t to_step,
                       int64_t rows, int64_t columns) {
  static const auto function = BASCULE_PICK(transpose_4);
  function(reinterpret_cast<const char*>(from), from_step, reinterpret_cast<char*>(to), to_step,
           rows, columns);
}
}  // namespace bascule
#endif
