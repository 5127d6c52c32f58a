// SPDX-License-Identifier: Apache-2.0
// Upper and lower case of UTF-8 text, whatever the locale of the process: Latin, Greek, Cyrillic
// and Armenian letters with one counterpart. Everything else, invalid bytes included, stays as it
// is.
#pragma once

#include <string>

namespace bascule {

std::string to_lower(const std::string& text);
std::string to_upper(const std::string& text);

}  // namespace bascule
