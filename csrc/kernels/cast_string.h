// SPDX-License-Identifier: Apache-2.0
// Numbers as text, and text as numbers, as the Cast operator reads and writes them.
#pragma once

#include "core/narrow_float.h"
#include "core/tensor.h"

namespace bascule {

// Writes the elements of `from` as text to the string tensor `to`: the fewest digits that give the
// number back, with an exponent below 1e-4 and from 1e16 on; True and False. Where `format` is not
// null, the floats are those of a packed type.
void cast_to_strings(const Tensor& from, const NarrowFormat* format, Tensor& to);

// Reads numbers from the string tensor `from` as booleans, integers of at least 8 bits, float32 or
// float64; an error that names the text if one is not a number.
void cast_from_strings(const Tensor& from, Tensor& to);

}  // namespace bascule
