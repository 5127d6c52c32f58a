// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

#include "core/tensor.h"
#include "runtime/run_context.h"

namespace bascule {

// Output 0: the parts (at least one) side by side along `axis`, which may be negative.
void concat(RunContext& c, std::span<const Tensor* const> parts, int64_t axis);

}  // namespace bascule
