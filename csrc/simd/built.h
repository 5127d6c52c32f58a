// SPDX-License-Identifier: Apache-2.0
// The instruction-set levels that this build has kernels for.
#pragma once

#include <string>
#include <vector>

namespace bascule {

// Their names, the baseline first.
std::vector<std::string> built_isas();

}  // namespace bascule
