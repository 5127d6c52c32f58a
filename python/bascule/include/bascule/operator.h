// SPDX-License-Identifier: Apache-2.0
// Operators in C++20 for bascule: what docs/custom_operators.md describes. A library is one or more
// source files, built into a shared object with nothing to link against (-fvisibility=hidden):
//
//   #include <bascule/operator.h>
//
//   BASCULE_OPERATORS(library) {
//     library.add("my.domain", "Scale", 1, [](bascule::Call& call) {
//              const bascule::Tensor x = call.input(0);
//              const float factor = call.attribute<float>("factor");
//              std::span<float> y = call.output<float>(0, x.shape());
//              for (size_t i = 0; i < y.size(); ++i) y[i] = x.elements<float>()[i] * factor;
//            })
//         .input("x", bascule::DType::float32)
//         .output("y", bascule::same_as(0))
//         .attribute("factor", 1.0f)
//         .types([](bascule::Types& types) { types.set_output_as_input(0, 0); });
//   }
//
// An exception that leaves a function of an operator becomes the error of the node. All is
// hidden from other libraries, so that each may be built against its own version of this file.
#pragma once

#include <bascule/operator_abi.h>
#include <bascule/operator_types.h>

#include <exception>
#include <functional>
#include <initializer_list>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace bascule BASCULE_HIDDEN {

// A node of a model: its attributes, and what is known of its inputs before any run.
class Node {
 public:
  explicit Node(const bascule_node* node) : node_(node) {}

  std::string name() const { return detail::api()->node_name(node_); }
  int input_count() const { return detail::api()->input_count(node_); }
  int output_count() const { return detail::api()->output_count(node_); }
  bool has_input(int i) const { return detail::api()->input_type(node_, i) != nullptr; }

  // The element type of input i; undefined where it is not known.
  DType dtype(int i) const { return static_cast<DType>(type(i).dtype); }
  bool has_rank(int i) const { return type(i).rank >= 0; }
  // The sizes of input i, as far as they are known. Without a rank a rule for types ends here, and
  // what it has not said yet stays unknown; elsewhere it is an error.
  std::vector<Dim> shape(int i) const {
    if (!has_rank(i)) throw detail::Unknown("the rank of input " + std::to_string(i));
    return {type(i).shape, type(i).shape + type(i).rank};
  }
  // Input i where it is a constant of the model.
  bool is_constant(int i) const { return has_input(i) && type(i).data != nullptr; }
  Tensor constant(int i) const {
    if (!is_constant(i)) throw Error("input " + std::to_string(i) + " is no constant");
    return Tensor(&type(i));
  }

  bool has_attribute(const char* name) const {
    return detail::api()->attribute(node_, name) != nullptr;
  }
  // An attribute, or its default. T: int64_t, int, bool, float, std::string, std::vector of
  // int64_t, float or std::string, Tensor.
  template <class T>
  T attribute(const char* name) const {
    const bascule_value* value = detail::api()->attribute(node_, name);
    if (value == nullptr) throw Error("there is no attribute '" + std::string(name) + "'");
    return detail::attribute_of<T>(*value, name);
  }

 protected:
  const bascule_tensor& type(int i) const {
    const bascule_tensor* found = detail::api()->input_type(node_, i);
    if (found == nullptr) throw Error("input " + std::to_string(i) + " is left out");
    return *found;
  }

 private:
  const bascule_node* node_;
};

// What a rule for types and shapes gets: the node, to say what is known of its outputs.
class Types : public Node {
 public:
  explicit Types(bascule_node* node) : Node(node), node_(node) {}

  // Sizes that are not known are Dim(); those of inputs may be handed on as they are.
  void set_output(int i, DType dtype, std::span<const Dim> shape) {
    std::vector<int64_t> sizes;
    for (const Dim& each : shape) sizes.push_back(each.number());
    set(i, dtype, sizes.data(), static_cast<int32_t>(sizes.size()));
  }
  void set_output(int i, DType dtype, std::initializer_list<Dim> shape) {
    set_output(i, dtype, std::span<const Dim>(shape.begin(), shape.size()));
  }
  // Where the rank is not known either.
  void set_output(int i, DType dtype) { set(i, dtype, nullptr, -1); }
  // The type of an input, as far as it is known.
  void set_output_as_input(int i, int input) {
    set(i, dtype(input), type(input).shape, type(input).rank);
  }

 private:
  void set(int i, DType dtype, const int64_t* shape, int32_t rank) {
    const auto number = static_cast<int32_t>(dtype);
    if (detail::api()->set_output_type(node_, i, number, rank, shape) != 0) throw detail::Known();
  }

  bascule_node* node_;
};

// One run of a node. It may be used by the thread that computes; the body of a parallel_for works
// on tensors that were asked for before.
class Call : public Node {
 public:
  explicit Call(bascule_call* call) : Node(detail::api()->node_of(call)), call_(call) {}

  bool has_input(int i) const { return detail::api()->input(call_, i) != nullptr; }
  // Input i; an error if it is left out.
  Tensor input(int i) const {
    const bascule_tensor* found = detail::api()->input(call_, i);
    if (found == nullptr) throw Error("input " + std::to_string(i) + " is left out");
    return Tensor(found);
  }

  // Whether anybody reads output i; one that nobody reads need not be made.
  bool wants_output(int i) const { return detail::api()->wants_output(call_, i) != 0; }

  // Output i with this type and shape, uninitialized. Once for each.
  MutableTensor output(int i, DType dtype, Sizes shape) {
    const bascule_tensor* made = detail::api()->output(
        call_, i, static_cast<int32_t>(dtype), static_cast<int32_t>(shape.size()), shape.data());
    if (made == nullptr) throw detail::Known();
    return MutableTensor(made);
  }
  MutableTensor output(int i, DType dtype, std::initializer_list<int64_t> shape) {
    return output(i, dtype, Sizes(shape.begin(), shape.size()));
  }
  template <class T>
  std::span<T> output(int i, Sizes shape) {
    return output(i, dtype_of<T>, shape).template elements<T>();
  }
  template <class T>
  std::span<T> output(int i, std::initializer_list<int64_t> shape) {
    return output<T>(i, Sizes(shape.begin(), shape.size()));
  }

  // The elements of input i, which are strings, as long as the run.
  std::vector<std::string_view> strings(int i) const {
    std::vector<std::string_view> found(static_cast<size_t>(input(i).size()));
    for (size_t k = 0; k < found.size(); ++k) {
      int64_t length = 0;
      const auto element = static_cast<int64_t>(k);
      const char* text = detail::api()->get_string(call_, i, element, &length);
      if (text == nullptr) throw detail::Known();
      found[k] = {text, static_cast<size_t>(length)};
    }
    return found;
  }
  // Output i as strings; as many as the shape has elements.
  void output_strings(int i, Sizes shape, std::span<const std::string> texts) {
    if (output(i, DType::string, shape).size() != static_cast<int64_t>(texts.size())) {
      throw Error(std::to_string(texts.size()) + " strings do not fill output " +
                  std::to_string(i));
    }
    for (size_t k = 0; k < texts.size(); ++k) {
      const auto element = static_cast<int64_t>(k), length = static_cast<int64_t>(texts[k].size());
      if (detail::api()->set_string(call_, i, element, texts[k].data(), length) != 0) {
        throw detail::Known();
      }
    }
  }

  // Memory for `count` T until the run is over, uninitialized.
  template <class T>
  std::span<T> workspace(int64_t count) {
    static_assert(std::is_trivially_copyable_v<T>);
    constexpr auto size = static_cast<int64_t>(sizeof(T));
    const bool fits = count >= 0 && count <= INT64_MAX / size;
    void* memory = detail::api()->workspace(call_, fits ? count * size : -1);
    if (memory == nullptr) throw detail::Known();
    return {static_cast<T*>(memory), static_cast<size_t>(count)};
  }

  // How many threads a parallel_for may use.
  int threads() const { return detail::api()->threads(call_); }

  // body(begin, end) over pieces of [0, count), on this thread and others. `cost` is the rough
  // number of simple operations of one item: little work is not split. Items must not depend on
  // each other, and for the same bits in every run results not on how the range was cut.
  template <class Body>
  void parallel_for(int64_t count, double cost, Body&& body) {
    struct Loop {
      std::remove_reference_t<Body>* body;
      std::mutex mutex;
      std::exception_ptr error;
    } loop{&body, {}, nullptr};
    const bascule_body run = [](void* context, int64_t begin, int64_t end) {
      Loop& shared = *static_cast<Loop*>(context);
      try {
        (*shared.body)(begin, end);
      } catch (...) {
        const std::lock_guard<std::mutex> lock(shared.mutex);
        if (!shared.error) shared.error = std::current_exception();
      }
    };
    const int32_t failed = detail::api()->parallel_for(call_, count, cost, run, &loop);
    if (loop.error) std::rethrow_exception(loop.error);
    if (failed != 0) throw detail::Known();
  }

 private:
  bascule_call* call_;
};

// An operator while it is described; every function returns it.
class Operator {
 public:
  // An input, of these element types: nodes have it, may leave it out, or have any number of it,
  // from none on. The last kind comes last.
  Operator& input(const char* name, DTypes dtypes = any) { return add_input(name, dtypes, 0); }
  Operator& optional_input(const char* name, DTypes dtypes = any) {
    return add_input(name, dtypes, BASCULE_OPTIONAL);
  }
  Operator& variadic_input(const char* name, DTypes dtypes = any) {
    return add_input(name, dtypes, BASCULE_VARIADIC);
  }
  Operator& output(const char* name, DTypes dtypes = any) { return add_output(name, dtypes, 0); }
  Operator& optional_output(const char* name, DTypes dtypes = any) {
    return add_output(name, dtypes, BASCULE_OPTIONAL);
  }
  Operator& variadic_output(const char* name, DTypes dtypes = any) {
    return add_output(name, dtypes, BASCULE_VARIADIC);
  }

  // An attribute with a default, whose type it has: an integer, a floating-point number, a string,
  // or a std::vector of them.
  template <class T>
  Operator& attribute(const char* name, const T& fallback) {
    return add_attribute(name, detail::AttributeValue::of(fallback), false);
  }
  // One that every node has, or that it may leave out; T as for Node::attribute.
  template <class T>
  Operator& required_attribute(const char* name) {
    return add_attribute(name, detail::AttributeValue(detail::kind_of<T>()), true);
  }
  template <class T>
  Operator& optional_attribute(const char* name) {
    return add_attribute(name, detail::AttributeValue(detail::kind_of<T>()), false);
  }

  // The rule for the types and shapes of the outputs, as far as they follow from those of the
  // inputs. Without one an output has the element type that is declared, or else that of the first
  // input, and any shape.
  Operator& types(std::function<void(Types&)> rule) {
    rule_ = std::move(rule);
    plain_.infer = [](const bascule_operator* self, bascule_node* node, bascule_error* error) {
      return detail::guarded(error, [&] {
        Types types(node);
        try {
          of(self).rule_(types);
        } catch (const detail::Unknown&) {
        }
      });
    };
    return *this;
  }

  Operator& doc(const char* text) {
    doc_ = text;
    return *this;
  }

 private:
  friend class Library;
  friend const bascule_library* detail::describe(const bascule_api*, bascule_error*,
                                                 void (*)(Library&));

  // The structure of the interface, and the way back from it.
  struct Plain : bascule_operator {
    Operator* owner;
  };
  static const Operator& of(const bascule_operator* self) {
    return *static_cast<const Plain*>(self)->owner;
  }

  Operator(const char* domain, const char* name, int since)
      : plain_{}, domain_(domain), name_(name) {
    plain_.size = sizeof(bascule_operator);
    plain_.since = since;
    plain_.owner = this;
  }

  template <class Kernel>
  void run_by_class() {
    plain_.create = [](const bascule_operator*, const bascule_node* node, void** state,
                       bascule_error* error) {
      return detail::guarded(error, [&] { *state = new Kernel(Node(node)); });
    };
    plain_.destroy = [](const bascule_operator*, void* state) {
      delete static_cast<Kernel*>(state);
    };
    plain_.compute = [](const bascule_operator*, const void* state, bascule_call* call,
                        bascule_error* error) {
      return detail::guarded(error, [&] {
        Call made(call);
        static_cast<const Kernel*>(state)->run(made);
      });
    };
  }

  void run_by(std::function<void(Call&)> function) {
    function_ = std::move(function);
    plain_.compute = [](const bascule_operator* self, const void*, bascule_call* call,
                        bascule_error* error) {
      return detail::guarded(error, [&] {
        Call made(call);
        of(self).function_(made);
      });
    };
  }

  Operator& add_input(const char* name, DTypes dtypes, uint32_t flags) {
    inputs_.add(std::make_unique<detail::Parameter>(name, dtypes, flags));
    return *this;
  }
  Operator& add_output(const char* name, DTypes dtypes, uint32_t flags) {
    outputs_.add(std::make_unique<detail::Parameter>(name, dtypes, flags));
    return *this;
  }
  Operator& add_attribute(const char* name, detail::AttributeValue value, bool required) {
    attributes_.add(std::make_unique<detail::Attribute>(name, std::move(value), required));
    return *this;
  }

  const bascule_operator* finish() {
    plain_.domain = domain_.c_str();
    plain_.name = name_.c_str();
    plain_.doc = doc_.c_str();
    plain_.inputs = inputs_.finish(&plain_.input_count);
    plain_.outputs = outputs_.finish(&plain_.output_count);
    plain_.attributes = attributes_.finish(&plain_.attribute_count);
    return &plain_;
  }

  Plain plain_;
  std::string domain_, name_, doc_;
  std::function<void(Types&)> rule_;
  std::function<void(Call&)> function_;
  detail::List<detail::Parameter, bascule_parameter> inputs_, outputs_;
  detail::List<detail::Attribute, bascule_attribute> attributes_;
};

// What BASCULE_OPERATORS fills.
class Library {
 public:
  // An operator that a function runs. It is called from any thread, several at once perhaps.
  Operator& add(const char* domain, const char* name, int since,
                std::function<void(Call&)> function) {
    return add_to(domain, name, since, [&](Operator& made) { made.run_by(std::move(function)); });
  }

  // An operator that a class runs: an object is made for each node by Kernel(const Node&), when a
  // session is; its `void run(Call&) const` is called as above.
  template <class Kernel>
  Operator& add(const char* domain, const char* name, int since) {
    return add_to(domain, name, since, [](Operator& made) { made.run_by_class<Kernel>(); });
  }

  // The library's own version, for people.
  void set_version(const char* text) { version_ = text; }

 private:
  friend const bascule_library* detail::describe(const bascule_api*, bascule_error*,
                                                 void (*)(Library&));

  template <class SetUp>
  Operator& add_to(const char* domain, const char* name, int since, SetUp&& set_up) {
    operators_.push_back(std::unique_ptr<Operator>(new Operator(domain, name, since)));
    set_up(*operators_.back());
    return *operators_.back();
  }

  std::string version_;
  std::vector<std::unique_ptr<Operator>> operators_;
  std::vector<const bascule_operator*> plain_;
  bascule_library library_{};
};

namespace detail {

inline const bascule_library* describe(const bascule_api* api, bascule_error* error,
                                       void (*fill)(Library&)) {
  if (api->abi >> 16 != BASCULE_ABI_MAJOR || api->abi < BASCULE_ABI) {
    const std::string text = "it was built for version " + std::to_string(BASCULE_ABI_MAJOR) + "." +
                             std::to_string(BASCULE_ABI_MINOR) + " of the interface";
    api->set_error(error, text.data(), text.size());
    return nullptr;
  }
  detail::api() = api;
  // Never destroyed: sessions may live until the process ends.
  static Library* library = nullptr;
  const int32_t failed = guarded(error, [&] {
    if (library != nullptr) return;
    auto made = std::make_unique<Library>();
    fill(*made);
    for (const auto& each : made->operators_) made->plain_.push_back(each->finish());
    made->library_ = {sizeof(bascule_library), BASCULE_ABI, made->version_.c_str(),
                      static_cast<int32_t>(made->plain_.size()), made->plain_.data()};
    library = made.release();
  });
  return failed != 0 ? nullptr : &library->library_;
}

}  // namespace detail

}  // namespace bascule BASCULE_HIDDEN

// The one entry of a library; its body adds the operators to the bascule::Library that it names.
#define BASCULE_OPERATORS(library)                                           \
  static void bascule_add_operators(::bascule::Library& library);            \
  extern "C" BASCULE_EXPORT const bascule_library* bascule_operator_library( \
      const bascule_api* api, bascule_error* error) {                        \
    return ::bascule::detail::describe(api, error, bascule_add_operators);   \
  }                                                                          \
  static void bascule_add_operators(::bascule::Library& library)
