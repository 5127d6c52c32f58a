// SPDX-License-Identifier: Apache-2.0
// Libraries of operators (bascule/operator_abi.h): loading one, and what it says of itself.
#pragma once

#include <bascule/operator_abi.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runtime/node.h"

namespace bascule {

// An operator as a library describes it, checked and copied.
struct LibraryOperator {
  struct Parameter {
    std::string name;
    bool optional = false;
    bool variadic = false;
    uint64_t dtypes = 0;  // bit n: DType n may be
    int same_as = -1;     // the input whose element type it has
  };
  struct AttributeRule {
    std::string name;
    int kind = 0;
    bool required = false;
    std::optional<Attribute> fallback;
  };

  // The parameter that input or output i is one of, or nullptr.
  static const Parameter* find(const std::vector<Parameter>& parameters, size_t i);

  bascule_operator plain;       // its functions
  const bascule_operator* own;  // what they are handed
  std::string domain, name, doc;
  int since = 1;
  std::vector<Parameter> inputs, outputs;
  std::vector<AttributeRule> attributes;
};

class OperatorLibrary {
 public:
  // Loads the library at a path. An Error, fail, says why it cannot be used.
  static std::shared_ptr<const OperatorLibrary> load(const std::string& path);

  const std::string& path() const { return path_; }
  // The name of the file.
  const std::string& name() const { return name_; }
  // What the library says of its version; perhaps empty.
  const std::string& version() const { return version_; }
  const std::vector<LibraryOperator>& operators() const { return operators_; }

 private:
  std::string path_, name_, version_;
  std::vector<LibraryOperator> operators_;
};

}  // namespace bascule

// Where the text of an error goes.
struct bascule_error {
  std::string text;
};
