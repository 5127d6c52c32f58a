// SPDX-License-Identifier: Apache-2.0
// The tile registers of AMX.
#pragma once

#include <cstddef>

namespace bascule {

// True where this CPU multiplies tiles of bfloat16, the system lets this process use them, and no
// lower level of instructions was asked for.
bool has_bfloat16_tiles();
// The same for 8-bit integers.
bool has_byte_tiles();

// Memory of the calling thread, at least so many bytes at a multiple of 64; it stays until the
// thread ends or asks for more.
void* tile_space(size_t bytes);

}  // namespace bascule
