// SPDX-License-Identifier: Apache-2.0
// The one exception of the native code; the bindings turn each code into its Python exception.
#pragma once

#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

namespace bascule {

enum class Code { fail, invalid_argument, invalid_graph, not_implemented };

class Error : public std::runtime_error {
 public:
  // `cause` is what a caller of another language raised, kept for it.
  Error(Code code, const std::string& message, std::shared_ptr<const void> cause = nullptr)
      : std::runtime_error(message), code_(code), cause_(std::move(cause)) {}
  Code code() const { return code_; }
  const std::shared_ptr<const void>& cause() const { return cause_; }

 private:
  Code code_;
  std::shared_ptr<const void> cause_;
};

// Refuses with Code::fail (the usual code of a kernel that cannot go on).
[[noreturn]] inline void fail(const std::string& message) { throw Error(Code::fail, message); }

// Refuses with Code::invalid_argument (an index or a value out of range).
[[noreturn]] inline void invalid(const std::string& message) {
  throw Error(Code::invalid_argument, message);
}

}  // namespace bascule
