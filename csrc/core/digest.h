// SPDX-License-Identifier: Apache-2.0
// A fast keyed hash of 128 bits, at the speed of memory: to tell contents apart, not to sign them.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>

namespace bascule {

// Also the key of a hash. Who does not know the key cannot make two contents of one digest.
struct Digest {
  uint64_t low = 0;
  uint64_t high = 0;
  auto operator<=>(const Digest&) const = default;
};

Digest digest_of(const void* data, size_t bytes, const Digest& key = {});

}  // namespace bascule
