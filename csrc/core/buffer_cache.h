// SPDX-License-Identifier: Apache-2.0
// Memory for tensors. Large pieces are kept for a while after they are freed.
#pragma once

#include <cstddef>
#include <memory>

namespace bascule {

// At least `bytes` of uninitialized memory, 64-byte aligned, released with its last owner.
//
// The C library gives large pieces back to the system at once, and every new one then costs a page
// fault for each 4 KB: writing a 16 MB result took ten times as long as computing it. So up to 256
// MB of freed pieces stay with the process. Returns nullptr when there is no memory.
std::shared_ptr<void> allocate_buffer(size_t bytes);

// At least `bytes` of uninitialized memory in pages of 2 MB, each of which is taken from the system
// when it is written for the first time. Given back with its last owner. Returns nullptr where the
// system has no such pages, or no memory.
std::shared_ptr<void> allocate_huge_pages(size_t bytes);

}  // namespace bascule
