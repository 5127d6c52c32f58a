// SPDX-License-Identifier: Apache-2.0
// The sizes of a tensor, kept without allocation.
#pragma once

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <vector>

#include "core/error.h"

namespace bascule {

// Up to 16 sizes; ONNX models stay far below, and a longer shape is refused with an error.
class Shape {
 public:
  static constexpr int max_rank = 16;

  Shape() = default;
  Shape(std::initializer_list<int64_t> dims) : Shape(dims.begin(), dims.end()) {}
  explicit Shape(std::span<const int64_t> dims) : Shape(dims.begin(), dims.end()) {}
  explicit Shape(const std::vector<int64_t>& dims) : Shape(dims.begin(), dims.end()) {}
  template <class Iterator>
  Shape(Iterator first, Iterator last) {
    check_rank(static_cast<int64_t>(last - first));
    rank_ = static_cast<int>(last - first);
    std::copy(first, last, dims_);
  }
  Shape(const Shape& other) : rank_(other.rank_) { copy(other); }
  Shape& operator=(const Shape& other) {
    rank_ = other.rank_;
    copy(other);
    return *this;
  }

  // `rank` sizes, each `value`.
  static Shape filled(int64_t rank, int64_t value) {
    check_rank(rank);
    Shape shape;
    shape.rank_ = static_cast<int>(rank);
    std::fill_n(shape.dims_, rank, value);
    return shape;
  }

  int rank() const { return rank_; }
  int64_t operator[](int64_t axis) const { return dims_[axis]; }
  int64_t& operator[](int64_t axis) { return dims_[axis]; }
  const int64_t* begin() const { return dims_; }
  const int64_t* end() const { return dims_ + rank_; }
  std::span<const int64_t> dims() const { return {dims_, static_cast<size_t>(rank_)}; }
  int64_t back() const { return dims_[rank_ - 1]; }

  void push_back(int64_t dim) {
    check_rank(rank_ + 1);
    dims_[rank_++] = dim;
  }
  void insert(int axis, int64_t dim) {
    check_rank(rank_ + 1);
    std::copy_backward(dims_ + axis, dims_ + rank_, dims_ + rank_ + 1);
    dims_[axis] = dim;
    ++rank_;
  }
  void erase(int axis) {
    std::copy(dims_ + axis + 1, dims_ + rank_, dims_ + axis);
    --rank_;
  }

  // The product of all sizes; an error when it or a byte count could overflow.
  int64_t size() const { return product(0, rank_); }

  // The product of sizes [first, last).
  int64_t product(int first, int last) const {
    int64_t result = 1;
    bool overflow = false;
    for (int i = first; i < last; ++i)
      overflow |= __builtin_mul_overflow(result, dims_[i], &result);
    if (overflow || result > max_size) fail_size();
    return result;
  }

  // Axis in [-rank, rank) -> [0, rank); an error that names the axis otherwise.
  int axis(int64_t axis) const {
    if (axis < -rank_ || axis >= rank_) {
      throw Error(Code::invalid_argument, "axis " + std::to_string(axis) +
                                              " is out of range for a tensor of rank " +
                                              std::to_string(rank_));
    }
    return static_cast<int>(axis < 0 ? axis + rank_ : axis);
  }

  // Elements from one index of an axis to the next, per axis.
  Shape strides() const {
    Shape result = filled(rank_, 1);
    for (int i = rank_ - 2; i >= 0; --i) result.dims_[i] = result.dims_[i + 1] * dims_[i + 1];
    return result;
  }

  bool operator==(const Shape& other) const {
    return rank_ == other.rank_ && std::equal(begin(), end(), other.begin());
  }

  // "{2,3,37}"
  std::string text() const;

 private:
  static constexpr int64_t max_size = int64_t{1} << 56;
  static void check_rank(int64_t rank) {
    if (rank > max_rank) {
      throw Error(Code::not_implemented,
                  "rank " + std::to_string(rank) + " is above the largest supported rank of 16");
    }
  }
  [[noreturn]] void fail_size() const;
  void copy(const Shape& other) { std::copy_n(other.dims_, other.rank_, dims_); }

  int rank_ = 0;
  int64_t dims_[max_rank];
};

// NumPy's broadcasting of two shapes; an error that names both when they do not fit.
Shape broadcast(const Shape& a, const Shape& b);

}  // namespace bascule
