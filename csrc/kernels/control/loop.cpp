// SPDX-License-Identifier: Apache-2.0
// Loop: a body run until a trip count is reached or a condition is false. Values are carried from
// one run to the next; the other outputs of the body are stacked.
#include <algorithm>
#include <cstring>
#include <limits>

#include "kernels/control/subgraph.h"

namespace bascule {
namespace {

// Tensors of one shape, one after another in memory that grows as they come: the trip count says
// nothing about how many there will be.
class Stack {
 public:
  void push(const Tensor& item) {
    if (count_ == 0) {
      shape_ = item.shape();
      dtype_ = item.dtype();
    } else if (!(item.shape() == shape_) || item.dtype() != dtype_) {
      fail("a scan output of the body changed from " + std::string(name_of(dtype_)) +
           shape_.text() + " to " + name_of(item.dtype()) + item.shape().text());
    }
    if (dtype_ == DType::string || is_packed(dtype_)) {
      items_.push_back(item);
    } else {
      const auto bytes = static_cast<size_t>(item.bytes());
      const size_t used = bytes_.size();
      bytes_.resize(used + bytes);
      if (bytes > 0) std::memcpy(bytes_.data() + used, item.raw(), bytes);
    }
    ++count_;
  }

  void write(RunContext& c, int i, const ValueSpec& slice, const ValueSpec& whole) const {
    Shape shape{count_};
    for (const int64_t size : shape_) shape.push_back(size);
    if (count_ == 0) shape = empty_stack_shape(slice, whole, 0);
    Tensor& y = c.output(i, count_ > 0 ? dtype_ : slice.dtype, shape);
    if (!bytes_.empty()) std::memcpy(y.raw(), bytes_.data(), bytes_.size());
    int64_t place = 0;
    for (const Tensor& item : items_) {
      if (dtype_ == DType::string) {
        std::copy_n(item.data<std::string>(), item.size(), y.data<std::string>() + place);
        place += item.size();
        continue;
      }
      const int bits = bits_of(dtype_);
      for (int64_t k = 0; k < item.size(); ++k) {
        set_packed(y.raw(), bits, place++, get_packed(item.raw(), bits, k));
      }
    }
  }

 private:
  DType dtype_ = DType::undefined;
  Shape shape_;
  int64_t count_ = 0;
  std::vector<std::byte> bytes_;
  std::vector<Tensor> items_;  // strings and packed elements
};

// Inputs: trip count and condition (both may be left out), the carried values, captured values. The
// body takes the number of the iteration, the condition and the carried values; it gives the
// condition, the carried values and the scan outputs.
struct Loop final : Kernel {
  static Capability capability(const NodeSpec& node) { return subgraphs_capability(node); }
  explicit Loop(const NodeSpec& node)
      : body(node, "body"), carried(body.inputs() - 2), outputs(node.outputs) {
    if (carried < 0 || body.outputs() < 1 + carried) {
      throw Error(Code::invalid_graph,
                  "the body of a Loop must take " +
                      std::string("iteration, condition and carried values, ") +
                      "and give condition and carried values");
    }
  }

  void run(RunContext& c) const override {
    const int64_t trips =
        c.has_input(0) ? c.input(0).to_int() : std::numeric_limits<int64_t>::max();
    bool go_on = c.has_input(1) ? condition(c.value(1)) : true;
    std::vector<Value> state;
    for (int i = 0; i < carried; ++i) state.push_back(any_input(c, 2 + i));
    std::vector<Stack> stacks(static_cast<size_t>(body.outputs() - 1 - carried));
    std::vector<Value> values;
    Turns turns;
    for (int64_t trip = 0; go_on && trip < trips; ++trip) {
      turns.next(c);
      values.clear();
      values.push_back(scalar(trip, body.input(0)));
      values.push_back(scalar(go_on, body.input(1)));
      for (Value& value : state) values.push_back(std::move(value));
      body.append_captures(c, 2 + carried, values);
      std::vector<Value> results = body.run(c, values);
      go_on = condition(results[0]);
      for (size_t i = 0; i < state.size(); ++i) state[i] = std::move(results[1 + i]);
      for (size_t i = 0; i < stacks.size(); ++i) {
        stacks[i].push(results[1 + state.size() + i].tensor());
      }
    }
    for (int i = 0; i < carried; ++i) c.set_output(i, state[static_cast<size_t>(i)].owned());
    for (size_t i = 0; i < stacks.size(); ++i) {
      const int output = carried + static_cast<int>(i);
      if (!c.wants_output(output)) continue;
      stacks[i].write(c, output, body.output(1 + output), outputs[static_cast<size_t>(output)]);
    }
  }

 private:
  // Owns its memory: the body may hand it on.
  template <class T>
  static Value scalar(T value, const ValueSpec& spec) {
    Tensor tensor = Tensor::allocate(dtype_of<T>, spec.rank() == 1 ? Shape{1} : Shape{});
    *tensor.data<T>() = value;
    return tensor;
  }

  Subgraph body;
  int carried;
  std::vector<ValueSpec> outputs;
};
BASCULE_KERNEL("Loop", Loop);

}  // namespace
}  // namespace bascule
