// SPDX-License-Identifier: Apache-2.0
#include "runtime/library_call.h"

#include <algorithm>
#include <new>
#include <string>

#include "core/error.h"
#include "core/shape.h"
#include "runtime/operator_library.h"

namespace {

using bascule::DType;
using bascule::Tensor;

// A pointer that is never NULL, also to no elements; but for strings, which are handed out alone.
void* data_of(const Tensor& tensor) {
  if (tensor.dtype() == DType::string) return nullptr;
  alignas(64) static std::byte nothing[64];
  return tensor.size() > 0 ? const_cast<std::byte*>(tensor.raw()) : nothing;
}

bascule_tensor plain(const Tensor& tensor) {
  return {tensor.shape().begin(), data_of(tensor), tensor.rank(),
          static_cast<int32_t>(tensor.dtype())};
}

std::string type_text(DType dtype, const bascule::Shape& shape) {
  return std::string("tensor(") + bascule::name_of(dtype) + ")" + shape.text();
}

bool is_dtype(int32_t number) { return number > 0 && number < bascule::dtype_count; }

// Whether a parameter of the operator allows an element type; what is not declared allows any.
bool allows(const bascule::LibraryOperator::Parameter* parameter, int32_t dtype) {
  return parameter == nullptr || (parameter->dtypes >> dtype & 1) != 0;
}

void check_element(const bascule_tensor& tensor, int64_t element, const char* what, int32_t index) {
  int64_t count = 1;
  for (int32_t axis = 0; axis < tensor.rank; ++axis) count *= tensor.shape[axis];
  const std::string which = std::string(what) + " " + std::to_string(index);
  if (tensor.dtype != static_cast<int32_t>(DType::string)) {
    bascule::fail("the library asks for strings of " + which + ", which has none");
  }
  if (element < 0 || element >= count) {
    bascule::fail("the library asks for string " + std::to_string(element) + " of " + which +
                  ", which has " + std::to_string(count));
  }
}

}  // namespace

bascule_call::bascule_call(bascule::RunContext& run, const bascule::LibraryOperator& which,
                           const bascule_node& of, const std::vector<bascule::ValueSpec>& expected)
    : context(run),
      op(which),
      node(of),
      specs(expected),
      outputs(expected.size(), bascule_tensor{}) {
  inputs.reserve(static_cast<size_t>(context.input_count()));
  for (int i = 0; i < context.input_count(); ++i) {
    inputs.push_back(context.has_input(i) ? plain(context.input(i)) : bascule_tensor{});
  }
}

void bascule_call::check_outputs() const {
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (outputs[i].dtype != 0 || !context.wants_output(static_cast<int>(i))) continue;
    bascule::fail("the library did not make output " + std::to_string(i) + " '" + specs[i].name +
                  "'");
  }
}

const bascule_tensor& bascule_call::make_output(int32_t index, int32_t dtype, int32_t rank,
                                                const int64_t* sizes) {
  const auto i = static_cast<size_t>(index);
  if (index < 0 || i >= outputs.size()) {
    bascule::fail("the library makes output " + std::to_string(index) + "; the node has " +
                  std::to_string(outputs.size()));
  }
  const std::string which = "output " + std::to_string(index) + " '" + specs[i].name + "'";
  if (outputs[i].dtype != 0) bascule::fail("the library makes " + which + " twice");
  if (!is_dtype(dtype) || !allows(bascule::LibraryOperator::find(op.outputs, i), dtype)) {
    bascule::fail("the library gives " + which + " element type " + std::to_string(dtype));
  }
  if (rank < 0 || rank > bascule::Shape::max_rank || (rank > 0 && sizes == nullptr)) {
    bascule::fail("the library gives " + which + " a rank of " + std::to_string(rank) +
                  (sizes == nullptr ? " and no sizes" : ""));
  }
  const bascule::Shape shape(sizes, sizes + rank);
  if (std::any_of(shape.begin(), shape.end(), [](int64_t size) { return size < 0; })) {
    bascule::fail("the library gives " + which + " the shape " + shape.text());
  }
  const auto type = static_cast<DType>(dtype);
  const bascule::ValueSpec& spec = specs[i];
  if (spec.present() && !spec.takes(type, shape)) {
    std::string expected = spec.dtype == DType::undefined
                               ? "a tensor"
                               : std::string("tensor(") + bascule::name_of(spec.dtype) + ")";
    if (spec.shape) {
      expected += "{";
      for (int axis = 0; axis < spec.rank(); ++axis) {
        expected += (axis > 0 ? "," : "") +
                    (spec.dim(axis) < 0 ? std::string("?") : std::to_string(spec.dim(axis)));
      }
      expected += "}";
    }
    bascule::fail("the library makes " + which + " as " + type_text(type, shape) + "; expected " +
                  expected);
  }
  Tensor& made = context.output(index, type, shape);
  outputs[i] = plain(made);
  if (type == DType::string) {
    strings.resize(outputs.size());
    strings[i] = made.data<std::string>();
  }
  return outputs[i];
}

const std::string& bascule_call::input_string(int32_t index, int64_t element) const {
  if (index < 0 || static_cast<size_t>(index) >= inputs.size() ||
      inputs[static_cast<size_t>(index)].dtype == 0) {
    bascule::fail("the library asks for input " + std::to_string(index) + ", which is left out");
  }
  check_element(inputs[static_cast<size_t>(index)], element, "input", index);
  return context.input(index).data<std::string>()[element];
}

std::string& bascule_call::output_string(int32_t index, int64_t element) {
  if (index < 0 || static_cast<size_t>(index) >= outputs.size() ||
      outputs[static_cast<size_t>(index)].dtype == 0) {
    bascule::fail("the library sets output " + std::to_string(index) + ", which it has not made");
  }
  check_element(outputs[static_cast<size_t>(index)], element, "output", index);
  return strings[static_cast<size_t>(index)][element];
}

namespace bascule {

namespace {

template <class T>
T* at(std::vector<T>& items, int32_t index) {
  return index >= 0 && static_cast<size_t>(index) < items.size()
             ? &items[static_cast<size_t>(index)]
             : nullptr;
}

void set_error(bascule_error* error, const char* text, size_t length) {
  if (error == nullptr || text == nullptr) return;
  constexpr size_t most = 1 << 16;
  try {
    error->text.assign(text, std::min(length, most));
  } catch (const std::bad_alloc&) {
  }
}

const char* node_name(const bascule_node* node) { return node->name.c_str(); }

int32_t input_count(const bascule_node* node) { return static_cast<int32_t>(node->inputs.size()); }

int32_t output_count(const bascule_node* node) { return node->output_count; }

const bascule_tensor* input_type(const bascule_node* node, int32_t index) {
  if (index < 0 || static_cast<size_t>(index) >= node->inputs.size()) return nullptr;
  const auto& found = node->inputs[static_cast<size_t>(index)];
  return found != nullptr ? &found->plain : nullptr;
}

const bascule_value* attribute(const bascule_node* node, const char* name) {
  if (name == nullptr) return nullptr;
  const auto found = node->attributes.find(std::string_view(name));
  return found != node->attributes.end() ? found->second->plain() : nullptr;
}

bool is_size_of(const bascule_node& node, int64_t size) {
  for (const auto& input : node.inputs) {
    if (input == nullptr) continue;
    if (std::find(input->shape.begin(), input->shape.end(), size) != input->shape.end())
      return true;
  }
  return false;
}

// What is wrong with the type that a rule gives an output; empty if nothing is.
std::string type_problem(const bascule_node& node, int32_t index, int32_t dtype, int32_t rank,
                         const int64_t* shape) {
  const std::string which = "its rule for types gives output " + std::to_string(index);
  if (index < 0 || static_cast<size_t>(index) >= node.found.size()) {
    return which + " a type; the node has " + std::to_string(node.found.size()) + " outputs";
  }
  if (dtype != 0 && !is_dtype(dtype)) return which + " element type " + std::to_string(dtype);
  if (rank < -1 || rank > Shape::max_rank || (rank > 0 && shape == nullptr)) {
    return which + " a rank of " + std::to_string(rank) + (shape == nullptr ? " and no sizes" : "");
  }
  for (int32_t axis = 0; axis < rank; ++axis) {
    if (shape[axis] < -1 && !is_size_of(node, shape[axis])) {
      return which + " a size of " + std::to_string(shape[axis]);
    }
  }
  return "";
}

int32_t set_output_type(bascule_node* node, int32_t index, int32_t dtype, int32_t rank,
                        const int64_t* shape) {
  if (node->found.empty()) return 1;  // no rule is at work
  try {
    const std::string problem = type_problem(*node, index, dtype, rank, shape);
    if (!problem.empty()) {
      if (node->problem.empty()) node->problem = problem;
      return 1;
    }
    OutputType type{static_cast<DType>(dtype), {}};
    if (rank >= 0) type.shape.emplace(shape, shape + rank);
    node->found[static_cast<size_t>(index)] = std::move(type);
    return 0;
  } catch (const std::bad_alloc&) {
    return 1;
  }
}

const bascule_node* node_of(const bascule_call* call) { return &call->node; }

const bascule_tensor* input(bascule_call* call, int32_t index) {
  const bascule_tensor* found = at(call->inputs, index);
  return found != nullptr && found->dtype != 0 ? found : nullptr;
}

int32_t wants_output(const bascule_call* call, int32_t index) {
  return index >= 0 && call->context.wants_output(index) ? 1 : 0;
}

const bascule_tensor* output(bascule_call* call, int32_t index, int32_t dtype, int32_t rank,
                             const int64_t* shape) {
  const bascule_tensor* made = nullptr;
  call->attempt([&] { made = &call->make_output(index, dtype, rank, shape); });
  return made;
}

const char* get_string(bascule_call* call, int32_t index, int64_t element, int64_t* length) {
  const char* text = nullptr;
  call->attempt([&] {
    const std::string& found = call->input_string(index, element);
    if (length != nullptr) *length = static_cast<int64_t>(found.size());
    text = found.c_str();
  });
  return text;
}

int32_t set_string(bascule_call* call, int32_t index, int64_t element, const char* text,
                   int64_t length) {
  const bool done = call->attempt([&] {
    std::string& target = call->output_string(index, element);
    if (length < 0 || (text == nullptr && length > 0)) {
      fail("the library gives a string of " + std::to_string(length) + " bytes" +
           (text == nullptr ? " and no text" : ""));
    }
    target.assign(text != nullptr ? text : "", static_cast<size_t>(length));
  });
  return done ? 0 : 1;
}

void* workspace(bascule_call* call, int64_t bytes) {
  void* memory = nullptr;
  call->attempt([&] {
    if (bytes < 0) fail("the library asks for " + std::to_string(bytes) + " bytes of memory");
    memory = call->context.workspace(std::max<int64_t>(bytes, 1));
  });
  return memory;
}

int32_t threads(const bascule_call* call) { return call->context.threads(); }

int32_t parallel_for(bascule_call* call, int64_t count, double cost, bascule_body body,
                     void* context) {
  const bool done = call->attempt([&] {
    if (count < 0 || body == nullptr) {
      fail("the library asks for a loop over " + std::to_string(count) + " items" +
           (body == nullptr ? " without a body" : ""));
    }
    // Also a cost that is no number becomes one.
    const double clamped = cost > 1 ? std::min(cost, 1e12) : 1;
    call->context.parallel_for(count, clamped,
                               [&](int64_t begin, int64_t end) { body(context, begin, end); });
  });
  return done ? 0 : 1;
}

}  // namespace

const bascule_api& operator_api() {
  static const bascule_api api = {
      .size = sizeof(bascule_api),
      .abi = BASCULE_ABI,
      .set_error = set_error,
      .node_name = node_name,
      .input_count = input_count,
      .output_count = output_count,
      .input_type = input_type,
      .attribute = attribute,
      .set_output_type = set_output_type,
      .node_of = node_of,
      .input = input,
      .wants_output = wants_output,
      .output = output,
      .get_string = get_string,
      .set_string = set_string,
      .workspace = workspace,
      .threads = threads,
      .parallel_for = parallel_for,
  };
  return api;
}

}  // namespace bascule
