// SPDX-License-Identifier: Apache-2.0
// Copies that go past the caches.
#pragma once

#include <cstddef>
#include <cstdint>

namespace bascule {

// Copies to memory that nobody reads soon: it is neither read before it is written, nor takes the
// place of anything in the caches. What it is copied from stays in them.
void stream_copy(const std::byte* from, int64_t bytes, std::byte* to);

}  // namespace bascule
