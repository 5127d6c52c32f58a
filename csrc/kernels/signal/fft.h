// SPDX-License-Identifier: Apache-2.0
// The fast Fourier transform of any length: stages of small factors where the length has no other,
// else as a convolution with chirps by transforms of a power of two (Bluestein). T is
// float or double; the factors of unity are computed in double.
#pragma once

#include <complex>
#include <cstdint>
#include <memory>
#include <vector>

namespace bascule {

template <class T>
class Fft {
 public:
  explicit Fft(int64_t length);

  int64_t length() const { return length_; }
  // Elements of scratch memory that transform() needs.
  int64_t scratch_size() const;

  // x[k] = sum over n of x[n] exp(-2 pi i k n / length), in place.
  void transform(std::complex<T>* x, std::complex<T>* scratch) const;

 private:
  struct Stage {
    int64_t radix;
    int64_t count;   // length of the transforms that this stage cuts, over the radix
    int64_t stride;  // how many of them lie side by side
    int64_t roots;   // where its factors start: [count][radix - 1], then [radix][radix] if odd
  };
  void run_stages(std::complex<T>* x, std::complex<T>* scratch) const;

  int64_t length_;
  std::vector<Stage> stages_;
  std::vector<std::complex<T>> roots_;
  // Bluestein: chirps, and the transform of their conjugates.
  std::unique_ptr<Fft> inner_;
  std::vector<std::complex<T>> chirp_;
  std::vector<std::complex<T>> filter_;
};

}  // namespace bascule
