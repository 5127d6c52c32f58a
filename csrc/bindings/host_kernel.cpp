// SPDX-License-Identifier: Apache-2.0
#include "bindings/host_kernel.h"

#include <atomic>
#include <string>
#include <vector>

#include "bindings/convert.h"
#include "bindings/interpreter_lock.h"
#include "core/fork_safety.h"

namespace bascule::bindings {

namespace {

// 0: not known. What changes it has Python's lock, or is alone in the child of a fork.
std::atomic<unsigned long> main_thread{0};

std::string text_of(py::handle object) {
  try {
    return py::str(object).cast<std::string>();
  } catch (const py::error_already_set&) {  // its __str__ raises
    return "";
  }
}

[[noreturn]] void raise_pending() {
  auto raised = std::make_shared<py::error_already_set>();
  if (!raised->matches(PyExc_Exception)) throw Interruption{std::move(raised)};
  std::string message = text_of(raised->type().attr("__name__"));
  const std::string text = text_of(raised->value());
  if (!text.empty()) message += ": " + text;
  throw Error(Code::fail, message, std::move(raised));
}

std::string type_text(const ValueSpec& spec) {
  std::string text = spec.dtype == DType::undefined
                         ? "a tensor"
                         : std::string("tensor(") + name_of(spec.dtype) + ")";
  if (!spec.shape) return text;
  text += "{";
  for (int axis = 0; axis < spec.rank(); ++axis) {
    text += (axis ? "," : "") + (spec.dim(axis) < 0 ? "?" : std::to_string(spec.dim(axis)));
  }
  return text + "}";
}

// Whether an array's memory is its own and no reference but one leads to it.
bool is_only_ours(const PyObject* object) {
  while (Py_REFCNT(const_cast<PyObject*>(object)) == 1) {
    const auto* array = py::detail::array_proxy(object);
    constexpr int needed =
        py::detail::npy_api::NPY_ARRAY_OWNDATA_ | py::detail::npy_api::NPY_ARRAY_WRITEABLE_;
    if ((array->flags & needed) == needed) return true;
    if (array->base == nullptr || !py::isinstance<py::array>(array->base)) return false;
    object = array->base;  // a view of an array that nobody else knows
  }
  return false;
}

// A copy that is C-contiguous, aligned and in native byte order.
py::array plain_copy(const py::array& array) {
  const py::object dtype = array.dtype().attr("newbyteorder")("=");
  return py::module_::import("numpy").attr("array")(array, dtype, py::arg("order") = "C");
}

class HostKernel final : public Kernel {
 public:
  HostKernel(const NodeSpec& node, std::shared_ptr<void> function)
      : function_(std::move(function)), outputs_(node.outputs) {
    for (ValueSpec& output : outputs_) output.constant = nullptr;
  }

  void run(RunContext& c) const override {
    std::vector<Value> results;
    {
      const LockHeld locked;
      results = call(c);
    }
    for (size_t i = 0; i < results.size(); ++i) {
      c.set_output(static_cast<int>(i), std::move(results[i]));
    }
  }

 private:
  std::vector<Value> call(const RunContext& c) const {
    try {
      py::tuple arguments(c.input_count());
      for (int i = 0; i < c.input_count(); ++i) {
        arguments[static_cast<size_t>(i)] =
            c.has_input(i) ? to_python(c.value(i), Memory::shared) : py::none();
      }
      PyObject* returned = call_python(static_cast<PyObject*>(function_.get()), arguments.ptr());
      if (returned == nullptr) raise_pending();
      return take(py::reinterpret_steal<py::object>(returned));
    } catch (py::error_already_set& error) {  // of a conversion
      error.restore();
      raise_pending();
    }
  }

  std::vector<Value> take(const py::object& returned) const {
    std::vector<Value> results;
    const bool many = PyTuple_Check(returned.ptr());
    const size_t count = many ? static_cast<size_t>(PyTuple_GET_SIZE(returned.ptr())) : 1;
    if (count < outputs_.size()) {
      fail("the function returned " + std::to_string(count) + " outputs; the node has " +
           std::to_string(outputs_.size()));
    }
    const bool ours = Py_REFCNT(returned.ptr()) == 1;
    for (size_t i = 0; i < outputs_.size(); ++i) {
      PyObject* item =
          many ? PyTuple_GET_ITEM(returned.ptr(), static_cast<Py_ssize_t>(i)) : returned.ptr();
      results.push_back(take_output(i, item, ours));
    }
    return results;
  }

  Value take_output(size_t i, PyObject* item, bool ours) const {
    const ValueSpec& spec = outputs_[i];
    if (!spec.present()) return {};  // not wanted
    if (item == Py_None && spec.optional) return {};
    if (spec.kind == ValueKind::sequence && PyList_Check(item)) {
      Value value = to_value(item, spec.dtype);
      for (const Value& element : value.sequence().items) {
        if (!element.is_tensor() || element.tensor().dtype() != spec.dtype) {
          wrong_output(i, "a list that holds something else");
        }
      }
      return value;
    }
    if (spec.kind != ValueKind::tensor || !py::hasattr(item, "__array__")) {
      wrong_output(i, "an object of type " + text_of(py::type::handle_of(item).attr("__name__")));
    }
    return take_tensor(i, item, ours);
  }

  Value take_tensor(size_t i, PyObject* item, bool ours) const {
    ours = ours && py::isinstance<py::array>(item) && is_only_ours(item);
    py::array array = py::array::ensure(py::reinterpret_borrow<py::object>(item));
    if (!array) raise_pending();
    if (array.dtype().kind() == 'U') array = array.attr("astype")("O");
    const DType dtype = array.dtype().kind() == 'O' ? DType::string : dtype_of_array(array);
    if (dtype == DType::undefined) wrong_output(i, "an array of " + text_of(array.dtype()));
    const Shape shape(array.shape(), array.shape() + array.ndim());
    if (!outputs_[i].takes(dtype, shape)) {
      wrong_output(i, std::string("tensor(") + name_of(dtype) + ")" + shape.text());
    }
    if (!is_plain(array)) {
      array = plain_copy(array);
      ours = true;
    }
    if (dtype == DType::string || is_packed(dtype)) return to_value(array, dtype);
    void* const data = const_cast<void*>(array.data());
    if (!ours) return Tensor(dtype, shape, data).clone();
    return Tensor(dtype, shape, data, keep(std::move(array), data));
  }

  [[noreturn]] void wrong_output(size_t i, const std::string& got) const {
    fail("output " + std::to_string(i) + " '" + outputs_[i].name + "' of the function is " + got +
         "; expected " + (outputs_[i].kind == ValueKind::sequence ? "a list of " : "") +
         type_text(outputs_[i]));
  }

  std::shared_ptr<void> function_;
  std::vector<ValueSpec> outputs_;
};

class PythonOperator final : public HostOperator {
 public:
  explicit PythonOperator(const py::object& function) : function_(keep(function, function.ptr())) {}

  std::unique_ptr<Kernel> kernel(const NodeSpec& node) const override {
    return std::make_unique<HostKernel>(node, function_);
  }
  std::string name() const override { return "HostCall"; }
  std::string runs_by() const override { return "Python"; }
  bool keeps_inputs() const override { return true; }

 private:
  std::shared_ptr<void> function_;
};

}  // namespace

std::shared_ptr<const HostOperator> make_host_operator(const py::object& function) {
  return std::make_shared<PythonOperator>(function);
}

void find_main_thread() {
  const py::object thread = py::module_::import("threading").attr("main_thread")();
  main_thread = thread.attr("ident").cast<unsigned long>();
  // In the child of a fork it is the one that forked.
  after_fork_in_child([] { main_thread = PyThread_get_thread_ident(); });
}

void answer_signals() {
  if (PyThread_get_thread_ident() != main_thread) return;
  const LockHeld locked;
  if (PyErr_CheckSignals() == 0) return;
  throw Interruption{std::make_shared<py::error_already_set>()};
}

}  // namespace bascule::bindings
