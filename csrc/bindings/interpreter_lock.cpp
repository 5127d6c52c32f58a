// SPDX-License-Identifier: Apache-2.0
#include "bindings/interpreter_lock.h"

#include <chrono>
#include <thread>

namespace bascule::bindings {

namespace {

// Runs `call`, in which Python may end the thread.
//
// Only in functions of their own, never in a destructor: where nothing may be thrown, compilers
// drop what unwinding would do.
template <class Call>
auto unwinding_stops_here(Call&& call) {
  struct Guard {
    bool returned = false;
    ~Guard() {
      while (!returned) std::this_thread::sleep_for(std::chrono::hours(1));
    }
  } guard;
  const auto result = call();
  guard.returned = true;
  return result;
}

[[gnu::noinline]] void take_back(PyThreadState* state) {
  unwinding_stops_here([&] {
    PyEval_RestoreThread(state);
    return true;
  });
}

}  // namespace

LockReleased::LockReleased() : state_(PyEval_SaveThread()) {}
LockReleased::~LockReleased() { take_back(state_); }

LockHeld::LockHeld() : state_(unwinding_stops_here([] { return PyGILState_Ensure(); })) {}
LockHeld::~LockHeld() { PyGILState_Release(state_); }

PyObject* call_python(PyObject* function, PyObject* arguments) {
  return unwinding_stops_here([&] { return PyObject_CallObject(function, arguments); });
}

}  // namespace bascule::bindings
