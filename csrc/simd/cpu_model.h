// SPDX-License-Identifier: Apache-2.0
// Which model of processor this is.
#pragma once

#include <string>

namespace bascule {

// The name that the processor gives itself; empty where it has none.
std::string cpu_model();

}  // namespace bascule
