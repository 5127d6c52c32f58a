// SPDX-License-Identifier: Apache-2.0
#include "bindings/graph_builder.h"

#include <pybind11/stl.h>

#include "bindings/convert.h"
#include "bindings/host_kernel.h"
#include "core/mapped_pages.h"
#include "runtime/alternatives.h"
#include "runtime/kernel.h"

namespace bascule::bindings {

namespace {

Attribute to_attribute(py::handle value);

// The memory of an array.array.
template <class T>
std::vector<T> numbers_from(const py::buffer_info& buffer) {
  const T* first = static_cast<const T*>(buffer.ptr);
  return {first, first + buffer.size};
}

Attribute buffer_attribute(const py::buffer_info& buffer) {
  if (buffer.ndim == 1 && buffer.strides[0] == buffer.itemsize) {
    if (buffer.item_type_is_equivalent_to<int64_t>()) return numbers_from<int64_t>(buffer);
    if (buffer.item_type_is_equivalent_to<float>()) return numbers_from<float>(buffer);
  }
  throw Error(Code::not_implemented, "attributes of this kind are not supported");
}

Attribute list_attribute(const py::list& list) {
  if (list.empty() || PyLong_Check(list[0].ptr())) return list.cast<std::vector<int64_t>>();
  if (PyFloat_Check(list[0].ptr())) return list.cast<std::vector<float>>();
  if (py::isinstance<py::str>(list[0])) return list.cast<std::vector<std::string>>();
  throw Error(Code::not_implemented, "attribute lists of this kind are not supported");
}

Attribute to_attribute(py::handle value) {
  if (PyLong_Check(value.ptr())) return value.cast<int64_t>();
  if (PyFloat_Check(value.ptr())) return static_cast<float>(PyFloat_AsDouble(value.ptr()));
  if (py::isinstance<py::str>(value)) return value.cast<std::string>();
  if (py::isinstance<py::list>(value)) return list_attribute(value.cast<py::list>());
  if (py::isinstance<Tensor>(value)) return value.cast<Tensor>();
  if (PyObject_CheckBuffer(value.ptr())) {
    return buffer_attribute(py::reinterpret_borrow<py::buffer>(value).request());
  }
  if (py::isinstance<GraphBuilder>(value)) {
    return std::shared_ptr<const GraphSpec>(
        std::make_shared<GraphSpec>(value.cast<const GraphBuilder&>().graph()));
  }
  throw Error(Code::not_implemented, "attributes of this kind are not supported");
}

}  // namespace

Tensor constant_tensor(DType dtype, const std::vector<int64_t>& shape, const py::object& data,
                       bool mapped) {
  if (dtype == DType::string) return to_value(data, dtype).tensor().reshaped(Shape(shape));
  const auto buffer = py::reinterpret_borrow<py::buffer>(data);
  auto info = std::make_shared<py::buffer_info>(buffer.request());
  const Tensor tensor(dtype, Shape(shape), info->ptr);
  if (info->size * info->itemsize < tensor.bytes()) {
    throw Error(Code::invalid_graph, "a constant of shape " + Shape(shape).text() + " needs " +
                                         std::to_string(tensor.bytes()) + " bytes and has " +
                                         std::to_string(info->size * info->itemsize));
  }
  const Tensor kept(dtype, Shape(shape), info->ptr, keep(data, info->ptr));
  return mapped ? mark_mapped(kept) : kept;
}

int GraphBuilder::add_value(const std::string& name, int kind, bool optional, int dtype,
                            const py::object& shape) {
  ValueSpec value;
  value.name = name;
  value.kind = static_cast<ValueKind>(kind);
  value.optional = optional;
  value.dtype = static_cast<DType>(dtype);
  if (!shape.is_none()) value.shape = shape.cast<std::vector<int64_t>>();
  graph_->values.push_back(std::move(value));
  return static_cast<int>(graph_->values.size()) - 1;
}

void GraphBuilder::set_constant(int value, const std::vector<int64_t>& shape,
                                const py::object& data, bool mapped) {
  ValueSpec& spec = graph_->values.at(static_cast<size_t>(value));
  spec.shape = shape;
  graph_->constants[value] = constant_tensor(spec.dtype, shape, data, mapped);
}

int GraphBuilder::add_node(const std::string& op_type, const std::string& domain,
                           const std::string& name, const std::vector<int>& inputs,
                           const std::vector<int>& outputs, const py::dict& attributes,
                           const py::object& host) {
  GraphSpec::Step step;
  step.node.op_type = op_type;
  step.node.domain = domain;
  step.node.name = name;
  step.inputs = inputs;
  step.outputs = outputs;
  const auto spec = [&](int id) {
    if (id < 0) {
      ValueSpec absent;
      absent.kind = ValueKind::none;
      return absent;
    }
    ValueSpec value = graph_->values.at(static_cast<size_t>(id));
    const auto constant = graph_->constants.find(id);
    if (constant != graph_->constants.end()) value.constant = &constant->second;
    return value;
  };
  for (const auto& [key, value] : attributes) {
    step.node.attributes.emplace(key.cast<std::string>(), to_attribute(value));
  }
  for (const int id : inputs) step.node.inputs.push_back(spec(id));
  for (const int id : outputs) step.node.outputs.push_back(spec(id));
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (step.node.stays_unpacked(i)) step.node.inputs[i].constant = nullptr;
  }
  if (py::isinstance<py::str>(host)) {
    step.node.host_refusal = host.cast<std::string>();
  } else if (py::isinstance<HostOperator>(host)) {
    step.node.host = host.cast<std::shared_ptr<HostOperator>>();
  } else if (!host.is_none()) {
    step.node.host = make_host_operator(host);
  }
  graph_->nodes.push_back(std::move(step));
  return static_cast<int>(graph_->nodes.size()) - 1;
}

py::tuple GraphBuilder::kernel_of(int node) const {
  const KernelChoice choice = choose_kernel(graph_->nodes.at(static_cast<size_t>(node)).node);
  if (choice.entry == nullptr) return py::make_tuple(py::none(), choice.reason);
  return py::make_tuple(choice.name, "");
}

py::list GraphBuilder::types_of(int node) const {
  const NodeSpec& spec = graph_->nodes.at(static_cast<size_t>(node)).node;
  py::list found;
  if (spec.host == nullptr) return found;
  for (const std::optional<OutputType>& type : spec.host->types(spec)) {
    found.append(type ? py::object(py::make_tuple(static_cast<int>(type->dtype), type->shape))
                      : py::object(py::none()));
  }
  return found;
}

std::vector<std::string> GraphBuilder::alternatives_of(int node, int threads) const {
  return alternatives(graph_->nodes.at(static_cast<size_t>(node)).node, threads);
}

void bind_graph_builder(py::module_& module) {
  py::class_<Tensor>(module, "Tensor");
  module.def(
      "tensor",
      [](int dtype, const std::vector<int64_t>& shape, const py::object& data) {
        return constant_tensor(static_cast<DType>(dtype), shape, data, false);
      },
      py::arg("dtype"), py::arg("shape"), py::arg("data"),
      "A tensor attribute over a buffer in the standard's raw form.");
  py::class_<GraphBuilder>(module, "GraphBuilder")
      .def(py::init<std::string>(), py::arg("name"))
      .def("value", &GraphBuilder::add_value, py::arg("name"), py::arg("kind"), py::arg("optional"),
           py::arg("dtype"), py::arg("shape"))
      .def("constant", &GraphBuilder::set_constant, py::arg("value"), py::arg("shape"),
           py::arg("data"), py::arg("mapped") = false)
      .def("input", &GraphBuilder::add_input)
      .def("capture", &GraphBuilder::add_capture)
      .def("output", &GraphBuilder::add_output)
      .def("node", &GraphBuilder::add_node, py::arg("op_type"), py::arg("domain"), py::arg("name"),
           py::arg("inputs"), py::arg("outputs"), py::arg("attributes"),
           py::arg("host") = py::none())
      .def("kernel_of", &GraphBuilder::kernel_of, py::arg("node"))
      .def("types_of", &GraphBuilder::types_of, py::arg("node"))
      .def("alternatives_of", &GraphBuilder::alternatives_of, py::arg("node"), py::arg("threads"));
}

}  // namespace bascule::bindings
