// SPDX-License-Identifier: Apache-2.0
// How an operator of a library takes part in Programs: what it takes, its types, its kernel.
#pragma once

#include <memory>

#include "runtime/kernel.h"
#include "runtime/operator_library.h"

namespace bascule {

// Operator number `index` of a library. Errors that its library brings about are told as those of
// the node, invalid_graph before a run and fail in one.
std::shared_ptr<HostOperator> make_library_operator(std::shared_ptr<const OperatorLibrary> library,
                                                    size_t index);

}  // namespace bascule
