// SPDX-License-Identifier: Apache-2.0
// The lines of a tensor that are transformed: where they lie, and their way to planes and back.
#pragma once

#include <algorithm>
#include <type_traits>

#include "kernels/signal/fft.h"
#include "kernels/signal/pairs.h"
#include "runtime/run_context.h"

namespace bascule {

// Lines [first, first + lanes) and the planes for their transform.
template <class T>
struct Lines {
  int64_t first;
  int64_t lanes;
  Planes<T> values;
  Planes<T> scratch;
};

// Line i starts at (i / inner) * outer_step + (i % inner) * inner_step. Its `size` elements are
// `stride` apart, of one part (real) or two.
struct LineLayout {
  int64_t inner;
  int64_t outer_step;
  int64_t inner_step;
  int64_t size;
  int64_t stride;
  int64_t parts;
};

// body(Lines<T>) over lines [0, count), with planes of `size` elements a line.
template <class T, class Transform, class Body>
void for_lines(RunContext& c, const Transform& fft, int64_t size, int64_t count, Body&& body) {
  const int64_t lanes = fft.most_lanes();
  const int64_t blocks = (count + lanes - 1) / lanes;
  const int64_t parts = std::min<int64_t>(c.threads(), std::max<int64_t>(blocks, 1));
  const int64_t each = 4 * size * lanes;
  T* space = c.workspace<T>(parts * each);
  const double cost = static_cast<double>(count) * static_cast<double>(fft.length()) * 10;
  c.parallel_for(parts, cost / static_cast<double>(parts), [&](int64_t begin, int64_t end) {
    for (int64_t part = begin; part < end; ++part) {
      T* values = space + part * each;
      T* scratch = values + 2 * size * lanes;
      for (int64_t i = blocks * part / parts; i < blocks * (part + 1) / parts; ++i) {
        body(Lines<T>{i * lanes,
                      std::min(lanes, count - i * lanes),
                      {values, values + size * lanes},
                      {scratch, scratch + size * lanes}});
      }
    }
  });
}

// Between a tensor's elements T and planes of U.
template <class T, class U>
class LineCopy {
 public:
  // `window`: a factor for each element that is read, or null.
  LineCopy(const LineLayout& layout, const Lines<U>& lines, const T* window = nullptr)
      : layout_(layout), lanes_(lines.lanes), window_(window) {
    for (int64_t lane = 0; lane < lanes_; ++lane) {
      const int64_t line = lines.first + lane;
      starts_[lane] =
          line / layout.inner * layout.outer_step + line % layout.inner * layout.inner_step;
    }
  }

  // The first `length` elements of each line, zeros where it has fewer.
  void read(const T* from, Planes<U> to, int64_t length) const {
    const int64_t known = std::min(length, layout_.size);
    if (in_pairs() && layout_.parts == 2) {
      pairs().read(from, starts_, known, to);
    } else {
      for (int64_t i = 0; i < known; ++i) {
        read_row(from + i * layout_.stride, to.re + i * lanes_);
        if (layout_.parts == 2) read_row(from + i * layout_.stride + 1, to.im + i * lanes_);
      }
      if (layout_.parts == 1) std::fill_n(to.im, known * lanes_, U{0});
    }
    for (int64_t i = 0; window_ != nullptr && i < known; ++i) {
      weigh(to.re + i * lanes_, i);
      weigh(to.im + i * lanes_, i);
    }
    std::fill(to.re + known * lanes_, to.re + length * lanes_, U{0});
    std::fill(to.im + known * lanes_, to.im + length * lanes_, U{0});
  }

  // Real lines, as the transform takes them.
  void read_real(const RealFft<U>& fft, const T* from, Planes<U> to) const {
    const int64_t known = std::min(layout_.size, fft.length());
    const int64_t paired = in_pairs() && fft.uses_both_planes() ? known / 2 : 0;
    pairs().read(from, starts_, paired, to);
    for (int64_t i = 0; i < fft.length(); ++i) {
      U* row = (fft.plane_of(i) == 0 ? to.re : to.im) + fft.index_of(i) * lanes_;
      if (i >= known) {
        std::fill_n(row, lanes_, U{0});
        continue;
      }
      if (i >= 2 * paired) read_row(from + i * layout_.stride, row);
      if (window_ != nullptr) weigh(row, i);
    }
    if (!fft.uses_both_planes()) std::fill_n(to.im, fft.length() * lanes_, U{0});
  }

  // The first `count` elements of each line, times `scale`.
  void write(Planes<U> from, T* to, int64_t count, U scale) const {
    if (in_pairs()) return pairs().write({from.re, from.im}, count, scale, to, starts_);
    for (int64_t i = 0; i < count; ++i) {
      write_row(from.re + i * lanes_, to + i * layout_.stride, scale);
      write_row(from.im + i * lanes_, to + i * layout_.stride + 1, scale);
    }
  }

  // The spectrum of real lines: beyond what the transform gives, it mirrors.
  void write_spectrum(const RealFft<U>& fft, Planes<U> from, T* to) const {
    const int64_t bins = std::min(fft.length() / 2 + 1, layout_.size);
    write(from, to, bins, 1);
    for (int64_t i = bins; i < layout_.size; ++i) {
      const int64_t mirror = fft.length() - i;
      write_row(from.re + mirror * lanes_, to + i * layout_.stride, 1);
      write_row(from.im + mirror * lanes_, to + i * layout_.stride + 1, -1);
    }
  }

  // Real lines that the inverse transform gave, times `scale`.
  void write_real(const RealFft<U>& fft, Planes<U> from, T* to, U scale) const {
    const int64_t paired = in_pairs() && fft.uses_both_planes() ? fft.length() / 2 : 0;
    pairs().write({from.re, from.im}, paired, scale, to, starts_);
    for (int64_t i = 2 * paired; i < fft.length(); ++i) {
      const U* row = (fft.plane_of(i) == 0 ? from.re : from.im) + fft.index_of(i) * lanes_;
      write_row(row, to + i * layout_.stride, scale);
    }
  }

 private:
  static Pairs<T, U> pairs() {
    if constexpr (std::is_same_v<T, double>) {
      return BASCULE_PICK(pairs_f64)();
    } else if constexpr (std::is_same_v<U, double>) {
      return BASCULE_PICK(pairs_f32_f64)();
    } else {
      return BASCULE_PICK(pairs_f32)();
    }
  }
  // Whether an element follows the one before it in memory, in every lane there is.
  bool in_pairs() const { return layout_.stride == layout_.parts && lanes_ == most_side_by_side; }

  void read_row(const T* from, U* row) const {
    for (int64_t lane = 0; lane < lanes_; ++lane) row[lane] = static_cast<U>(from[starts_[lane]]);
  }
  void write_row(const U* row, T* to, U scale) const {
    for (int64_t lane = 0; lane < lanes_; ++lane) {
      to[starts_[lane]] = static_cast<T>(row[lane] * scale);
    }
  }
  void weigh(U* row, int64_t i) const {
    const U weight = static_cast<U>(window_[i]);
    for (int64_t lane = 0; lane < lanes_; ++lane) row[lane] *= weight;
  }

  LineLayout layout_;
  int64_t lanes_;
  const T* window_;
  int64_t starts_[most_side_by_side];
};

}  // namespace bascule
