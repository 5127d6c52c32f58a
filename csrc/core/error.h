// SPDX-License-Identifier: Apache-2.0
// The one exception of the native code; the bindings turn each code into its Python exception.
#pragma once

#include <stdexcept>
#include <string>

namespace bascule {

enum class Code { fail, invalid_argument, invalid_graph, not_implemented };

class Error : public std::runtime_error {
 public:
  Error(Code code, const std::string& message) : std::runtime_error(message), code_(code) {}
  Code code() const { return code_; }

 private:
  Code code_;
};

// Refuses with Code::fail (the usual code of a kernel that cannot go on).
[[noreturn]] inline void fail(const std::string& message) { throw Error(Code::fail, message); }

// Refuses with Code::invalid_argument (an index or a value out of range).
[[noreturn]] inline void invalid(const std::string& message) {
  throw Error(Code::invalid_argument, message);
}

}  // namespace bascule
