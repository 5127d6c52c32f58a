// SPDX-License-Identifier: Apache-2.0
// Scan: a body run over the slices of its scan inputs. State is carried from one run to the next;
// the other outputs of the body are the slices of the scan outputs.
#include <memory>

#include "kernels/control/subgraph.h"
#include "kernels/move/packed_bytes.h"
#include "kernels/move/strided_copy.h"

namespace bascule {
namespace {

struct Scan final : Kernel {
  static Capability capability(const NodeSpec& node) { return subgraphs_capability(node); }
  explicit Scan(const NodeSpec& node)
      : body(node, "body"),
        scanned(static_cast<int>(node.get_int("num_scan_inputs", 0))),
        outputs_of_node(node.outputs) {
    carried = body.inputs() - scanned;
    if (scanned < 1 || carried < 0 || body.outputs() < carried) {
      throw Error(Code::invalid_graph, "the body of a Scan does not fit num_scan_inputs");
    }
    const int stacked = body.outputs() - carried;
    input_axes = numbers(node, "scan_input_axes", scanned);
    input_directions = numbers(node, "scan_input_directions", scanned);
    output_axes = numbers(node, "scan_output_axes", stacked);
    output_directions = numbers(node, "scan_output_directions", stacked);
  }

  void run(RunContext& c) const override {
    std::vector<Slices> slices;
    int64_t length = 0;
    for (int i = 0; i < scanned; ++i) {
      slices.push_back(slices_of(c, i));
      if (i > 0 && slices.back().length != length) {
        invalid("scan inputs have " + std::to_string(length) + " and " +
                std::to_string(slices.back().length) + " slices");
      }
      length = slices.back().length;
    }
    std::vector<Value> state;
    for (int i = 0; i < carried; ++i) state.push_back(any_input(c, i));
    std::vector<std::unique_ptr<MovedOutput>> outputs(output_axes.size());
    std::vector<Value> values;
    Turns turns;
    for (int64_t t = 0; t < length; ++t) {
      turns.next(c);
      values.clear();
      for (Value& value : state) values.push_back(std::move(value));
      for (int i = 0; i < scanned; ++i) {
        const bool reverse = input_directions[static_cast<size_t>(i)] != 0;
        values.push_back(slices[static_cast<size_t>(i)].at(c, reverse ? length - 1 - t : t));
      }
      body.append_captures(c, carried + scanned, values);
      std::vector<Value> results = body.run(c, values);
      for (size_t i = 0; i < state.size(); ++i) state[i] = std::move(results[i]);
      for (size_t i = 0; i < outputs.size(); ++i) {
        write(c, i, results[state.size() + i].tensor(), t, length, outputs[i]);
      }
    }
    for (int i = 0; i < carried; ++i) c.set_output(i, state[static_cast<size_t>(i)].owned());
    if (length > 0) return;
    for (size_t i = 0; i < outputs.size(); ++i) {
      const int output = carried + static_cast<int>(i);
      if (!c.wants_output(output)) continue;
      const ValueSpec& item = body.output(output);
      const ValueSpec& whole = outputs_of_node[static_cast<size_t>(output)];
      c.output(output, item.dtype, empty_stack_shape(item, whole, output_axes[i]));
    }
  }

 private:
  // The slices of a tensor along an axis: views when they lie together, else copies into one
  // buffer. Neither owns memory, so that what the body hands on is copied.
  struct Slices {
    Tensor source;  // of packed types: a byte per element
    Shape item;
    int64_t length, outer, inner;
    Tensor buffer;  // of one slice, unless they are views
    Tensor packed;  // of one slice, for packed types

    Tensor at(RunContext& c, int64_t t) {
      const DType dtype = source.dtype();
      const std::byte* from = source.raw() + t * inner * item_size(dtype);
      if (buffer.dtype() != DType::undefined) {
        strided_copy(c, dtype, from, buffer.raw(),
                     {{outer, inner}, {length * inner, 1}, {inner, 1}});
        from = buffer.raw();
      }
      if (packed.dtype() == DType::undefined) {
        return Tensor(dtype, item, const_cast<std::byte*>(from));
      }
      pack_bytes(from, packed);
      return Tensor(packed.dtype(), item, packed.raw());
    }
  };

  Slices slices_of(RunContext& c, int i) const {
    const Tensor& x = c.input(carried + i);
    const int axis = x.shape().axis(input_axes[static_cast<size_t>(i)]);
    Slices slices{unpacked(c, x),
                  x.shape(),
                  x.dim(axis),
                  x.shape().product(0, axis),
                  x.shape().product(axis + 1, x.rank()),
                  {},
                  {}};
    slices.item.erase(axis);
    if (slices.outer != 1) slices.buffer = Tensor::allocate(slices.source.dtype(), slices.item);
    if (is_packed(x.dtype())) slices.packed = Tensor::allocate(x.dtype(), slices.item);
    return slices;
  }

  Shape stacked_shape(Shape item, size_t i, int64_t length) const {
    item.insert(Shape::filled(item.rank() + 1, 1).axis(output_axes[i]), length);
    return item;
  }

  void write(RunContext& c, size_t i, const Tensor& item, int64_t t, int64_t length,
             std::unique_ptr<MovedOutput>& output) const {
    const int number = carried + static_cast<int>(i);
    if (!c.wants_output(number)) return;
    const Shape shape = stacked_shape(item.shape(), i, length);
    if (output == nullptr) output = std::make_unique<MovedOutput>(c, number, item.dtype(), shape);
    if (!(output->shape() == shape) || output->dtype() != item.dtype()) {
      fail("a scan output of the body changed its shape or type to " + item.shape().text());
    }
    const int axis = shape.axis(output_axes[i]);
    const int64_t outer = shape.product(0, axis), inner = shape.product(axis + 1, shape.rank());
    const int64_t place = output_directions[i] != 0 ? length - 1 - t : t;
    const Tensor moved = unpacked(c, item);
    strided_copy(c, moved.dtype(), moved.raw(),
                 output->data() + place * inner * item_size(moved.dtype()),
                 {{outer, inner}, {inner, 1}, {length * inner, 1}});
  }

  static std::vector<int64_t> numbers(const NodeSpec& node, const std::string& name, int count) {
    std::vector<int64_t> result =
        node.get_ints(name, std::vector<int64_t>(static_cast<size_t>(count), 0));
    if (result.size() != static_cast<size_t>(count)) {
      throw Error(Code::invalid_graph,
                  "attribute '" + name + "' must have " + std::to_string(count) + " numbers");
    }
    return result;
  }

  Subgraph body;
  int scanned, carried;
  std::vector<ValueSpec> outputs_of_node;
  std::vector<int64_t> input_axes, input_directions, output_axes, output_directions;
};
BASCULE_KERNEL("Scan", Scan);

}  // namespace
}  // namespace bascule
