// SPDX-License-Identifier: Apache-2.0
// Letting go of Python's lock and taking it back.
//
// Before 3.14, Python ends a thread that asks for the lock while the interpreter shuts down by
// unwinding its stack: destructors would run without an interpreter, and the first of them that may
// not throw ends the process. Here such a thread sleeps until the process is gone, as from 3.14 on.
#pragma once

#include <pybind11/pybind11.h>

namespace bascule::bindings {

class LockReleased {
 public:
  LockReleased();
  LockReleased(const LockReleased&) = delete;
  LockReleased& operator=(const LockReleased&) = delete;
  ~LockReleased();

 private:
  PyThreadState* state_;
};

// May be nested, on a thread of Python's or any other.
class LockHeld {
 public:
  LockHeld();
  LockHeld(const LockHeld&) = delete;
  LockHeld& operator=(const LockHeld&) = delete;
  ~LockHeld();

 private:
  PyGILState_STATE state_;
};

// PyObject_CallObject under the lock: the function may let go of it and ask for it again.
PyObject* call_python(PyObject* function, PyObject* arguments);

}  // namespace bascule::bindings
