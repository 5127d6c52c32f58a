// SPDX-License-Identifier: Apache-2.0
#include "bindings/convert.h"

#include <unordered_map>
#include <utility>
#include <vector>

#include "bindings/interpreter_lock.h"
#include "core/error.h"

namespace bascule::bindings {

namespace {

// Python objects that live as long as the interpreter.
struct Dtypes {
  std::vector<py::object> numpy = std::vector<py::object>(dtype_count);
  std::unordered_map<int, DType> by_number;
  py::object more = py::none();
};

Dtypes& dtypes() {
  static auto* table = new Dtypes;
  return *table;
}

void add_dtypes(const py::dict& table) {
  for (const auto& [key, value] : table) {
    const int number = key.cast<int>();
    const auto dtype = py::reinterpret_borrow<py::dtype>(value);
    dtypes().numpy[static_cast<size_t>(number)] = dtype;
    dtypes().by_number[dtype.num()] = static_cast<DType>(number);
  }
}

void add_more_dtypes() {
  const py::object more = std::exchange(dtypes().more, py::none());
  if (!more.is_none()) add_dtypes(more());
}

int number_of(const py::array& array) {
  return py::detail::array_descriptor_proxy(py::detail::array_proxy(array.ptr())->descr)->type_num;
}

// The UTF-8 form of a str. Bytes that are no UTF-8 stand in it as surrogates (see text_of).
bool read_text(PyObject* item, std::string* text) {
  if (!PyUnicode_Check(item)) return false;
  Py_ssize_t length = 0;
  if (const char* data = PyUnicode_AsUTF8AndSize(item, &length)) {
    text->assign(data, static_cast<size_t>(length));
    return true;
  }
  PyErr_Clear();
  const auto bytes = py::reinterpret_steal<py::object>(
      PyUnicode_AsEncodedString(item, "utf-8", "surrogateescape"));
  if (!bytes) return false;
  text->assign(PyBytes_AS_STRING(bytes.ptr()), static_cast<size_t>(PyBytes_GET_SIZE(bytes.ptr())));
  return true;
}

Tensor strings_from(const py::array& array) {
  const py::array flat = py::array::ensure(array, py::array::c_style);
  Tensor tensor = Tensor::allocate(DType::string, Shape(flat.shape(), flat.shape() + flat.ndim()));
  const auto* items = static_cast<PyObject* const*>(flat.data());
  for (int64_t i = 0; i < tensor.size(); ++i) {
    if (!read_text(items[i], &tensor.data<std::string>()[i])) {
      PyErr_Clear();
      throw Error(Code::invalid_argument,
                  PyUnicode_Check(items[i])
                      ? "item " + std::to_string(i) + " has a lone surrogate, which is no UTF-8"
                      : "a string tensor may only hold str items");
    }
  }
  return tensor;
}

py::object text_of(const std::string& text) {
  PyObject* object =
      PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "surrogateescape");
  if (object == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(object);
}

py::object tensor_to_python(Tensor tensor, Memory memory) {
  std::vector<py::ssize_t> shape(tensor.shape().begin(), tensor.shape().end());
  const auto number = static_cast<size_t>(tensor.dtype());
  if (tensor.dtype() == DType::string) {
    py::array result(py::dtype("O"), shape);
    auto** items = static_cast<PyObject**>(result.mutable_data());
    for (int64_t i = 0; i < tensor.size(); ++i) {
      PyObject* old = items[i];
      items[i] = text_of(tensor.data<std::string>()[i]).release().ptr();
      Py_XDECREF(old);
    }
    return result;
  }
  if (!dtypes().numpy[number]) add_more_dtypes();
  const auto dtype = py::reinterpret_borrow<py::dtype>(dtypes().numpy[number]);
  if (is_packed(tensor.dtype())) {
    py::array result(dtype, shape);
    auto* items = static_cast<uint8_t*>(result.mutable_data());
    const int bits = bits_of(tensor.dtype());
    const bool is_signed = tensor.dtype() == DType::int4 || tensor.dtype() == DType::int2;
    for (int64_t i = 0; i < tensor.size(); ++i) {
      uint8_t pattern = get_packed(tensor.raw(), bits, i);
      if (is_signed && (pattern >> (bits - 1))) pattern |= static_cast<uint8_t>(0xffu << bits);
      items[i] = pattern;
    }
    return result;
  }
  if (memory == Memory::shared) {
    tensor = tensor.owned();
  } else if (!tensor.owner() || tensor.owner().use_count() > 1) {
    tensor = tensor.clone();
  }
  auto owner = std::make_unique<std::shared_ptr<void>>(tensor.owner());
  py::capsule base(owner.get(),
                   [](void* held) { delete static_cast<std::shared_ptr<void>*>(held); });
  (void)owner.release();
  py::array result(dtype, shape, tensor.raw(), base);
  if (memory == Memory::shared) {
    py::detail::array_proxy(result.ptr())->flags &= ~py::detail::npy_api::NPY_ARRAY_WRITEABLE_;
  }
  return result;
}

// A dict from int or str to scalars of one type; `dtype` is that of an empty one.
Value map_from(const py::dict& dict, DType dtype) {
  std::vector<int64_t> integers;
  std::vector<std::string> strings;
  const auto count = static_cast<int64_t>(dict.size());
  Tensor values = Tensor::allocate(dtype, Shape{count});
  int64_t next = 0;
  for (const auto& [key, item] : dict) {
    const Value value = to_value(item, dtype);
    const Tensor& scalar = value.tensor();
    if (scalar.size() != 1 || scalar.dtype() != dtype || is_packed(dtype)) {
      throw Error(Code::invalid_argument, std::string("a map of ") + name_of(dtype) +
                                              " holds a tensor of " + name_of(scalar.dtype()) +
                                              scalar.shape().text());
    }
    Tensor place(dtype, scalar.shape(), values.raw() + next++ * item_size(dtype));
    copy_elements(scalar, place);
    if (py::isinstance<py::str>(key)) {
      strings.push_back(key.cast<std::string>());
    } else {
      integers.push_back(key.cast<int64_t>());
    }
  }
  if (!integers.empty() && !strings.empty()) {
    throw Error(Code::invalid_argument, "the keys of a map are of different types");
  }
  Map::Keys keys;
  if (strings.empty()) {
    keys = std::move(integers);
  } else {
    keys = std::move(strings);
  }
  return Map{std::make_shared<const Map::Keys>(std::move(keys)), std::move(values)};
}

// The keys of the last map that was converted: the maps of a list mostly share them.
struct KeyObjects {
  std::shared_ptr<const Map::Keys> source;
  std::vector<py::object> objects;
};

py::object scalar_to_python(const Tensor& values, int64_t i) {
  switch (values.dtype()) {
    case DType::float32:
      return py::float_(static_cast<double>(values.data<float>()[i]));
    case DType::float64:
      return py::float_(values.data<double>()[i]);
    case DType::int64:
      return py::int_(values.data<int64_t>()[i]);
    case DType::string:
      return text_of(values.data<std::string>()[i]);
    default:
      throw Error(Code::not_implemented,
                  std::string("maps of ") + name_of(values.dtype()) + " are not supported");
  }
}

py::object map_to_python(const Map& map, KeyObjects& keys) {
  if (keys.source != map.keys) {
    keys.source = map.keys;
    keys.objects.clear();
    if (const auto* integers = std::get_if<std::vector<int64_t>>(map.keys.get())) {
      for (const int64_t key : *integers) keys.objects.push_back(py::int_(key));
    } else {
      for (const auto& key : std::get<std::vector<std::string>>(*map.keys)) {
        keys.objects.push_back(text_of(key));
      }
    }
  }
  py::dict result;
  for (size_t i = 0; i < keys.objects.size(); ++i) {
    result[keys.objects[i]] = scalar_to_python(map.values, static_cast<int64_t>(i));
  }
  return result;
}

}  // namespace

void set_dtypes(const py::dict& table, const py::object& more) {
  add_dtypes(table);
  dtypes().more = more;
  // `long` and `long long` are both 64 bits wide on some systems, and distinct to NumPy.
  for (const char* name : {"l", "q", "L", "Q", "i", "I"}) {
    const py::dtype dtype(name);
    const bool is_signed = dtype.kind() == 'i';
    const DType found = dtype.itemsize() == 8 ? (is_signed ? DType::int64 : DType::uint64)
                                              : (is_signed ? DType::int32 : DType::uint32);
    dtypes().by_number.emplace(dtype.num(), found);
  }
}

std::shared_ptr<void> keep(py::object object, void* data) {
  PyObject* held = object.release().ptr();
  return std::shared_ptr<void>(data, [held](void*) {
    if (!Py_IsInitialized()) return;
    const LockHeld locked;
    Py_DECREF(held);
  });
}

DType dtype_of_array(const py::array& array) {
  constexpr int first_of_others = 256;  // NPY_USERDEF: below are NumPy's own
  const int number = number_of(array);
  if (number >= first_of_others && !dtypes().by_number.count(number)) add_more_dtypes();
  const auto found = dtypes().by_number.find(number);
  return found == dtypes().by_number.end() ? DType::undefined : found->second;
}

bool is_plain(const py::array& array) {
  constexpr int needed =
      py::detail::npy_api::NPY_ARRAY_C_CONTIGUOUS_ | py::detail::npy_api::NPY_ARRAY_ALIGNED_;
  if ((array.flags() & needed) != needed) return false;
  const char order =
      py::detail::array_descriptor_proxy(py::detail::array_proxy(array.ptr())->descr)->byteorder;
  return order != '>';
}

bool view_array(py::handle object, Tensor* tensor) {
  if (!py::isinstance<py::array>(object)) return false;
  const auto array = py::reinterpret_borrow<py::array>(object);
  const DType dtype = dtype_of_array(array);
  if (dtype == DType::undefined || dtype == DType::string || is_packed(dtype) || !is_plain(array)) {
    return false;
  }
  *tensor = Tensor(dtype, Shape(array.shape(), array.shape() + array.ndim()),
                   const_cast<void*>(array.data()));
  return true;
}

bool dense_copy(py::handle object, Tensor* tensor) {
  if (!py::isinstance<py::array>(object)) return false;
  const auto array = py::reinterpret_borrow<py::array>(object);
  if (array.flags() & py::array::c_style) return false;
  const auto copy = py::array::ensure(array, py::array::c_style);
  if (!copy || !view_array(copy, tensor)) return false;
  *tensor = Tensor(tensor->dtype(), tensor->shape(), tensor->raw(), keep(copy, tensor->raw()));
  return true;
}

Value to_value(py::handle object, DType dtype) {
  Tensor view;
  if (object.is_none()) return {};
  if (view_array(object, &view)) return view;
  if (py::isinstance<py::array>(object)) {
    const auto array = py::reinterpret_borrow<py::array>(object);
    const DType found = dtype_of_array(array);
    if (array.dtype().kind() == 'O') return strings_from(array);
    if (is_packed(found) && is_plain(array)) {
      Tensor packed = Tensor::allocate(found, Shape(array.shape(), array.shape() + array.ndim()));
      const auto* items = static_cast<const uint8_t*>(array.data());
      for (int64_t i = 0; i < packed.size(); ++i) {
        set_packed(packed.raw(), bits_of(found), i, items[i]);
      }
      return packed;
    }
    throw Error(Code::invalid_argument,
                "unsupported array of dtype " + py::str(array.dtype()).cast<std::string>());
  }
  if (py::isinstance<py::list>(object)) {
    Sequence sequence{dtype, {}};
    for (const py::handle item : py::reinterpret_borrow<py::list>(object)) {
      sequence.items.push_back(to_value(item, dtype).owned());
    }
    return sequence;
  }
  if (py::isinstance<py::dict>(object)) {
    return map_from(py::reinterpret_borrow<py::dict>(object), dtype);
  }
  throw Error(Code::invalid_argument, "Unable to handle object of type " +
                                          py::str(py::type::of(object)).cast<std::string>());
}

py::object to_python(Value value, Memory memory) {
  switch (value.kind()) {
    case ValueKind::none:
      return py::none();
    case ValueKind::tensor: {
      Tensor tensor = std::move(value.tensor());
      value = Value();
      return tensor_to_python(std::move(tensor), memory);
    }
    case ValueKind::sequence: {
      py::list result;
      KeyObjects keys;
      for (const Value& item : value.sequence().items) {
        result.append(item.kind() == ValueKind::map ? map_to_python(item.map(), keys)
                                                    : to_python(item, memory));
      }
      return result;
    }
    case ValueKind::map: {
      KeyObjects keys;
      return map_to_python(value.map(), keys);
    }
    case ValueKind::sparse_tensor: {
      const SparseTensor& sparse = value.sparse_tensor();
      return py::make_tuple(
          to_python(Value(sparse.values), memory), to_python(Value(sparse.indices), memory),
          std::vector<int64_t>(sparse.dense_shape.begin(), sparse.dense_shape.end()));
    }
  }
  return py::none();
}

Digest to_digest(const py::bytes& bytes) {
  const std::string_view text = bytes;
  Digest digest;
  if (text.size() != sizeof(digest)) throw py::value_error("a digest has 16 bytes");
  std::memcpy(&digest, text.data(), sizeof(digest));
  return digest;
}

}  // namespace bascule::bindings
