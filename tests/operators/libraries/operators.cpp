// SPDX-License-Identifier: Apache-2.0
// Operators of domain "test" that use what <bascule/operator.h> offers.
#include <bascule/operator.h>

#include <algorithm>
#include <atomic>
#include <cstring>

namespace {

using bascule::Call;
using bascule::Dim;
using bascule::DType;
using bascule::Error;
using bascule::Node;
using bascule::Tensor;
using bascule::Types;

// Any element type, byte by byte.
void copy(Call& call) {
  const Tensor x = call.input(0);
  const bascule::MutableTensor y = call.output(0, x.dtype(), x.shape());
  std::copy(x.raw().begin(), x.raw().end(), y.raw().begin());
}

// The sum of any number of inputs, and of a bias if there is one.
void sum(Call& call) {
  const Tensor first = call.input(0);
  bascule::dispatch<float, double, int64_t>(first.dtype(), [&]<class T>(T) {
    std::vector<std::span<const T>> terms;
    for (int i = 0; i < call.input_count(); ++i) {
      if (call.has_input(i)) terms.push_back(call.input(i).elements<T>());
    }
    const std::span<T> y = call.output<T>(0, first.shape());
    call.parallel_for(first.size(), 100, [&](int64_t begin, int64_t end) {
      for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) {
        T total = 0;
        for (const auto& term : terms) total += term.size() == 1 ? term[0] : term[i];
        y[i] = total;
      }
    });
  });
}

// All kinds of attributes, as numbers.
void attributes(Call& call) {
  std::vector<double> found = {
      static_cast<double>(call.attribute<int64_t>("int")),
      call.attribute<float>("float"),
      static_cast<double>(call.attribute<std::string>("string").size()),
      call.attribute<bool>("flag") ? 1.0 : 0.0,
  };
  for (const int64_t each : call.attribute<std::vector<int64_t>>("ints")) {
    found.push_back(static_cast<double>(each));
  }
  for (const float each : call.attribute<std::vector<float>>("floats")) found.push_back(each);
  for (const std::string& each : call.attribute<std::vector<std::string>>("strings")) {
    found.push_back(static_cast<double>(each.size()));
  }
  if (call.has_attribute("tensor")) {
    const Tensor tensor = call.attribute<Tensor>("tensor");
    for (const int32_t each : tensor.elements<int32_t>()) found.push_back(each);
  }
  const auto y = call.output<double>(0, {static_cast<int64_t>(found.size())});
  std::copy(found.begin(), found.end(), y.begin());
}

// x in the shape that a constant gives.
void reshape(Call& call) {
  const Tensor x = call.input(0);
  const auto shape = call.input(1).elements<int64_t>();
  const bascule::MutableTensor y = call.output(0, x.dtype(), shape);
  if (y.size() != x.size()) throw Error("the sizes differ");
  std::memcpy(y.data(), x.data(), static_cast<size_t>(x.bytes()));
}

void reshape_types(Types& types) {
  if (!types.is_constant(1)) return;
  std::vector<Dim> dims;
  for (const int64_t each : types.constant(1).elements<int64_t>()) dims.push_back(each);
  types.set_output(0, types.dtype(0), dims);
}

// The sizes of x are [n, d]; y is [n, 2 * d + 1], z [d].
void sizes(Call& call) {
  const Tensor x = call.input(0);
  std::ranges::fill(call.output<float>(0, {x.dim(0), 2 * x.dim(1) + 1}), 1.0f);
  if (call.wants_output(1)) std::ranges::fill(call.output<float>(1, {x.dim(1)}), 2.0f);
}

void sizes_types(Types& types) {
  const std::vector<Dim> x = types.shape(0);
  types.set_output(0, types.dtype(0), {x.at(0), x.at(1) * 2 + 1});
  if (types.output_count() > 1) types.set_output(1, types.dtype(0), {x.at(1)});
}

// Errors in every place, as `where` says.
class Broken {
 public:
  explicit Broken(const Node& node) : where_(node.attribute<std::string>("where")) {
    if (where_ == "create") throw Error("no such thing");
  }
  void run(Call& call) const {
    if (where_ == "run") throw Error("cannot go on");
    if (where_ == "run, an int") throw 7;
    if (where_ == "loop") {
      call.parallel_for(1000000, 1000, [](int64_t, int64_t end) {
        if (end == 1000000) throw Error("the last part failed");
      });
    }
    if (where_ == "type") call.input(0).elements<double>();
    if (where_ == "input") call.input(1);
    if (where_ == "axis") call.input(0).dim(5);
    if (where_ == "attribute") call.attribute<int64_t>("where");
    if (where_ == "no attribute") call.attribute<int64_t>("what");
    if (where_ == "workspace") call.workspace<double>(int64_t{1} << 61);
    call.output(0, DType::float32, call.input(0).shape());
  }
  static void types(Types& types) {
    if (types.attribute<std::string>("where") == "types") throw Error("such types cannot be");
    types.set_output(0, types.dtype(0), types.shape(0));
  }

 private:
  std::string where_;
};

// How many of its objects there are.
std::atomic<int64_t> counted{0};

class Counted {
 public:
  explicit Counted(const Node&) { ++counted; }
  Counted(const Counted&) = delete;
  Counted& operator=(const Counted&) = delete;
  ~Counted() { --counted; }
  void run(Call& call) const { call.output<int64_t>(0, {})[0] = counted; }
};

// Each float32 as 16-bit floats and back.
void narrow(Call& call) {
  const Tensor x = call.input(0);
  const auto from = x.elements<float>();
  const auto half = call.output<float>(0, x.shape()), brain = call.output<float>(1, x.shape());
  const auto room = call.workspace<bascule::Float16>(x.size());
  for (size_t i = 0; i < from.size(); ++i) {
    room[i] = bascule::Float16(from[i]);
    half[i] = static_cast<float>(room[i]);
    brain[i] = static_cast<float>(bascule::BFloat16(from[i]));
  }
}

// Words joined by a separator, along the last axis, and how many bytes they are.
void join(Call& call) {
  const auto words = call.strings(0);
  bascule::Shape shape(call.input(0).shape().begin(), call.input(0).shape().end());
  const auto n = static_cast<size_t>(shape.back());
  shape.pop_back();
  std::vector<std::string> lines(n == 0 ? 0 : words.size() / n);
  for (size_t i = 0; i < words.size(); ++i) {
    if (i % n > 0) lines[i / n] += call.attribute<std::string>("by");
    lines[i / n] += words[i];
  }
  call.output_strings(0, shape, lines);
  const auto sizes = call.output<int64_t>(1, shape);
  for (size_t i = 0; i < lines.size(); ++i) sizes[i] = static_cast<int64_t>(lines[i].size());
}

template <int number>
void constant(Call& call) {
  std::ranges::fill(call.output<float>(0, call.input(0).shape()), static_cast<float>(number));
}

}  // namespace

BASCULE_OPERATORS(library) {
  library.set_version("2.5");
  library.add("test", "Copy", 1, copy)
      .input("x")
      .output("y", bascule::same_as(0))
      .types([](Types& types) { types.set_output_as_input(0, 0); });
  library.add("test", "Sum", 1, sum)
      .input("first", bascule::floats | bascule::integers)
      .optional_input("bias", bascule::same_as(0))
      .variadic_input("terms", bascule::same_as(0))
      .output("total", bascule::same_as(0));
  library.add("test", "Attributes", 1, attributes)
      .output("y", DType::float64)
      .attribute("int", 3)
      .attribute("float", 0.5)
      .attribute("string", "four")
      .attribute("flag", true)
      .attribute("ints", std::vector<int64_t>{1, 2})
      .attribute("floats", std::vector<float>{})
      .attribute("strings", std::vector<std::string>{"a", ""})
      .optional_attribute<Tensor>("tensor");
  library.add("test", "Reshape", 1, reshape)
      .input("x")
      .input("shape", DType::int64)
      .output("y", bascule::same_as(0))
      .types(reshape_types);
  library.add("test", "Sizes", 1, sizes)
      .input("x", DType::float32)
      .output("y", DType::float32)
      .optional_output("z", DType::float32)
      .types(sizes_types);
  library.add<Broken>("test", "Broken", 1)
      .input("x", DType::float32)
      .optional_input("more")
      .output("y", DType::float32)
      .required_attribute<std::string>("where")
      .types(Broken::types);
  library.add<Counted>("test", "Counted", 1).output("y", DType::int64);
  library.add("test", "Narrow", 1, narrow)
      .input("x", DType::float32)
      .output("half", DType::float32)
      .output("brain", DType::float32);
  library
      .add("test", "BadJoin", 1,
           [](Call& call) {
             const std::vector<std::string> lines(1);
             call.output_strings(0, call.input(0).shape(), lines);
           })
      .input("words", DType::string)
      .output("lines", DType::string);
  library.add("test", "Join", 1, join)
      .input("words", DType::string)
      .output("lines", DType::string)
      .output("sizes", DType::int64)
      .attribute("by", " ");
  library
      .add("test", "Threads", 1,
           [](Call& call) { call.output<int64_t>(0, {})[0] = call.threads(); })
      .output("y", DType::int64);
  library.add("test", "Number", 2, constant<2>).input("x").output("y", DType::float32);
  library.add("test", "Number", 4, constant<4>).input("x").output("y", DType::float32);
}
