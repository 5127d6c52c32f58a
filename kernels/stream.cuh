// SPDX-License-Identifier: Apache-2.0
// What products of a few rows x with weights [n, k] share that run as fast as the weights can be
// read, for 16-bit elements: a normalization of the rows before it, and after it what Epilogue
// does, or a gate. Tensor cores do the arithmetic: a warp takes a tile of 16 columns.
//
// A kernel runs for a few microseconds, in which most of its instructions are read for the first
// time. So loops are not unrolled where it is not worth it.
#pragma once

#include "asynchronous_copy.cuh"
#include "gemv.cuh"
#include "tensor_core.cuh"

constexpr int stream_warps = 16;  // of a block
constexpr int stream_threads = 32 * stream_warps;
constexpr int most_rows = 8;
constexpr int shallow = 3;  // stages at least, where shared memory is short

// What a product has beside its weights.
template <typename T>
struct Product {
  const T* x;
  const T* norm;   // null, or the scale of the normalization
  const T* shift;  // null, or what is added afterwards
  T* y;
  float epsilon;
  int centers;  // whether the normalization takes off the mean
  int m, n, k;
  int gated;     // y is swish(first half of the columns) * second half, + residual
  int constant;  // nobody writes what is read besides x, so that it can be read at any time
};

// Eight elements of a row from k on, zeros behind its end.
template <typename T>
__device__ inline uint4 read_eight(const T* row, int k, int end, bool vectors) {
  if (vectors && k < end) return *reinterpret_cast<const uint4*>(row + k);
  alignas(16) T values[8];
#pragma unroll
  for (int i = 0; i < 8; ++i) values[i] = k + i < end ? row[k + i] : narrow<T>(0.0f);
  return *reinterpret_cast<const uint4*>(values);
}

// The sum over a block by way of `of_warps`, which may be used again after another barrier.
__device__ inline float sum_over_threads(float value, float (&of_warps)[stream_warps]) {
  value = warp_reduce(value, Sum());
  if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = value;
  __syncthreads();
  float sum = 0;
#pragma unroll
  for (int i = 0; i < stream_warps; ++i) sum += of_warps[i];
  return sum;
}

// Takes rows of x to shared memory after their normalization. `Weights` says in which order:
//
// - `place(i)`: where element i of each eight goes to;
// - `note(row, k, end, values)` is told of eight elements, by all lanes.
template <typename T, typename Weights>
struct Stage {
  const Product<T>& p;
  const bool vectors;  // rows, and what belongs to them, can be read 16 bytes at once
  const int end;       // of a row there, with zeros behind what it has
  uint4 scale, shift;  // for this thread's first eight elements

  __device__ Stage(const Product<T>& product, int end)
      : p(product), vectors(are_aligned(product)), end(end) {}

  __device__ static bool are_aligned(const Product<T>& p) {
    const auto bits = reinterpret_cast<uintptr_t>(p.x) | reinterpret_cast<uintptr_t>(p.norm) |
                      reinterpret_cast<uintptr_t>(p.shift);
    return p.k % 8 == 0 && bits % 16 == 0;
  }

  __device__ void read_normalization(int k) {
    if (p.norm != nullptr) scale = read_eight(p.norm, k, p.k, vectors);
    shift = make_uint4(0, 0, 0, 0);
    if (p.shift != nullptr) shift = read_eight(p.shift, k, p.k, vectors);
  }

  // All threads call it, after read_normalization for their first elements.
  __device__ void run(int r, T* staged, const Weights& weights) {
    __shared__ float of_warps[4][stream_warps];
    const T* row = p.x + static_cast<int64_t>(r) * p.k;
    const int first = threadIdx.x * 8, step = stream_threads * 8;
    float values[8], mean = 0, factor = 1;
    if (p.norm != nullptr) {
      if (p.centers) {
        float sum = 0;
#pragma unroll 1
        for (int k = first; k < p.k; k += step) {
          unpack<T>(read_eight(row, k, p.k, vectors), values);
#pragma unroll
          for (int i = 0; i < 8; ++i) sum += values[i];  // zeros behind the end
        }
        mean = sum_over_threads(sum, of_warps[r % 2 * 2]) / p.k;
      }
      float squares = 0;
#pragma unroll 1
      for (int k = first; k < p.k; k += step) {
        unpack<T>(read_eight(row, k, p.k, vectors), values);
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          const float value = k + i < p.k ? values[i] - mean : 0;
          squares += value * value;
        }
      }
      squares = sum_over_threads(squares, of_warps[r % 2 * 2 + 1]);
      factor = 1 / sqrtf(squares / p.k + p.epsilon);
    }
    // Whole warps go on together.
#pragma unroll 1
    for (int k = first; k - static_cast<int>(threadIdx.x) % 32 * 8 < end; k += step) {
      uint4 raw = read_eight(row, k, p.k, vectors);
      if (p.norm != nullptr) {
        if (k != first || (r > 0 && p.k > step)) read_normalization(k);
        float scales[8], shifts[8];
        unpack<T>(raw, values);
        unpack<T>(scale, scales);
        unpack<T>(shift, shifts);
        alignas(16) T normal[8];
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          normal[i] = narrow<T>((values[i] - mean) * factor * scales[i] + shifts[i]);
        }
        raw = *reinterpret_cast<const uint4*>(normal);
        if (k >= p.k) raw = make_uint4(0, 0, 0, 0);
      }
      weights.note(r, k, end, raw);
      alignas(16) T from[8], to[8];
      *reinterpret_cast<uint4*>(from) = raw;
#pragma unroll
      for (int i = 0; i < 8; ++i) to[Weights::place(i)] = from[i];
      if (k < end) *reinterpret_cast<uint4*>(staged + k) = *reinterpret_cast<const uint4*>(to);
    }
  }
};

// An element of the result, and what is added to it, which is read ahead.
template <typename T>
struct Output {
  bool exists;
  int64_t at;
  float bias, of_gate, residual;

  __device__ Output(const Product<T>& p, const Epilogue<T>& epilogue, int row, int column,
                    bool is_there) {
    const int columns = p.gated ? p.n / 2 : p.n;
    at = static_cast<int64_t>(row) * columns + column;
    exists = is_there && column < columns;
    bias = of_gate = residual = 0;
    if (!exists) return;
    if (epilogue.bias != nullptr) {
      bias = widen(epilogue.bias[column]);
      if (p.gated) of_gate = widen(epilogue.bias[column + columns]);
    }
    if (epilogue.residual != nullptr) residual = widen(epilogue.residual[at]);
  }

  // From sums of products, the second that of the gate.
  __device__ void store(const Product<T>& p, const Epilogue<T>& epilogue, float sum,
                        float gate) const {
    float value = sum * epilogue.alpha + bias;
    if (p.gated) {
      value = widen(narrow<T>(value));
      value = value / (1 + expf(-value)) * widen(narrow<T>(gate + of_gate));
    }
    value = activate<float>(epilogue.activation, value + residual, epilogue.activation_alpha,
                            epilogue.activation_beta);
    p.y[at] = narrow<T>(value);
  }
};
