// SPDX-License-Identifier: Apache-2.0
// The loop of generated elementwise kernels. A thread computes `width` neighbours of the result at
// a time: operands of the result's shape are read in whole vectors, operands of one element are
// repeated, and others are found through the dimensions that they share with the result.
#pragma once

#include "operators.cuh"
#include "quantized.cuh"

template <typename T, int width>
struct alignas(sizeof(T) * width < 16 ? sizeof(T) * width : 16) Elements {
  T at[width];
};

// Division by `size` (Granlund and Montgomery, 1994).
struct Divisor {
  uint64_t reciprocal;  // 2^64 / size, rounded up; only if size > 1
  uint32_t size, multiplier, shift, unused;
};
// Of numbers below 2^31.
__device__ inline uint32_t divide(uint32_t x, const Divisor& by) {
  return (__umulhi(x, by.multiplier) + x) >> by.shift;
}
// Of numbers with x * size < 2^64.
__device__ inline int64_t divide_long(int64_t x, const Divisor& by) {
  return static_cast<int64_t>(__umul64hi(static_cast<uint64_t>(x), by.reciprocal));
}

constexpr int most_dimensions = 10;

// Where the operands' elements are; neighbouring dimensions that all operands go through alike
// count as one. Bit k of a mask belongs to operand k.
template <int operands>
struct Layout {
  int64_t count;        // of the result's elements
  uint32_t dense;       // of the result's shape
  uint32_t single;      // one element
  uint32_t is_aligned;  // dense operands and results may be accessed in vectors
  uint32_t is_whole;  // the innermost dimension is a whole number of vectors: sizes[0] counts them
  uint32_t rank, unused;
  Divisor sizes[most_dimensions];              // the innermost first
  int64_t strides[operands][most_dimensions];  // in elements; of sizes[0] 0 or 1
};

// The vectors of one thread.
template <int width, int operands>
struct Vectors {
  const Layout<operands>& layout;
  int64_t number;  // of the vector

  __device__ explicit Vectors(const Layout<operands>& layout)
      : layout(layout), number(thread_number()) {}
  __device__ int64_t first() const { return number * width; }
  __device__ bool more() const { return first() < layout.count; }
  __device__ void next() { number += thread_count(); }
  __device__ bool is_full() const { return layout.is_aligned && first() + width <= layout.count; }

  // The offset of operand k at a vector of the result, if dimensions are whole.
  __device__ int64_t offset(int k) const {
    int64_t offset = 0;
    uint32_t place = static_cast<uint32_t>(number);
    const uint32_t last = layout.rank - 1;
    for (uint32_t d = 0; d < last; ++d) {
      const uint32_t rest = divide(place, layout.sizes[d]);
      offset += (place - rest * layout.sizes[d].size) * layout.strides[k][d];
      place = rest;
    }
    return offset + place * layout.strides[k][last];
  }

  template <typename T>
  __device__ Elements<T, width> load(const T* x, int k) const {
    Elements<T, width> result;
    if (layout.dense >> k & 1) {
      if (is_full()) return *reinterpret_cast<const Elements<T, width>*>(x + first());
#pragma unroll
      for (int i = 0; i < width; ++i) {
        const int64_t place = first() + i;
        result.at[i] = x[place < layout.count ? place : first()];
      }
    } else if (layout.single >> k & 1) {
      const T element = *x;
#pragma unroll
      for (int i = 0; i < width; ++i) result.at[i] = element;
    } else if (layout.is_whole) {
      x += offset(k);
      if (layout.strides[k][0] != 0) {
        // The innermost stride is that of a vector.
        return *reinterpret_cast<const Elements<T, width>*>(x);
      }
      const T element = *x;
#pragma unroll
      for (int i = 0; i < width; ++i) result.at[i] = element;
    } else {
      walk(x, k, result);
    }
    return result;
  }

  template <typename T>
  __device__ void store(T* y, const Elements<T, width>& values) const {
    if (is_full()) {
      *reinterpret_cast<Elements<T, width>*>(y + first()) = values;
      return;
    }
#pragma unroll
    for (int i = 0; i < width; ++i) {
      if (first() + i < layout.count) y[first() + i] = values.at[i];
    }
  }

 private:
  // Element by element; a carry into the second dimension needs divisions. Not unrolled: kernels
  // are compiled at run time, and few ever get here.
  template <typename T>
  __device__ void walk(const T* x, int k, Elements<T, width>& result) const {
    T found[width];
    uint32_t inner = 0;
    int64_t from = 0;
#pragma unroll 1
    for (int i = 0; i < width; ++i) {
      const int64_t at = first() + i;
      if (i == 0 || ++inner == layout.sizes[0].size) {
        int64_t place = at < layout.count ? at : first();
        from = 0;
#pragma unroll 1
        for (uint32_t d = 0; d < layout.rank; ++d) {
          const int64_t rest = divide_long(place, layout.sizes[d]);
          const auto coordinate = static_cast<uint32_t>(place - rest * layout.sizes[d].size);
          if (d == 0) inner = coordinate;
          from += coordinate * layout.strides[k][d];
          place = rest;
        }
      } else if (at < layout.count) {
        from += layout.strides[k][0];
      }
      found[i] = x[from];
    }
#pragma unroll
    for (int i = 0; i < width; ++i) result.at[i] = found[i];
  }
};
