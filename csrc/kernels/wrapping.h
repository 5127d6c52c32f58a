// SPDX-License-Identifier: Apache-2.0
// Sums and products in which integers wrap around, without undefined behaviour. Of booleans they
// are "or" and "and".
#pragma once

#include <type_traits>

namespace bascule {

// The unsigned type that integers of type T are added in: no narrower than unsigned, or they would
// be promoted to int.
template <class T>
using Wrapping = std::common_type_t<std::make_unsigned_t<T>, unsigned>;

template <class T>
T wrapping_add(const T& a, const T& b) {
  if constexpr (std::is_same_v<T, bool>) {
    return a || b;
  } else if constexpr (std::is_integral_v<T>) {
    return static_cast<T>(static_cast<Wrapping<T>>(a) + static_cast<Wrapping<T>>(b));
  } else {
    return a + b;
  }
}

template <class T>
T wrapping_multiply(const T& a, const T& b) {
  if constexpr (std::is_same_v<T, bool>) {
    return a && b;
  } else if constexpr (std::is_integral_v<T>) {
    return static_cast<T>(static_cast<Wrapping<T>>(a) * static_cast<Wrapping<T>>(b));
  } else {
    return a * b;
  }
}

}  // namespace bascule
