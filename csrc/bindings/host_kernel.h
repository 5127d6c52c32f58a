// SPDX-License-Identifier: Apache-2.0
// Nodes that a Python function runs.
#pragma once

#include <pybind11/pybind11.h>

#include <memory>

#include "runtime/kernel.h"

namespace bascule::bindings {

namespace py = pybind11;

// An operator that calls `function` under Python's lock, with an object for each input of the node,
// in order: arrays, lists for sequences, dicts for maps, None for what is left out or empty. Arrays
// are read-only views without a copy (strings, and elements narrower than a byte, are converted);
// the function may keep them.
//
// It returns an object for each output, a tuple of them where there are more than one. Type, rank
// and fixed sizes must be those that the graph states. An array that nothing else refers to is
// taken over, others are copied. An Exception that it raises ends the run as an error of the node.
std::shared_ptr<const HostOperator> make_host_operator(const py::object& function);

// What a function raised that is no Exception (KeyboardInterrupt, SystemExit), on its way to the
// caller of run. No std::exception: nothing on that way may take it for an error of the node.
struct Interruption {
  std::shared_ptr<py::error_already_set> raised;
};

// Finds Python's main thread, which alone runs the handlers of signals. To be called under Python's
// lock, once, before the first run.
void find_main_thread();

// On the main thread: runs the handlers of the signals that came since; what one of them raises
// (KeyboardInterrupt) is an Interruption. On others: nothing, without asking for Python's lock.
void answer_signals();

}  // namespace bascule::bindings
