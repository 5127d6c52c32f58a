// SPDX-License-Identifier: Apache-2.0
// Shared libraries that are loaded by their path.
#pragma once

#include <string>

namespace bascule {

// The library at this path (UTF-8), its symbols for nobody else; nullptr with the system's `reason`
// when it cannot be loaded. It stays until the process ends: threads may be in it at any time.
void* open_shared_library(const std::string& path, std::string* reason);

// What the library exports under this name, or nullptr.
void* find_symbol(void* library, const char* name);

}  // namespace bascule
