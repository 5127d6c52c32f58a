// SPDX-License-Identifier: Apache-2.0
#include "kernels/signal/fft.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numbers>
#include <type_traits>

namespace bascule {

namespace {

std::complex<double> root(int64_t k, int64_t n) {
  const double angle = -2 * std::numbers::pi * static_cast<double>(k % n) / static_cast<double>(n);
  return {std::cos(angle), std::sin(angle)};
}

template <class T>
FftStages<T> loops() {
  if constexpr (std::is_same_v<T, float>) {
    return BASCULE_PICK(fft_stages_f32)();
  } else {
    return BASCULE_PICK(fft_stages_f64)();
  }
}

template <class T>
Planes<const T> readable(Planes<T> x) {
  return {x.re, x.im};
}

template <class T>
const T* pairs(const std::vector<std::complex<T>>& roots) {
  return reinterpret_cast<const T*>(roots.data());
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
    if (radix > largest_radix) return {};
    while (n % radix == 0) {
      factors.push_back(radix);
      n /= radix;
    }
  }
  return factors;
}

// Up to this length, lines side by side stay in the cache.
constexpr int64_t longest_side_by_side = 4096;

}  // namespace

template <class T>
Fft<T>::Fft(int64_t length)
    : length_(length), lanes_(most_side_by_side), scratch_size_(length), loops_(loops<T>()) {
  if (length <= 1) return;
  const std::vector<int64_t> factors = factors_of(length);
  if (factors.empty()) {
    add_chirps();
  } else if (length > longest_side_by_side) {
    add_steps(factors);
  } else {
    add_stages(factors);
  }
}

template <class T>
void Fft<T>::add_stages(const std::vector<int64_t>& factors) {
  int64_t left = length_, stride = 1;
  for (const int64_t radix : factors) {
    const int64_t count = left / radix;
    stages_.push_back({radix, count, stride, static_cast<int64_t>(roots_.size())});
    for (int64_t q = 0; q < count; ++q) {
      for (int64_t k = 1; k < radix; ++k) roots_.push_back(std::complex<T>(root(q * k, left)));
    }
    for (int64_t k = 0; radix % 2 == 1 && k < radix; ++k) {
      roots_.push_back(std::complex<T>(root(k, radix)));
    }
    left = count;
    stride *= radix;
  }
}

template <class T>
void Fft<T>::add_chirps() {
  const auto size = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(2 * length_ - 1)));
  inner_ = std::make_unique<Fft>(size);
  lanes_ = inner_->lanes_;
  scratch_size_ = size + inner_->scratch_size_;
  const int64_t space = inner_->scratch_size_;
  std::vector<T> planes(static_cast<size_t>(2 * (size + space)));
  const Planes<T> filter{planes.data(), planes.data() + size};
  // exp(-pi i k^2 / length), with k^2 taken modulo 2 * length as k grows.
  int64_t square = 0;
  for (int64_t k = 0; k < length_; ++k) {
    chirp_.push_back(std::complex<T>(root(square, 2 * length_)));
    for (const int64_t at : {k, (size - k) % size}) {
      filter.re[at] = chirp_.back().real();
      filter.im[at] = -chirp_.back().imag();
    }
    square = (square + 2 * k + 1) % (2 * length_);
  }
  const Planes<T> scratch{planes.data() + 2 * size, planes.data() + 2 * size + space};
  const Planes<T> result = inner_->transform(filter, scratch, 1);
  for (int64_t k = 0; k < size; ++k) filter_.emplace_back(result.re[k], result.im[k]);
}

template <class T>
void Fft<T>::add_steps(const std::vector<int64_t>& factors) {
  int64_t columns = 1;
  for (size_t i = 0; columns * columns < length_; ++i) columns *= factors[i];
  const int64_t rows = length_ / columns;
  columns_ = std::make_unique<Fft>(rows);
  rows_ = std::make_unique<Fft>(columns);
  // For each block of columns that are transformed together, what turn() asks for.
  turns_.resize(static_cast<size_t>(2 * length_));
  for (int64_t begin = 0; begin < columns; begin += columns_->lanes_) {
    const int64_t lanes = std::min(columns_->lanes_, columns - begin);
    T* to = turns_.data() + 2 * begin * rows;
    for (int64_t i = 0; i < rows * lanes; ++i) {
      const std::complex<double> w = root((begin + i % lanes) * (i / lanes), length_);
      to[i] = static_cast<T>(w.real());
      to[rows * lanes + i] = static_cast<T>(w.imag());
    }
  }
  lanes_ = 1;
  for (const Fft* each : {columns_.get(), rows_.get()}) {
    const int64_t space = each->lanes_ * (each->length_ + each->scratch_size_);
    scratch_size_ = std::max(scratch_size_, length_ + space);
  }
}

template <class T>
Planes<T> Fft<T>::transform(Planes<T> x, Planes<T> scratch, int64_t lanes) const {
  if (inner_ != nullptr) return convolve(x, scratch, lanes);
  if (columns_ != nullptr) {
    const int64_t rows = columns_->length_, columns = rows_->length_;
    const Planes<T> space{scratch.re + length_, scratch.im + length_};
    transform_columns(readable(x), scratch, space, *columns_, columns, turns_.data());
    transform_columns(readable(scratch), x, space, *rows_, rows, nullptr);
    return x;
  }
  for (const Stage& stage : stages_) {
    loops_.stage(readable(x), scratch, stage.radix, stage.count, stage.stride * lanes,
                 pairs(roots_) + 2 * stage.roots);
    std::swap(x, scratch);
  }
  return x;
}

// Transforms the columns of from[fft.length()][columns]. With roots, those of turn() block by
// block, the results are multiplied by them and become the rows of `to`; else its columns.
template <class T>
void Fft<T>::transform_columns(Planes<const T> from, Planes<T> to, Planes<T> space, const Fft& fft,
                               int64_t columns, const T* roots) const {
  const int64_t rows = fft.length_;
  for (int64_t column = 0; column < columns; column += fft.lanes_) {
    const int64_t lanes = std::min(fft.lanes_, columns - column);
    for (int64_t i = 0; i < rows; ++i) {
      std::copy_n(from.re + i * columns + column, lanes, space.re + i * lanes);
      std::copy_n(from.im + i * columns + column, lanes, space.im + i * lanes);
    }
    const Planes<T> scratch{space.re + rows * lanes, space.im + rows * lanes};
    const Planes<T> result = fft.transform(space, scratch, lanes);
    if (roots != nullptr) {
      loops_.turn(readable(result), {to.re + column * rows, to.im + column * rows}, rows, lanes,
                  roots + 2 * column * rows);
      continue;
    }
    for (int64_t i = 0; i < rows; ++i) {
      std::copy_n(result.re + i * lanes, lanes, to.re + i * columns + column);
      std::copy_n(result.im + i * lanes, lanes, to.im + i * columns + column);
    }
  }
}

template <class T>
Planes<T> Fft<T>::convolve(Planes<T> x, Planes<T> scratch, int64_t lanes) const {
  const int64_t size = inner_->length_;
  Planes<T> values = scratch, rest{scratch.re + size * lanes, scratch.im + size * lanes};
  loops_.multiply(readable(x), values, length_, lanes, pairs(chirp_), false);
  std::fill_n(values.re + length_ * lanes, (size - length_) * lanes, T{0});
  std::fill_n(values.im + length_ * lanes, (size - length_) * lanes, T{0});
  // The inverse transform is the conjugate of the conjugate's transform.
  const Planes<T> product = inner_->transform(values, rest, lanes);
  loops_.multiply(readable(product), values, size, lanes, pairs(filter_), true);
  const Planes<T> result = inner_->transform(values, rest, lanes);
  const T scale = T{1} / static_cast<T>(size);
  for (int64_t i = 0; i < length_ * lanes; ++i) {
    result.re[i] *= scale;
    result.im[i] *= -scale;
  }
  loops_.multiply(readable(result), x, length_, lanes, pairs(chirp_), false);
  return x;
}

template <class T>
RealFft<T>::RealFft(int64_t length)
    : length_(length),
      halves_(length % 2 == 0),
      inner_(halves_ ? length / 2 : length),
      loops_(loops<T>()) {
  for (int64_t k = 0; halves_ && k <= length / 2; ++k) {
    roots_.push_back(std::complex<T>(root(k, length)));
  }
}

template <class T>
Planes<T> RealFft<T>::transform(Planes<T> x, Planes<T> scratch, int64_t lanes) const {
  const Planes<T> result = inner_.transform(x, scratch, lanes);
  if (!halves_) return result;
  const Planes<T> joined = result.re == x.re ? scratch : x;
  loops_.join_halves(readable(result), joined, length_ / 2, lanes, pairs(roots_));
  return joined;
}

template <class T>
Planes<T> RealFft<T>::inverse(Planes<T> x, Planes<T> scratch, int64_t lanes) const {
  if (halves_) {
    loops_.split_halves(readable(x), scratch, length_ / 2, lanes, pairs(roots_));
    const Planes<T> result = inner_.transform(scratch, x, lanes);
    for (int64_t i = 0; i < length_ / 2 * lanes; ++i) result.im[i] = -result.im[i];
    return result;
  }
  // The conjugate of the whole line, whose transform is real.
  const int64_t bins = length_ / 2 + 1;
  std::fill_n(x.im, lanes, T{0});
  for (int64_t k = bins; k < length_; ++k) {
    for (int64_t lane = 0; lane < lanes; ++lane) {
      x.re[k * lanes + lane] = x.re[(length_ - k) * lanes + lane];
      x.im[k * lanes + lane] = x.im[(length_ - k) * lanes + lane];
    }
  }
  for (int64_t i = lanes; i < bins * lanes; ++i) x.im[i] = -x.im[i];
  return inner_.transform(x, scratch, lanes);
}

template class Fft<float>;
template class Fft<double>;
template class RealFft<float>;
template class RealFft<double>;

}  // namespace bascule
