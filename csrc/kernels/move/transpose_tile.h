// SPDX-License-Identifier: Apache-2.0
// Transposition of a matrix that fits the caches: the inner part of Transpose.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace bascule {

// to[column][row] = from[row][column]: `rows` rows of `columns` elements. Elements of a row lie
// together in `from`, those of a column in `to`; the distances between rows, and between columns of
// the result, are in bytes.
void transpose_bytes(const std::byte* from, int64_t from_step, std::byte* to, int64_t to_step,
                     int64_t rows, int64_t columns);
// The same of elements of two and of four bytes.
void transpose_2_bytes(const std::byte* from, int64_t from_step, std::byte* to, int64_t to_step,
                       int64_t rows, int64_t columns);
void transpose_4_bytes(const std::byte* from, int64_t from_step, std::byte* to, int64_t to_step,
                       int64_t rows, int64_t columns);

template <class T>
void transpose_tile(const std::byte* from, int64_t from_step, std::byte* to, int64_t to_step,
                    int64_t rows, int64_t columns) {
  if constexpr (sizeof(T) == 4) {
    transpose_4_bytes(from, from_step, to, to_step, rows, columns);
  } else if constexpr (sizeof(T) == 2) {
    transpose_2_bytes(from, from_step, to, to_step, rows, columns);
  } else if constexpr (sizeof(T) == 1) {
    transpose_bytes(from, from_step, to, to_step, rows, columns);
  } else {
    // Squares of 16: whole cache lines are used on both sides while they are in the first level.
    for (int64_t r = 0; r < rows; r += 16) {
      const int64_t last_row = r + 16 < rows ? r + 16 : rows;
      for (int64_t j = 0; j < columns; ++j) {
        std::byte* out = to + j * to_step;
        const std::byte* in = from + j * static_cast<int64_t>(sizeof(T));
        for (int64_t i = r; i < last_row; ++i) {
          std::memcpy(out + i * static_cast<int64_t>(sizeof(T)), in + i * from_step, sizeof(T));
        }
      }
    }
  }
}

}  // namespace bascule
