// SPDX-License-Identifier: Apache-2.0
// Between Python objects and native values.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include "core/digest.h"
#include "core/value.h"

namespace bascule::bindings {

namespace py = pybind11;

// Tells which NumPy dtype stands for each element type: a dict {number: numpy.dtype}. Called once
// when the package is imported. `more` returns the rest, when one that is not among them is met.
void set_dtypes(const py::dict& dtypes, const py::object& more);

// A shared owner that keeps a Python object alive; released under the GIL from any thread.
std::shared_ptr<void> keep(py::object object, void* data);

// Whether an array's memory can be used as it is: C-contiguous, native byte order, aligned.
bool is_plain(const py::array& array);

// An array whose memory can be used as it is. False for every other object, which Python code then
// normalizes.
bool view_array(py::handle object, Tensor* tensor);

// A copy of an array whose elements do not lie side by side, for example of every other row.
bool dense_copy(py::handle object, Tensor* tensor);

// Any feed as a value: arrays (elements narrower than a byte are packed), object arrays of str,
// lists (sequences), dicts from int or str to scalars (maps), None. Throws Error for anything else.
// `dtype` is what an empty list holds.
Value to_value(py::handle object, DType dtype);

// Whose memory the arrays are that Python gets.
enum class Memory {
  own,     // the caller's: memory that something else uses is copied
  shared,  // read-only views that keep the memory alive; only memory without an owner is copied
};

// Arrays, lists, dicts of Python numbers or str, None.
py::object to_python(Value value, Memory memory = Memory::own);

DType dtype_of_array(const py::array& array);

// The 16 bytes of a digest or of its key.
Digest to_digest(const py::bytes& bytes);

}  // namespace bascule::bindings
