// SPDX-License-Identifier: Apache-2.0
// Libraries of operators, for Python.
#pragma once

#include <pybind11/pybind11.h>

namespace bascule::bindings {

namespace py = pybind11;

void bind_operator_library(py::module_& module);

}  // namespace bascule::bindings
