// SPDX-License-Identifier: Apache-2.0
// The matrix product micro-kernel, for float and double. Included by sources that are compiled per
// instruction set; everything is local to them.
#pragma once

#include "kernels/gemm/block.h"
#include "simd/vec.h"

namespace bascule::BASCULE_ISA {
namespace {

template <class T>
struct Lanes;
template <>
struct Lanes<float> {
  typedef F32 Vector;
};
template <>
struct Lanes<double> {
  typedef double Vector __attribute__((vector_size(vector_bytes)));
};
template <class T>
using Vector = typename Lanes<T>::Vector;

template <class T>
constexpr int vector_lanes = vector_bytes / static_cast<int>(sizeof(T));
template <class T>
constexpr int panel_width = 2 * vector_lanes<T>;

// 2 accumulators a row, 2 vectors of the panel and a broadcast must fit the registers. Where a step
// of k is short, several go through the loop at once, if they need no more registers for it.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int max_rows = 14;
constexpr int steps_at_once = 2;
#elif defined(__FMA__)
constexpr int max_rows = 6;
constexpr int steps_at_once = 4;
#else
constexpr int max_rows = 6;
constexpr int steps_at_once = 1;
#endif
// A tile of one vector has half as many sums a row, so it is taller: each sum waits for itself.
constexpr int max_narrow_rows = max_rows < 12 ? 12 : max_rows;

template <class T>
BASCULE_INLINE Vector<T> load_vector(const T* p) {
  Vector<T> v;
  __builtin_memcpy(&v, p, sizeof(v));
  return v;
}
template <class T>
BASCULE_INLINE void store_vector(T* p, Vector<T> v) {
  __builtin_memcpy(p, &v, sizeof(v));
}
// Only the first `count` lanes are in memory, 0 <= count; the others read as zero.
template <class T>
BASCULE_INLINE Vector<T> load_part(const T* p, int64_t count) {
#if defined(__AVX512F__)
  const uint32_t mask = count >= vector_lanes<T> ? ~0u : (1u << count) - 1;
  if constexpr (sizeof(T) == 4) {
    return reinterpret_cast<Vector<T>>(_mm512_maskz_loadu_ps(static_cast<__mmask16>(mask), p));
  } else {
    return reinterpret_cast<Vector<T>>(_mm512_maskz_loadu_pd(static_cast<__mmask8>(mask), p));
  }
#else
  T part[vector_lanes<T>] = {};
  for (int64_t i = 0; i < count && i < vector_lanes<T>; ++i) part[i] = p[i];
  return load_vector<T>(part);
#endif
}
template <class T>
BASCULE_INLINE void store_part(T* p, Vector<T> v, int64_t count) {
#if defined(__AVX512F__)
  const uint32_t mask = count >= vector_lanes<T> ? ~0u : (1u << count) - 1;
  if constexpr (sizeof(T) == 4) {
    _mm512_mask_storeu_ps(p, static_cast<__mmask16>(mask), reinterpret_cast<__m512>(v));
  } else {
    _mm512_mask_storeu_pd(p, static_cast<__mmask8>(mask), reinterpret_cast<__m512d>(v));
  }
#else
  T part[vector_lanes<T>];
  store_vector<T>(part, v);
  for (int64_t i = 0; i < count && i < vector_lanes<T>; ++i) p[i] = part[i];
#endif
}
template <class T>
BASCULE_INLINE Vector<T> broadcast(T x) {
  return x - Vector<T>{};
}

BASCULE_INLINE F32 multiply_add(F32 a, F32 b, F32 c) { return fma(a, b, c); }
BASCULE_INLINE Vector<double> multiply_add(Vector<double> a, Vector<double> b, Vector<double> c) {
#if defined(__AVX512F__)
  return reinterpret_cast<Vector<double>>(_mm512_fmadd_pd(
      reinterpret_cast<__m512d>(a), reinterpret_cast<__m512d>(b), reinterpret_cast<__m512d>(c)));
#elif defined(__FMA__)
  return reinterpret_cast<Vector<double>>(_mm256_fmadd_pd(
      reinterpret_cast<__m256d>(a), reinterpret_cast<__m256d>(b), reinterpret_cast<__m256d>(c)));
#elif defined(__aarch64__)
  return reinterpret_cast<Vector<double>>(vfmaq_f64(reinterpret_cast<float64x2_t>(c),
                                                    reinterpret_cast<float64x2_t>(a),
                                                    reinterpret_cast<float64x2_t>(b)));
#else
  return a * b + c;
#endif
}

// sum += a * b. Written so that AVX2 does it in place: with all registers taken, a compiler that
// overwrites a factor instead moves sums to memory and back.
template <class V>
BASCULE_INLINE void accumulate(V& sum, V a, V b) {
#if defined(__FMA__) && !defined(__AVX512F__)
  if constexpr (sizeof(sum[0]) == 4) {
    __asm__("vfmadd231ps %2, %1, %0" : "+x"(sum) : "x"(a), "x"(b));
  } else {
    __asm__("vfmadd231pd %2, %1, %0" : "+x"(sum) : "x"(a), "x"(b));
  }
#else
  sum = multiply_add(a, b, sum);
#endif
}

// One tile: `rows` rows of A over the pieces [tap, tap + taps), elements [start, start + length) of
// each, times one panel.
template <class T>
struct Tile {
  const T* const* a;
  int64_t a_offset;
  int64_t a_stride;
  int64_t taps;
  int64_t length;
  const T* b;
  int64_t b_stride;
  T* c;
  int64_t c_stride;
  int64_t columns;
  bool first;                       // starts from zero, else from what C holds
  const GemmEpilogue<T>* epilogue;  // null but for the last block of K
  const T* bias;                    // of the tile's first column
  const T* residual;                // of the tile's first element
  const T* next;                    // what to fetch into the second cache meanwhile
  int64_t next_step;                // bytes of it for each k, at most a line
};

// The bounds keep NaN.
BASCULE_INLINE F32 clamp(F32 x, F32 low, F32 high) { return at_most(high, at_least(low, x)); }
BASCULE_INLINE Vector<double> clamp(Vector<double> x, Vector<double> low, Vector<double> high) {
  x = x < low ? low : x;
  return x > high ? high : x;
}

template <class T, int rows, int vectors>
void run_tile(const Tile<T>& t) {
  using V = Vector<T>;
  constexpr int width = vector_lanes<T>;
  const bool whole = t.columns >= vectors * width;
  V sum[rows][vectors];
  const auto get = [&](const T* p, int v) __attribute__((always_inline)) {
    return whole ? load_vector<T>(p + v * width)
                 : load_part<T>(p + v * width, t.columns - v * width);
  };
  if (t.first) {
#pragma GCC unroll 14
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) sum[r][v] = V{};
    }
  } else {
#pragma GCC unroll 14
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) sum[r][v] = get(t.c + r * t.c_stride, v);
    }
  }

  // What the end of the tile writes and reads for the first time is fetched meanwhile.
  if (t.epilogue != nullptr && t.taps * t.length >= 64) {
#pragma GCC unroll 14
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) {
        if (t.first) __builtin_prefetch(t.c + r * t.c_stride + v * width, 1);
        if (t.residual != nullptr) __builtin_prefetch(t.residual + r * t.c_stride + v * width);
      }
    }
  }

  // A pointer for every third row: the others are one or two strides away, which is an addressing
  // mode. The empty asm keeps the compiler from making a pointer of each.
  constexpr int pointers = (rows + 2) / 3;
  const T* b = t.b;
  // Few rows run through B at the speed of memory, and need it sooner.
  constexpr int64_t ahead = rows <= 4 ? 32 : 8;
  const char* next = reinterpret_cast<const char*>(t.next);
  const int64_t next_step = t.next_step;
  const auto multiply = [&](const int64_t b_stride,
                            const int fetch_every) __attribute__((always_inline)) {
    for (int64_t tap = 0; tap < t.taps; ++tap) {
      int64_t stride = t.a_stride * static_cast<int64_t>(sizeof(T));
      const char* a[pointers];
#pragma GCC unroll 5
      for (int i = 0; i < pointers; ++i) {
        a[i] = reinterpret_cast<const char*>(t.a[tap] + t.a_offset) + 3 * i * stride;
      }
      const auto step = [&](int u) __attribute__((always_inline)) {
        // Keeps the loads of a step behind those before it: there are no registers to hold both.
        __asm__ volatile("" : "+r"(stride) : : "memory");
        const T* row = b + u * b_stride;
        V column[vectors];
#pragma GCC unroll 2
        for (int v = 0; v < vectors; ++v) column[v] = load_vector<T>(row + v * width);
        __builtin_prefetch(row + ahead * b_stride);
        if (vectors * vector_bytes > 64) __builtin_prefetch(row + ahead * b_stride + width);
        if (u % fetch_every == 0) __builtin_prefetch(next + u * next_step, 0, 2);
#pragma GCC unroll 14
        for (int r = 0; r < rows; ++r) {
          const char* from = a[r / 3] + (r % 3) * stride + u * static_cast<int>(sizeof(T));
          const V value = broadcast<T>(*reinterpret_cast<const T*>(from));
#pragma GCC unroll 2
          for (int v = 0; v < vectors; ++v) accumulate(sum[r][v], value, column[v]);
        }
      };
      const auto advance = [&](int steps) __attribute__((always_inline)) {
#pragma GCC unroll 5
        for (int i = 0; i < pointers; ++i) {
          a[i] += steps * static_cast<int>(sizeof(T));
          __asm__("" : "+r"(a[i]));
        }
        b += steps * b_stride;
        next += steps * next_step;
      };
      int64_t k = 0;
      for (; k + steps_at_once <= t.length; k += steps_at_once) {
#pragma GCC unroll 4
        for (int u = 0; u < steps_at_once; ++u) step(u);
        advance(steps_at_once);
      }
      for (; steps_at_once > 1 && k < t.length; ++k) {
        step(0);
        advance(1);
      }
    }
  };
  if (t.b_stride != panel_width<T>) {
    multiply(t.b_stride, 2);
  } else if (steps_at_once > 1 && next_step > 32) {
    multiply(panel_width<T>, 1);
  } else {
    multiply(panel_width<T>, 2);
  }

  if (t.epilogue != nullptr) {
    const GemmEpilogue<T>& e = *t.epilogue;
    if (e.alpha != T(1)) {
      const V alpha = broadcast<T>(e.alpha);
#pragma GCC unroll 14
      for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
        for (int v = 0; v < vectors; ++v) sum[r][v] = sum[r][v] * alpha;
      }
    }
    if (t.bias != nullptr) {
      V bias[vectors];
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) bias[v] = get(t.bias, v);
#pragma GCC unroll 14
      for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
        for (int v = 0; v < vectors; ++v) sum[r][v] = sum[r][v] + bias[v];
      }
    }
    if (t.residual != nullptr) {
#pragma GCC unroll 14
      for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
        for (int v = 0; v < vectors; ++v) {
          sum[r][v] = sum[r][v] + get(t.residual + r * t.c_stride, v);
        }
      }
    }
    if (e.clamp) {
      const V low = broadcast<T>(e.low);
      const V high = broadcast<T>(e.high);
#pragma GCC unroll 14
      for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
        for (int v = 0; v < vectors; ++v) sum[r][v] = clamp(sum[r][v], low, high);
      }
    }
  }
  if (whole) {
#pragma GCC unroll 14
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) {
        store_vector<T>(t.c + r * t.c_stride + v * width, sum[r][v]);
      }
    }
  } else {
#pragma GCC unroll 14
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) {
        store_part<T>(t.c + r * t.c_stride + v * width, sum[r][v], t.columns - v * width);
      }
    }
  }
}

// The tile of a given height: all are template instances, so no row is computed twice or padded.
template <class T, int vectors>
BASCULE_INLINE void run_rows(int64_t height, const Tile<T>& t) {
  using Function = void (*)(const Tile<T>&);
  constexpr int m = vectors == 1 ? max_narrow_rows : max_rows;
  static constexpr Function functions[14] = {
      run_tile<T, 1, vectors>,
      run_tile<T, 2, vectors>,
      run_tile<T, 3, vectors>,
      run_tile<T, 4, vectors>,
      run_tile<T, 5, vectors>,
      run_tile<T, 6, vectors>,
      run_tile<T, (7 < m ? 7 : m), vectors>,
      run_tile<T, (8 < m ? 8 : m), vectors>,
      run_tile<T, (9 < m ? 9 : m), vectors>,
      run_tile<T, (10 < m ? 10 : m), vectors>,
      run_tile<T, (11 < m ? 11 : m), vectors>,
      run_tile<T, (12 < m ? 12 : m), vectors>,
      run_tile<T, (13 < m ? 13 : m), vectors>,
      run_tile<T, m, vectors>,
  };
  functions[height - 1](t);
}

template <class T>
void pack_columns(const T* b, int64_t row_stride, int64_t column_stride, int64_t k, int64_t columns,
                  T* panel) {
  constexpr int width = panel_width<T>;
  if (column_stride == 1) {
    for (int64_t i = 0; i < k; ++i) {
      const T* from = b + i * row_stride;
      T* to = panel + i * width;
      if (columns == width) {
        store_vector<T>(to, load_vector<T>(from));
        store_vector<T>(to + width / 2, load_vector<T>(from + width / 2));
        continue;
      }
      for (int64_t j = 0; j < columns; ++j) to[j] = from[j];
      for (int64_t j = columns; j < width; ++j) to[j] = 0;
    }
    return;
  }
  // Blocks of 16 rows: their lines of the panel stay in the first cache while the columns pass.
  constexpr int64_t step = 16;
  for (int64_t i0 = 0; i0 < k; i0 += step) {
    const int64_t count = k - i0 < step ? k - i0 : step;
    T* to = panel + i0 * width;
    for (int64_t j = 0; j < columns; ++j) {
      const T* from = b + i0 * row_stride + j * column_stride;
      for (int64_t i = 0; i < count; ++i) to[i * width + j] = from[i * row_stride];
    }
    for (int64_t j = columns; j < width; ++j) {
      for (int64_t i = 0; i < count; ++i) to[i * width + j] = 0;
    }
  }
}

}  // namespace
}  // namespace bascule::BASCULE_ISA
