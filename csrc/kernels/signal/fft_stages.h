// SPDX-License-Identifier: Apache-2.0
// The loops of the Fourier transform, compiled per instruction set. Real and imaginary parts lie in
// planes of their own, so that neighbouring elements fill a vector: `stride` counts elements that
// are treated alike, be they of one transform or of several transforms side by side. An element's
// bits do not depend on where it lies in a vector. Roots are pairs (real, imaginary).
#pragma once

#include <cstdint>

#include "simd/isa.h"

namespace bascule {

// The most lines that any transform takes at once.
inline constexpr int64_t most_side_by_side = 8;

template <class T>
struct Planes {
  T* re;
  T* im;
};

template <class T>
struct FftStages {
  // One stage of Stockham's algorithm: `count` butterflies of `radix` inputs, count * stride
  // elements apart, to neighbouring outputs. Roots: [count][radix - 1], then [radix] of the radix.
  void (*stage)(Planes<const T> from, Planes<T> to, int64_t radix, int64_t count, int64_t stride,
                const T* roots);
  // to[i] = from[i] * roots[i], for n rows of `stride` elements; conjugated if asked.
  void (*multiply)(Planes<const T> from, Planes<T> to, int64_t n, int64_t stride, const T* roots,
                   bool conjugate);
  // to[lane][i] = from[i][lane] * roots[i][lane], for i < n and up to most_side_by_side lanes.
  // Roots are planes, one after the other.
  void (*turn)(Planes<const T> from, Planes<T> to, int64_t n, int64_t lanes, const T* roots);
  // Z, the transform of the even elements plus i times the odd ones, to the n + 1 first elements of
  // the transform of all 2 n. Roots: exp(-pi i k / n) for k = 0..n.
  void (*join_halves)(Planes<const T> z, Planes<T> to, int64_t n, int64_t stride, const T* roots);
  // The n + 1 first elements of the transform of 2 n real numbers to the conjugate of that of the
  // even elements plus i times the odd ones, times two.
  void (*split_halves)(Planes<const T> x, Planes<T> to, int64_t n, int64_t stride, const T* roots);
};

// The odd factors of a length; larger ones cost more than Bluestein's detour.
inline constexpr int64_t largest_radix = 31;

BASCULE_PER_ISA(FftStages<float> fft_stages_f32(); FftStages<double> fft_stages_f64());

}  // namespace bascule
