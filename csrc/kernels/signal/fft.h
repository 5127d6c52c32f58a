// SPDX-License-Identifier: Apache-2.0
// The fast Fourier transform of any length: Stockham's stages of small factors where the length has
// no other, else as a convolution with chirps by transforms of a power of two (Bluestein). Long
// lines are matrices whose columns, then rows, are transformed while they lie in the cache
// (Bailey's four steps). T is float or double; the factors of unity are computed in double. Several
// lines are transformed side by side: a plane holds [length][lanes] elements, and a line's bits do
// not depend on the others.
#pragma once

#include <algorithm>
#include <complex>
#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/signal/fft_stages.h"

namespace bascule {

template <class T>
class Fft {
 public:
  explicit Fft(int64_t length);

  int64_t length() const { return length_; }
  // How many lines transform() takes at once.
  int64_t most_lanes() const { return lanes_; }
  // Elements of each plane of scratch memory that transform() needs, for one lane.
  int64_t scratch_size() const { return scratch_size_; }

  // y[k] = sum over n of x[n] exp(-2 pi i k n / length). Overwrites x and scratch; the result lies
  // in one of them.
  Planes<T> transform(Planes<T> x, Planes<T> scratch, int64_t lanes) const;

 private:
  struct Stage {
    int64_t radix;
    int64_t count;   // length of the transforms that this stage cuts, over the radix
    int64_t stride;  // how many of them lie side by side
    int64_t roots;   // where its roots start
  };
  void add_stages(const std::vector<int64_t>& factors);
  void add_chirps();
  void add_steps(const std::vector<int64_t>& factors);
  Planes<T> convolve(Planes<T> x, Planes<T> scratch, int64_t lanes) const;
  void transform_columns(Planes<const T> from, Planes<T> to, Planes<T> space, const Fft& fft,
                         int64_t columns, const T* roots) const;

  int64_t length_;
  int64_t lanes_;
  int64_t scratch_size_;
  FftStages<T> loops_;
  std::vector<Stage> stages_;
  std::vector<std::complex<T>> roots_;
  // Bluestein: the transform of the convolution, chirps, and the transform of their conjugates.
  std::unique_ptr<Fft> inner_;
  std::vector<std::complex<T>> chirp_;
  std::vector<std::complex<T>> filter_;
  // Four steps: the transforms of the columns and of the rows.
  std::unique_ptr<Fft> columns_;
  std::unique_ptr<Fft> rows_;
  std::vector<T> turns_;
};

// The transform of real numbers to the first length / 2 + 1 elements, and back. A line of even
// length is a complex one of half the length: element 2n is the real part of n, 2n + 1 the
// imaginary part.
template <class T>
class RealFft {
 public:
  explicit RealFft(int64_t length);

  int64_t length() const { return length_; }
  // Where element i of a line lies: plane (0 real, 1 imaginary), and index in it.
  int64_t plane_of(int64_t i) const { return halves_ ? i % 2 : 0; }
  int64_t index_of(int64_t i) const { return halves_ ? i / 2 : i; }
  // Whether the imaginary plane holds elements; else the caller fills it with zeros.
  bool uses_both_planes() const { return halves_; }

  int64_t most_lanes() const { return inner_.most_lanes(); }
  // Elements of each plane of x, and of scratch memory, for one lane.
  int64_t size() const { return std::max(inner_.scratch_size(), length_ / 2 + 1); }

  Planes<T> transform(Planes<T> x, Planes<T> scratch, int64_t lanes) const;
  // From length / 2 + 1 elements to length times the real line.
  Planes<T> inverse(Planes<T> x, Planes<T> scratch, int64_t lanes) const;

 private:
  int64_t length_;
  bool halves_;
  Fft<T> inner_;
  FftStages<T> loops_;
  std::vector<std::complex<T>> roots_;
};

}  // namespace bascule
