// SPDX-License-Identifier: Apache-2.0
#include "runtime/operator_library.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <set>
#include <tuple>

#include "core/error.h"
#include "core/shared_library.h"
#include "runtime/library_node.h"

namespace bascule {

namespace {

constexpr const char* entry_name = "bascule_operator_library";
constexpr int32_t most_items = 4096;
constexpr uint64_t known_dtypes = (uint64_t{1} << dtype_count) - 2;
constexpr uint64_t strings = uint64_t{1} << static_cast<int>(DType::string);

std::string version_text(uint32_t abi) {
  return std::to_string(abi >> 16) + "." + std::to_string(abi & 0xFFFFu);
}

// The sizes that version 1.0 gave the structures of libraries: the least that they have.
constexpr size_t first_size(const bascule_parameter*) {
  return offsetof(bascule_parameter, same_as) + sizeof(int32_t);
}
constexpr size_t first_size(const bascule_attribute*) {
  return offsetof(bascule_attribute, required) + sizeof(int32_t);
}
constexpr size_t first_size(const bascule_operator*) {
  return offsetof(bascule_operator, compute) + sizeof(void*);
}
constexpr size_t first_size(const bascule_library*) {
  return offsetof(bascule_library, operators) + sizeof(void*);
}

// What a library hands over, as far as both know it; what an older one has not is 0.
template <class T>
T known_part(const T& given) {
  T copy{};
  std::memcpy(&copy, &given, std::min<size_t>(given.size, sizeof(T)));
  return copy;
}

// Reads the descriptions of one library; what is wrong is told by an Error that says where.
class Reader {
 public:
  explicit Reader(std::string path) : path_(std::move(path)) {}

  [[noreturn]] void refuse(const std::string& reason) const {
    fail("Failed to load library " + path_ + ": " + reason);
  }

  std::vector<LibraryOperator> read(const bascule_library& library) {
    std::vector<LibraryOperator> found;
    where_ = "its description";
    check_list(library.operators, library.operator_count, "operators");
    for (int32_t i = 0; i < library.operator_count; ++i) {
      where_ = "operator " + std::to_string(i);
      found.push_back(read_operator(item(library.operators, i, "operator")));
    }
    std::set<std::tuple<std::string, std::string, int>> names;
    for (const LibraryOperator& each : found) {
      if (!names.emplace(each.domain, each.name, each.since).second) {
        refuse("it describes " + each.domain + "." + each.name + " since " +
               std::to_string(each.since) + " twice");
      }
    }
    return found;
  }

 private:
  [[noreturn]] void wrong(const std::string& what) const { refuse(where_ + ": " + what); }

  template <class T>
  void check_list(const T* items, int32_t count, const char* what) const {
    if (count < 0 || count > most_items) {
      wrong("a number of " + std::string(what) + " of " + std::to_string(count));
    }
    if (count > 0 && items == nullptr) wrong("its list of " + std::string(what) + " is NULL");
  }

  // Item i, which has to be there and to have at least its first size.
  template <class T>
  const T& item(const T* const* items, int32_t i, const char* what) const {
    const T* found = items[i];
    if (found == nullptr) wrong(std::string(what) + " " + std::to_string(i) + " is NULL");
    if (found->size < first_size(found)) {
      wrong(std::string(what) + " " + std::to_string(i) + " has a size of " +
            std::to_string(found->size) + " bytes, not " + std::to_string(first_size(found)));
    }
    return *found;
  }

  std::string text(const char* given, const char* what) const {
    if (given == nullptr || *given == '\0') wrong(std::string(what) + " is missing");
    return given;
  }

  LibraryOperator read_operator(const bascule_operator& own) {
    const bascule_operator given = known_part(own);
    LibraryOperator made;
    made.plain = given;
    made.own = &own;
    made.domain = text(given.domain, "its domain");
    made.name = text(given.name, "its name");
    where_ = "operator " + made.domain + "." + made.name;
    made.doc = given.doc != nullptr ? given.doc : "";
    made.since = given.since;
    if (given.since < 1) wrong("since " + std::to_string(given.since) + "; versions begin with 1");
    if (given.compute == nullptr) wrong("it has no function that computes");
    check_list(given.inputs, given.input_count, "inputs");
    check_list(given.outputs, given.output_count, "outputs");
    check_list(given.attributes, given.attribute_count, "attributes");
    for (int32_t i = 0; i < given.input_count; ++i) {
      made.inputs.push_back(
          read_parameter(item(given.inputs, i, "input"), given, i, i + 1 == given.input_count));
    }
    for (int32_t i = 0; i < given.output_count; ++i) {
      made.outputs.push_back(read_parameter(item(given.outputs, i, "output"), given,
                                            given.input_count, i + 1 == given.output_count));
    }
    std::set<std::string> names;
    for (int32_t i = 0; i < given.attribute_count; ++i) {
      made.attributes.push_back(read_attribute(item(given.attributes, i, "attribute")));
      const std::string& name = made.attributes.back().name;
      if (!names.insert(name).second) wrong("it has two attributes '" + name + "'");
    }
    return made;
  }

  // `before`: the inputs whose type the parameter may have.
  LibraryOperator::Parameter read_parameter(const bascule_parameter& given,
                                            const bascule_operator& owner, int32_t before,
                                            bool last) const {
    LibraryOperator::Parameter made;
    made.name = text(given.name, "the name of a parameter");
    made.optional = (given.flags & BASCULE_OPTIONAL) != 0;
    made.variadic = (given.flags & BASCULE_VARIADIC) != 0;
    if (made.variadic && !last) wrong("'" + made.name + "' is variadic and not the last");
    made.dtypes = given.dtypes == 0 ? known_dtypes & ~strings : given.dtypes & known_dtypes;
    if (made.dtypes == 0) wrong("'" + made.name + "' allows no element type");
    if (given.same_as >= std::min(before, owner.input_count)) {
      wrong("'" + made.name + "' has the element type of input " + std::to_string(given.same_as) +
            ", which does not come before it");
    }
    made.same_as = std::max(given.same_as, -1);
    return made;
  }

  LibraryOperator::AttributeRule read_attribute(const bascule_attribute& given) const {
    LibraryOperator::AttributeRule made;
    made.name = text(given.name, "the name of an attribute");
    made.kind = given.kind;
    made.required = given.required != 0;
    const bool is_known = given.kind >= BASCULE_FLOAT && given.kind <= BASCULE_STRINGS &&
                          given.kind != 5 /* a graph */;
    if (!is_known) wrong("attribute '" + made.name + "' is of kind " + std::to_string(given.kind));
    if (given.fallback != nullptr) {
      if (given.fallback->kind != given.kind) {
        wrong("the default of attribute '" + made.name + "' is of another kind");
      }
      const std::optional<Attribute> value = attribute_of(*given.fallback);
      if (!value) wrong("the default of attribute '" + made.name + "' is not complete");
      made.fallback = *value;
    }
    return made;
  }

  std::string path_;
  std::string where_;
};

}  // namespace

const LibraryOperator::Parameter* LibraryOperator::find(const std::vector<Parameter>& parameters,
                                                        size_t i) {
  if (i < parameters.size()) return &parameters[i];
  return !parameters.empty() && parameters.back().variadic ? &parameters.back() : nullptr;
}

std::shared_ptr<const OperatorLibrary> OperatorLibrary::load(const std::string& path) {
  Reader reader(path);
  std::string reason;
  void* handle = open_shared_library(path, &reason);
  if (handle == nullptr) reader.refuse(reason);
  const auto entry =
      reinterpret_cast<bascule_operator_library_function>(find_symbol(handle, entry_name));
  if (entry == nullptr) {
    reason = std::string("it has no function ") + entry_name +
             ", which libraries made with bascule/operator.h have";
    if (find_symbol(handle, "RegisterCustomOps") != nullptr) {
      reason +=
          "; it has RegisterCustomOps, the entry of onnxruntime's C interface for custom "
          "operators, which bascule does not support";
    }
    reader.refuse(reason);
  }
  bascule_error error;
  const bascule_library* library = nullptr;
  try {
    library = entry(&operator_api(), &error);
  } catch (...) {
    error.text = std::string("an exception left ") + entry_name;
  }
  const std::string ours = "; this bascule has version " + version_text(BASCULE_ABI);
  if (library == nullptr) {
    reader.refuse((error.text.empty() ? "it gave no reason" : error.text) + ours);
  }
  if (library->size < first_size(library)) {
    reader.refuse("its description has a size of " + std::to_string(library->size) + " bytes");
  }
  if (library->abi >> 16 != BASCULE_ABI_MAJOR || library->abi > BASCULE_ABI) {
    reader.refuse("it was built for version " + version_text(library->abi) + " of the interface" +
                  ours);
  }
  auto made = std::make_shared<OperatorLibrary>();
  made->operators_ = reader.read(*library);
  made->path_ = path;
  made->name_ = path.substr(path.find_last_of("/\\") + 1);
  made->version_ = library->version != nullptr ? library->version : "";
  return made;
}

}  // namespace bascule
