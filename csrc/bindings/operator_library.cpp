// SPDX-License-Identifier: Apache-2.0
#include "runtime/operator_library.h"

#include <pybind11/stl.h>

#include "bindings/operator_library.h"
#include "runtime/library_operator.h"

namespace bascule::bindings {

namespace {

py::list parameters(const std::vector<LibraryOperator::Parameter>& given) {
  py::list found;
  for (const auto& each : given) {
    py::dict item;
    item["name"] = each.name;
    item["optional"] = each.optional;
    item["variadic"] = each.variadic;
    item["same_as"] = each.same_as;
    py::list dtypes;
    for (int number = 1; number < dtype_count; ++number) {
      if ((each.dtypes >> number & 1) != 0) dtypes.append(number);
    }
    item["dtypes"] = dtypes;
    found.append(item);
  }
  return found;
}

py::object fallback(const std::optional<Attribute>& value) {
  if (!value) return py::none();
  return std::visit(
      [](const auto& each) -> py::object {
        using T = std::decay_t<decltype(each)>;
        if constexpr (std::is_same_v<T, Tensor> ||
                      std::is_same_v<T, std::shared_ptr<const GraphSpec>>) {
          return py::none();
        } else {
          return py::cast(each);
        }
      },
      *value);
}

py::dict description(const LibraryOperator& op) {
  py::dict found;
  found["domain"] = op.domain;
  found["name"] = op.name;
  found["since"] = op.since;
  found["doc"] = op.doc;
  found["inputs"] = parameters(op.inputs);
  found["outputs"] = parameters(op.outputs);
  py::list attributes;
  for (const auto& each : op.attributes) {
    py::dict item;
    item["name"] = each.name;
    item["kind"] = each.kind;
    item["required"] = each.required;
    item["default"] = fallback(each.fallback);
    attributes.append(item);
  }
  found["attributes"] = attributes;
  return found;
}

}  // namespace

void bind_operator_library(py::module_& module) {
  py::class_<HostOperator, std::shared_ptr<HostOperator>>(module, "HostOperator");
  py::class_<OperatorLibrary, std::shared_ptr<OperatorLibrary>>(module, "OperatorLibrary")
      .def(py::init([](const std::string& path) {
             return std::const_pointer_cast<OperatorLibrary>(OperatorLibrary::load(path));
           }),
           py::arg("path"))
      .def_property_readonly("name", &OperatorLibrary::name)
      .def_property_readonly("version", &OperatorLibrary::version)
      .def("describe",
           [](const OperatorLibrary& library) {
             py::list found;
             for (const LibraryOperator& each : library.operators()) {
               found.append(description(each));
             }
             return found;
           })
      .def(
          "operator",
          [](const std::shared_ptr<OperatorLibrary>& library, size_t index) {
            return make_library_operator(library, index);
          },
          py::arg("index"));
}

}  // namespace bascule::bindings
