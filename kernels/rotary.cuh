// SPDX-License-Identifier: Apache-2.0
// Turning pairs of elements of a head by the angle of its position. A pair is (i, i + half) or,
// interleaved, (2i, 2i + 1).
#pragma once

#include "common.cuh"

template <typename T, int N>
struct alignas(sizeof(T) * N) Vector {
  T at[N];
};

template <typename T>
__device__ inline T not_a_number() {
  return narrow<T>(static_cast<wide_t<T>>(__int_as_float(0x7fc00000)));
}

template <typename T>
__device__ inline void turn(T& first, T& second, T cosine, T sine) {
  using W = wide_t<T>;
  const W x = widen(first), y = widen(second), c = widen(cosine), s = widen(sine);
  first = narrow<T>(c * x - s * y);
  second = narrow<T>(s * x + c * y);
}

// N pairs, number `unit`, of a row: by row `angles` of the tables, or to NaN if that is negative.
template <typename T, int N>
__device__ inline void turn_part(const T* from, const T* cosine, const T* sine, int64_t angles,
                                 T* to, int half, bool interleaved, int unit) {
  using Part = Vector<T, N>;
  Part c, s;
  if (angles >= 0) {
    c = *reinterpret_cast<const Part*>(cosine + angles * half + unit * N);
    s = *reinterpret_cast<const Part*>(sine + angles * half + unit * N);
  } else {
    for (int j = 0; j < N; ++j) c.at[j] = s.at[j] = not_a_number<T>();
  }
  const int low = (interleaved ? 2 : 1) * unit * N, high = low + (interleaved ? N : half);
  Part pair[2] = {*reinterpret_cast<const Part*>(from + low),
                  *reinterpret_cast<const Part*>(from + high)};
  if (interleaved) {
    // Pairs are neighbours in both vectors together.
#pragma unroll
    for (int j = 0; j < N; ++j) {
      turn(pair[2 * j / N].at[2 * j % N], pair[(2 * j + 1) / N].at[(2 * j + 1) % N], c.at[j],
           s.at[j]);
    }
  } else {
#pragma unroll
    for (int j = 0; j < N; ++j) turn(pair[0].at[j], pair[1].at[j], c.at[j], s.at[j]);
  }
  *reinterpret_cast<Part*>(to + low) = pair[0];
  *reinterpret_cast<Part*>(to + high) = pair[1];
}
