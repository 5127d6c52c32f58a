// SPDX-License-Identifier: Apache-2.0
// Loads and stores of 8-bit and 16-bit integers as vectors of 32-bit integers.
#pragma once

#include "simd/vec.h"

namespace bascule::BASCULE_ISA {
namespace {

template <class T>
struct NarrowLanes {
  typedef T Vector __attribute__((vector_size(lanes * sizeof(T))));
};

// The first `count` lanes (0 < count <= lanes); the others read as zero / are not written.
template <class T>
BASCULE_INLINE I32 load_narrow(const T* p, int64_t count) {
  typename NarrowLanes<T>::Vector v = {};
  if (count >= lanes) {
    __builtin_memcpy(&v, p, sizeof(v));
  } else {
    for (int64_t i = 0; i < count; ++i) v[i] = p[i];
  }
  return __builtin_convertvector(v, I32);
}

// Keeps the low bits of each lane.
template <class T>
BASCULE_INLINE void store_narrow(T* p, I32 value, int64_t count) {
  const auto v = __builtin_convertvector(value, typename NarrowLanes<T>::Vector);
  if (count >= lanes) {
    __builtin_memcpy(p, &v, sizeof(v));
  } else {
    for (int64_t i = 0; i < count; ++i) p[i] = v[i];
  }
}

}  // namespace
}  // namespace bascule::BASCULE_ISA
