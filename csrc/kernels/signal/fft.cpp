// SPDX-License-Identifier: Apache-2.0
#include "kernels/signal/fft.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numbers>

namespace bascule {

namespace {

// Larger prime factors cost more than Bluestein's detour.
constexpr int64_t largest_factor = 31;

std::complex<double> root(int64_t k, int64_t n) {
  const double angle = -2 * std::numbers::pi * static_cast<double>(k % n) / static_cast<double>(n);
  return {std::cos(angle), std::sin(angle)};
}

// Without the standard's care for infinities, which costs a call.
template <class T>
std::complex<T> product(std::complex<T> a, std::complex<T> b) {
  return {a.real() * b.real() - a.imag() * b.imag(), a.real() * b.imag() + a.imag() * b.real()};
}

// The factors of n, fours first; empty if one is too large.
std::vector<int64_t> factors_of(int64_t n) {
  std::vector<int64_t> factors;
  for (const int64_t radix : {4, 2}) {
    while (n % radix == 0) {
      factors.push_back(radix);
      n /= radix;
    }
  }
  for (int64_t radix = 3; n > 1; radix += 2) {
    if (radix > largest_factor) return {};
    while (n % radix == 0) {
      factors.push_back(radix);
      n /= radix;
    }
  }
  return factors;
}

template <class T>
void butterflies(const std::complex<T>* x, std::complex<T>* y, int64_t radix, int64_t count,
                 int64_t stride, const std::complex<T>* roots) {
  using C = std::complex<T>;
  const int64_t apart = count * stride;
  if (radix == 2) {
    for (int64_t q = 0; q < count; ++q) {
      const C w = roots[q];
      const C* from = x + q * stride;
      C* to = y + 2 * q * stride;
      for (int64_t j = 0; j < stride; ++j) {
        const C a = from[j], b = from[j + apart];
        to[j] = a + b;
        to[j + stride] = product(a - b, w);
      }
    }
    return;
  }
  if (radix == 4) {
    for (int64_t q = 0; q < count; ++q) {
      const C w1 = roots[3 * q], w2 = roots[3 * q + 1], w3 = roots[3 * q + 2];
      const C* from = x + q * stride;
      C* to = y + 4 * q * stride;
      for (int64_t j = 0; j < stride; ++j) {
        const C a = from[j], b = from[j + apart], c = from[j + 2 * apart], d = from[j + 3 * apart];
        const C even = a + c, odd = a - c, sum = b + d;
        const C turned{b.imag() - d.imag(), d.real() - b.real()};  // (b - d) / i
        to[j] = even + sum;
        to[j + stride] = product(odd + turned, w1);
        to[j + 2 * stride] = product(even - sum, w2);
        to[j + 3 * stride] = product(odd - turned, w3);
      }
    }
    return;
  }
  const C* inside = roots + count * (radix - 1);
  for (int64_t q = 0; q < count; ++q) {
    for (int64_t j = 0; j < stride; ++j) {
      const C* from = x + q * stride + j;
      C* to = y + radix * q * stride + j;
      for (int64_t k = 0; k < radix; ++k) {
        C sum = from[0];
        for (int64_t i = 1; i < radix; ++i) {
          sum += product(from[i * apart], inside[k * radix + i]);
        }
        to[k * stride] = k == 0 ? sum : product(sum, roots[q * (radix - 1) + k - 1]);
      }
    }
  }
}

}  // namespace

template <class T>
Fft<T>::Fft(int64_t length) : length_(length) {
  if (length <= 1) return;
  const std::vector<int64_t> factors = factors_of(length);
  if (factors.empty()) {
    inner_ = std::make_unique<Fft>(
        static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(2 * length - 1))));
    const int64_t size = inner_->length();
    filter_.assign(static_cast<size_t>(size), {});
    // exp(-pi i k^2 / length), with k^2 taken modulo 2 * length as k grows.
    int64_t square = 0;
    for (int64_t k = 0; k < length; ++k) {
      chirp_.push_back(std::complex<T>(root(square, 2 * length)));
      filter_[static_cast<size_t>(k)] = std::conj(chirp_.back());
      if (k > 0) filter_[static_cast<size_t>(size - k)] = std::conj(chirp_.back());
      square = (square + 2 * k + 1) % (2 * length);
    }
    std::vector<std::complex<T>> scratch(static_cast<size_t>(inner_->scratch_size()));
    inner_->transform(filter_.data(), scratch.data());
    return;
  }
  int64_t left = length, stride = 1;
  for (const int64_t radix : factors) {
    const int64_t count = left / radix;
    stages_.push_back({radix, count, stride, static_cast<int64_t>(roots_.size())});
    for (int64_t q = 0; q < count; ++q) {
      for (int64_t k = 1; k < radix; ++k) roots_.push_back(std::complex<T>(root(q * k, left)));
    }
    for (int64_t k = 0; radix % 2 == 1 && k < radix * radix; ++k) {
      roots_.push_back(std::complex<T>(root(k / radix * (k % radix), radix)));
    }
    left = count;
    stride *= radix;
  }
}

template <class T>
int64_t Fft<T>::scratch_size() const {
  return inner_ != nullptr ? 2 * inner_->length() : length_;
}

// Each stage reads one buffer and writes the other, so the order comes out right by itself.
template <class T>
void Fft<T>::run_stages(std::complex<T>* x, std::complex<T>* scratch) const {
  std::complex<T>*from = x, *to = scratch;
  for (const Stage& stage : stages_) {
    butterflies(from, to, stage.radix, stage.count, stage.stride, roots_.data() + stage.roots);
    std::swap(from, to);
  }
  if (from != x) std::copy_n(from, length_, x);
}

template <class T>
void Fft<T>::transform(std::complex<T>* x, std::complex<T>* scratch) const {
  if (length_ <= 1) return;
  if (inner_ == nullptr) return run_stages(x, scratch);
  const int64_t size = inner_->length();
  std::complex<T>*values = scratch, *rest = scratch + size;
  for (int64_t k = 0; k < length_; ++k) values[k] = product(x[k], chirp_[static_cast<size_t>(k)]);
  std::fill(values + length_, values + size, std::complex<T>{});
  inner_->transform(values, rest);
  // The inverse transform is the transform of the conjugate, conjugated.
  for (int64_t k = 0; k < size; ++k) {
    values[k] = std::conj(product(values[k], filter_[static_cast<size_t>(k)]));
  }
  inner_->transform(values, rest);
  const T scale = T{1} / static_cast<T>(size);
  for (int64_t k = 0; k < length_; ++k) {
    x[k] = product(std::conj(values[k]) * scale, chirp_[static_cast<size_t>(k)]);
  }
}

template class Fft<float>;
template class Fft<double>;

}  // namespace bascule
