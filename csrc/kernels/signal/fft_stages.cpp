// SPDX-License-Identifier: Apache-2.0
// instruction sets: base avx2 avx512
#include "kernels/signal/fft_stages.h"

#include "simd/vec.h"

namespace bascule::BASCULE_ISA {
namespace {

typedef double F64 __attribute__((vector_size(vector_bytes)));

template <class T>
struct VectorOf;
template <>
struct VectorOf<float> {
  using type = F32;
};
template <>
struct VectorOf<double> {
  using type = F64;
};

// A complex number, or a vector of them.
template <class V>
struct Complex {
  V re, im;
};
template <class V>
BASCULE_INLINE Complex<V> operator+(Complex<V> a, Complex<V> b) {
  return {a.re + b.re, a.im + b.im};
}
template <class V>
BASCULE_INLINE Complex<V> operator-(Complex<V> a, Complex<V> b) {
  return {a.re - b.re, a.im - b.im};
}
template <class V>
BASCULE_INLINE Complex<V> operator*(Complex<V> a, Complex<V> b) {
  return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}

template <class V, class T>
BASCULE_INLINE Complex<V> read(Planes<const T> x, int64_t i) {
  Complex<V> v;
  __builtin_memcpy(&v.re, x.re + i, sizeof(V));
  __builtin_memcpy(&v.im, x.im + i, sizeof(V));
  return v;
}
template <class V, class T>
BASCULE_INLINE void write(Planes<T> x, int64_t i, Complex<V> v) {
  __builtin_memcpy(x.re + i, &v.re, sizeof(V));
  __builtin_memcpy(x.im + i, &v.im, sizeof(V));
}
template <class V, class T>
BASCULE_INLINE Complex<V> spread(const T* root) {
  return {root[0] - V{}, root[1] - V{}};
}

template <class V>
struct Vectors {
  using type = V;
};

// body(Vectors<V>, i) over [0, n): V a vector, then T itself for what is left.
template <class T, class Body>
BASCULE_INLINE void for_elements(int64_t n, Body&& body) {
  using V = typename VectorOf<T>::type;
  constexpr int64_t width = sizeof(V) / sizeof(T);
  int64_t i = 0;
  for (; i + width <= n; i += width) body(Vectors<V>{}, i);
  for (; i < n; ++i) body(Vectors<T>{}, i);
}

template <class T>
void stage2(Planes<const T> x, Planes<T> y, int64_t count, int64_t stride, const T* roots) {
  const int64_t apart = count * stride;
  for (int64_t q = 0; q < count; ++q) {
    for_elements<T>(stride, [&](auto vectors, int64_t j) {
      using V = typename decltype(vectors)::type;
      const int64_t from = q * stride + j, to = 2 * q * stride + j;
      const Complex<V> a = read<V>(x, from), b = read<V>(x, from + apart);
      write(y, to, a + b);
      write(y, to + stride, (a - b) * spread<V>(roots + 2 * q));
    });
  }
}

template <class T>
void stage4(Planes<const T> x, Planes<T> y, int64_t count, int64_t stride, const T* roots) {
  const int64_t apart = count * stride;
  for (int64_t q = 0; q < count; ++q) {
    const T* root = roots + 6 * q;
    for_elements<T>(stride, [&](auto vectors, int64_t j) {
      using V = typename decltype(vectors)::type;
      using C = Complex<V>;
      const int64_t from = q * stride + j, to = 4 * q * stride + j;
      const C a = read<V>(x, from), b = read<V>(x, from + apart);
      const C c = read<V>(x, from + 2 * apart), d = read<V>(x, from + 3 * apart);
      const C even = a + c, odd = a - c, sum = b + d;
      const C turned{b.im - d.im, d.re - b.re};  // (b - d) / i
      write(y, to, even + sum);
      write(y, to + stride, (odd + turned) * spread<V>(root));
      write(y, to + 2 * stride, (even - sum) * spread<V>(root + 2));
      write(y, to + 3 * stride, (odd - turned) * spread<V>(root + 4));
    });
  }
}

// An odd radix. Elements i and radix - i meet conjugate roots: their sum and their difference are
// what the real and the imaginary parts of the roots multiply. `known` is the radix, or 0.
template <int known, class T>
void stage_odd(Planes<const T> x, Planes<T> y, int64_t asked, int64_t count, int64_t stride,
               const T* roots) {
  constexpr int64_t most = (known ? known : largest_radix) / 2;
  const int64_t radix = known ? known : asked, half = radix / 2;
  const int64_t apart = count * stride;
  const T* unit = roots + 2 * count * (radix - 1);
  for (int64_t q = 0; q < count; ++q) {
    const T* root = roots + 2 * q * (radix - 1);
    for_elements<T>(stride, [&](auto vectors, int64_t j) {
      using V = typename decltype(vectors)::type;
      using C = Complex<V>;
      const int64_t from = q * stride + j, to = radix * q * stride + j;
      const C first = read<V>(x, from);
      C sum[most], difference[most], total = first;
      for (int64_t i = 0; i < half; ++i) {
        const C a = read<V>(x, from + (i + 1) * apart);
        const C b = read<V>(x, from + (radix - 1 - i) * apart);
        sum[i] = a + b;
        difference[i] = a - b;
        total = total + sum[i];
      }
      write(y, to, total);
      for (int64_t k = 1; k <= half; ++k) {
        C even = first, odd{};
        for (int64_t i = 0; i < half; ++i) {
          const T* w = unit + 2 * ((i + 1) * k % radix);
          even = {even.re + sum[i].re * w[0], even.im + sum[i].im * w[0]};
          odd = {odd.re - difference[i].im * w[1], odd.im + difference[i].re * w[1]};
        }
        write(y, to + k * stride, (even + odd) * spread<V>(root + 2 * (k - 1)));
        write(y, to + (radix - k) * stride, (even - odd) * spread<V>(root + 2 * (radix - k - 1)));
      }
    });
  }
}

template <class T>
void stage(Planes<const T> x, Planes<T> y, int64_t radix, int64_t count, int64_t stride,
           const T* roots) {
  switch (radix) {
    case 2:
      return stage2(x, y, count, stride, roots);
    case 3:
      return stage_odd<3>(x, y, radix, count, stride, roots);
    case 4:
      return stage4(x, y, count, stride, roots);
    case 5:
      return stage_odd<5>(x, y, radix, count, stride, roots);
    case 7:
      return stage_odd<7>(x, y, radix, count, stride, roots);
    default:
      return stage_odd<0>(x, y, radix, count, stride, roots);
  }
}

template <class T>
void multiply(Planes<const T> from, Planes<T> to, int64_t n, int64_t stride, const T* roots,
              bool conjugate) {
  const T sign = conjugate ? T{-1} : T{1};
  for (int64_t i = 0; i < n; ++i) {
    for_elements<T>(stride, [&](auto vectors, int64_t j) {
      using V = typename decltype(vectors)::type;
      const int64_t at = i * stride + j;
      const Complex<V> v = read<V>(from, at) * spread<V>(roots + 2 * i);
      write(to, at, Complex<V>{v.re, v.im * sign});
    });
  }
}

// By squares, so that both sides are read and written in runs.
template <class T>
void turn(Planes<const T> from, Planes<T> to, int64_t n, int64_t lanes, const T* roots) {
  constexpr int64_t side = most_side_by_side;
  T re[side * side], im[side * side];
  const Planes<T> square{re, im};
  for (int64_t begin = 0; begin < n; begin += side) {
    const int64_t rows = n - begin < side ? n - begin : side, at = begin * lanes;
    for_elements<T>(rows * lanes, [&](auto vectors, int64_t j) {
      using V = typename decltype(vectors)::type;
      const Planes<const T> root{roots, roots + n * lanes};
      write(square, j, read<V>(from, at + j) * read<V>(root, at + j));
    });
    for (int64_t lane = 0; lane < lanes; ++lane) {
      for (int64_t i = 0; i < rows; ++i) {
        to.re[lane * n + begin + i] = re[i * lanes + lane];
        to.im[lane * n + begin + i] = im[i * lanes + lane];
      }
    }
  }
}

// X[k] = (Z[k] + conj(Z[n-k])) / 2 + root[k] (Z[k] - conj(Z[n-k])) / 2i, with Z[n] = Z[0].
template <class T>
void join_halves(Planes<const T> z, Planes<T> to, int64_t n, int64_t stride, const T* roots) {
  const T half = T{1} / 2;
  const auto join = [&](int64_t k, int64_t from, int64_t mirror) {
    for_elements<T>(stride, [&](auto vectors, int64_t j) {
      using V = typename decltype(vectors)::type;
      using C = Complex<V>;
      const C a = read<V>(z, from * stride + j), b = read<V>(z, mirror * stride + j);
      const C even{a.re + b.re, a.im - b.im}, odd{a.im + b.im, b.re - a.re};
      const C x = even + odd * spread<V>(roots + 2 * k);
      write(to, k * stride + j, C{x.re * half, x.im * half});
    });
  };
  join(0, 0, 0);
  for (int64_t k = 1; k < n; ++k) join(k, k, n - k);
  join(n, 0, 0);
}

// 2 Z[k] = X[k] + conj(X[n-k]) + i (X[k] - conj(X[n-k])) / root[k]. The first and the last element
// of X are real: their imaginary parts are not read.
template <class T>
void split_halves(Planes<const T> x, Planes<T> to, int64_t n, int64_t stride, const T* roots) {
  for (int64_t k = 0; k < n; ++k) {
    const T root[2] = {roots[2 * k], -roots[2 * k + 1]};
    for_elements<T>(stride, [&](auto vectors, int64_t j) {
      using V = typename decltype(vectors)::type;
      using C = Complex<V>;
      C a = read<V>(x, k * stride + j), b = read<V>(x, (n - k) * stride + j);
      if (k == 0) a.im = b.im = V{};
      const C even{a.re + b.re, a.im - b.im};
      const C odd = C{a.re - b.re, a.im + b.im} * spread<V>(root);
      write(to, k * stride + j, C{even.re - odd.im, -(even.im + odd.re)});
    });
  }
}

}  // namespace

FftStages<float> fft_stages_f32() {
  return {stage<float>, multiply<float>, turn<float>, join_halves<float>, split_halves<float>};
}
FftStages<double> fft_stages_f64() {
  return {stage<double>, multiply<double>, turn<double>, join_halves<double>, split_halves<double>};
}

}  // namespace bascule::BASCULE_ISA
