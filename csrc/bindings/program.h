// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pybind11/pybind11.h>

namespace bascule::bindings {

void bind_program(pybind11::module_& module);

}  // namespace bascule::bindings
