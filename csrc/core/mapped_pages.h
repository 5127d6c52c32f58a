// SPDX-License-Identifier: Apache-2.0
// Giving back the pages of a mapped file once a weight has been packed.
#pragma once

#include "core/tensor.h"

namespace bascule {

// Tells the system that the whole pages inside this constant are not needed in memory; they can be
// read again from the file at any time. Does nothing for memory that is not a read-only file
// mapping (see mark_mapped).
void release_mapped_pages(const Tensor& tensor);

// Wraps the owner of a tensor that views a read-only file mapping, so that release_mapped_pages
// knows it.
Tensor mark_mapped(const Tensor& tensor);

}  // namespace bascule
