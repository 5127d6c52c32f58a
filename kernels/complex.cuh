// SPDX-License-Identifier: Apache-2.0
// Complex numbers.
#pragma once

#include "common.cuh"

template <typename R>
struct alignas(2 * sizeof(R)) Complex {
  R real, imaginary;

  __device__ Complex& operator+=(const Complex& x) {
    real += x.real;
    imaginary += x.imaginary;
    return *this;
  }
};
using complex64 = Complex<float>;
using complex128 = Complex<double>;
