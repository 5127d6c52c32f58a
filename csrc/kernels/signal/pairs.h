// SPDX-License-Identifier: Apache-2.0
// Pairs of numbers between the lines of a tensor and planes of lines side by side: complex numbers,
// or two neighbours of a real line.
#pragma once

#include "kernels/signal/fft_stages.h"

namespace bascule {

// For most_side_by_side lines, which start at from + starts[lane].
template <class T, class U>
struct Pairs {
  // to.re[i][lane] and to.im[i][lane] = elements 2i and 2i + 1 of the line, for i < n.
  void (*read)(const T* from, const int64_t* starts, int64_t n, Planes<U> to);
  // The way back, times `scale`.
  void (*write)(Planes<const U> from, int64_t n, U scale, T* to, const int64_t* starts);
};

BASCULE_PER_ISA(Pairs<float, float> pairs_f32(); Pairs<float, double> pairs_f32_f64();
                Pairs<double, double> pairs_f64());

}  // namespace bascule
