// SPDX-License-Identifier: Apache-2.0
// The extension module bascule._native.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "bindings/convert.h"
#include "bindings/graph_builder.h"
#include "bindings/operator_library.h"
#include "bindings/program.h"
#include "core/digest.h"
#include "core/error.h"
#include "kernels/gemm/half_product.h"
#include "kernels/measure_peak.h"
#include "runtime/kernel.h"
#include "runtime/random.h"
#include "runtime/thread_pool.h"
#include "simd/built.h"
#include "simd/cpu_model.h"
#include "simd/isa.h"
#include "simd/tiles.h"

namespace py = pybind11;

namespace {

// The Python class for each code, given by the package when it is imported.
struct ErrorClasses {
  py::object classes[4];
};

ErrorClasses& error_classes() {
  static auto* table = new ErrorClasses;
  return *table;
}

void set_error_classes(const py::object& fail, const py::object& invalid_argument,
                       const py::object& invalid_graph, const py::object& not_implemented) {
  auto& classes = error_classes().classes;
  classes[static_cast<int>(bascule::Code::fail)] = fail;
  classes[static_cast<int>(bascule::Code::invalid_argument)] = invalid_argument;
  classes[static_cast<int>(bascule::Code::invalid_graph)] = invalid_graph;
  classes[static_cast<int>(bascule::Code::not_implemented)] = not_implemented;
}

// The exception of a Python function is the __cause__ of the pending one.
void set_cause(const bascule::Error& error) {
  py::error_already_set pending;
  const auto* raised = static_cast<const py::error_already_set*>(error.cause().get());
  py::object cause = raised->value();
  if (raised->trace()) PyException_SetTraceback(cause.ptr(), raised->trace().ptr());
  PyException_SetCause(pending.value().ptr(), cause.release().ptr());
  pending.restore();
}

void translate(std::exception_ptr pointer) {
  try {
    if (pointer) std::rethrow_exception(pointer);
  } catch (const bascule::Error& error) {
    const py::object& type = error_classes().classes[static_cast<int>(error.code())];
    PyErr_SetString(type ? type.ptr() : PyExc_RuntimeError, error.what());
    if (error.cause() != nullptr) set_cause(error);
  }
}

py::bytes digest(const py::buffer& data, const py::bytes& key) {
  const py::buffer_info buffer = data.request();
  const bascule::Digest with = bascule::bindings::to_digest(key);
  bascule::Digest found;
  {
    const py::gil_scoped_release unlocked;
    found =
        bascule::digest_of(buffer.ptr, static_cast<size_t>(buffer.size * buffer.itemsize), with);
  }
  return py::bytes(reinterpret_cast<const char*>(&found), sizeof(found));
}

py::bytes float16_product(const py::bytes& a, const py::bytes& b, int64_t m, int64_t k, int64_t n) {
  const auto halves = [](const std::string& text) {
    return reinterpret_cast<const uint16_t*>(text.data());
  };
  const std::string left = a, right = b;
  if (m < 0 || k < 0 || n < 0 || left.size() != static_cast<size_t>(2 * m * k) ||
      right.size() != static_cast<size_t>(2 * k * n)) {
    throw bascule::Error(bascule::Code::invalid_argument, "the sizes do not fit the matrices");
  }
  std::string y(static_cast<size_t>(2 * m * n), 0);
  bascule::float16_product(halves(left), halves(right), m, k, n,
                           reinterpret_cast<uint16_t*>(y.data()));
  return y;
}

py::list kernels() {
  py::list result;
  for (const bascule::KernelEntry& entry : bascule::kernel_registry()) {
    result.append(py::make_tuple(entry.domain, entry.op_type, entry.name));
  }
  return result;
}

}  // namespace

PYBIND11_MODULE(_native, module) {
  module.doc() = "The CPU provider's compiled part.";
  py::register_exception_translator(&translate);
  module.def("set_error_classes", &set_error_classes);
  module.def("set_dtypes", &bascule::bindings::set_dtypes, py::arg("dtypes"), py::arg("more"));
  module.def("active_isa", [] { return bascule::name_of(bascule::active_isa()); });
  module.def("detected_isa", [] { return bascule::name_of(bascule::detected_isa()); });
  module.def("built_isas", &bascule::built_isas);
  module.def("has_bfloat16_tiles", &bascule::has_bfloat16_tiles,
             "Whether products of float32 may go by parts of bfloat16.");
  module.def("cpu_model", &bascule::cpu_model);
  module.def("digest", &digest, py::arg("data"), py::arg("key"),
             "The keyed hash of a contiguous buffer: 16 bytes.");
  module.def("usable_cpus", &bascule::usable_cpus);
  module.def("peak_gflops", &bascule::peak_gflops, py::arg("threads"), py::arg("seconds") = 1.0,
             py::call_guard<py::gil_scoped_release>(),
             "float32 GFLOP/s that so many threads reach in registers.");
  module.def("read_bandwidth", &bascule::read_bandwidth, py::arg("threads"),
             py::arg("seconds") = 1.0, py::arg("bytes") = int64_t{1} << 29,
             py::call_guard<py::gil_scoped_release>(),
             "GB/s that so many threads read from memory.");
  module.def("float16_product", &float16_product, py::arg("a"), py::arg("b"), py::arg("m"),
             py::arg("k"), py::arg("n"), "A product as the level avx512_fp16 makes it, for tests.");
  module.def("set_random_seed", &bascule::set_random_seed);
  module.def("kernels", &kernels, "(domain, operator, kernel) of every registered kernel.");
  bascule::bindings::bind_operator_library(module);
  bascule::bindings::bind_graph_builder(module);
  bascule::bindings::bind_program(module);
}
