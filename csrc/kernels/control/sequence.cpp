// SPDX-License-Identifier: Apache-2.0
// Operators on sequences. Every tensor in a sequence owns its memory.
#include <algorithm>

#include "kernels/control/subgraph.h"
#include "kernels/move/concat.h"
#include "kernels/move/packed_bytes.h"
#include "kernels/move/strided_copy.h"

namespace bascule {
namespace {

struct SequenceEmpty final : Kernel {
  explicit SequenceEmpty(const NodeSpec& node)
      : dtype(
            static_cast<DType>(std::clamp<int64_t>(node.get_int("dtype", 1), 0, dtype_count - 1))) {
  }
  void run(RunContext& c) const override { c.set_output(0, Sequence{dtype, {}}); }
  DType dtype;
};
BASCULE_KERNEL("SequenceEmpty", SequenceEmpty);

struct SequenceConstruct final : Kernel {
  void run(RunContext& c) const override {
    Sequence sequence;
    for (int i = 0; i < c.input_count(); ++i) {
      const Value& item = c.value(i);
      if (item.is_tensor()) sequence.dtype = item.tensor().dtype();
      sequence.items.push_back(item.owned());
    }
    c.set_output(0, std::move(sequence));
  }
};
BASCULE_KERNEL("SequenceConstruct", SequenceConstruct);

// Position input `i`: in [-count, count), or `fallback` when it is left out.
size_t position(const RunContext& c, int i, int64_t count, int64_t fallback) {
  const int64_t given = c.has_input(i) ? c.input(i).to_int() : fallback;
  if (given < -count || given >= count) {
    invalid("Invalid sequence index (" + std::to_string(given) + ") specified for sequence of " +
            "size (" + std::to_string(count) + ")");
  }
  return static_cast<size_t>(given < 0 ? given + count : given);
}

int64_t length(const Sequence& sequence) { return static_cast<int64_t>(sequence.items.size()); }

struct SequenceInsert final : Kernel {
  void run(RunContext& c) const override {
    const Sequence& sequence = c.value(0).sequence();
    const int64_t count = length(sequence);
    // The end is a place, too; negative positions count from the last element.
    const int64_t given = c.has_input(2) ? c.input(2).to_int() : count;
    const size_t at = given == count ? sequence.items.size() : position(c, 2, count, count);
    const Value& item = c.value(1);
    Sequence result;
    result.dtype = sequence.dtype;
    result.items.reserve(sequence.items.size() + 1);
    result.items.assign(sequence.items.begin(), sequence.items.end());
    result.items.insert(result.items.begin() + static_cast<std::ptrdiff_t>(at), item.owned());
    if (item.is_tensor()) {
      if (count > 0 && item.tensor().dtype() != sequence.dtype) {
        invalid(std::string("a tensor of ") + name_of(item.tensor().dtype()) +
                " does not fit a sequence of " + name_of(sequence.dtype));
      }
      result.dtype = item.tensor().dtype();
    }
    c.set_output(0, std::move(result));
  }
};
BASCULE_KERNEL("SequenceInsert", SequenceInsert);

struct SequenceErase final : Kernel {
  void run(RunContext& c) const override {
    Sequence result = c.value(0).sequence();
    const size_t at = position(c, 1, length(result), length(result) - 1);
    result.items.erase(result.items.begin() + static_cast<std::ptrdiff_t>(at));
    c.set_output(0, std::move(result));
  }
};
BASCULE_KERNEL("SequenceErase", SequenceErase);

struct SequenceAt final : Kernel {
  void run(RunContext& c) const override {
    const Sequence& sequence = c.value(0).sequence();
    c.set_output(0, sequence.items[position(c, 1, length(sequence), 0)]);
  }
};
BASCULE_KERNEL("SequenceAt", SequenceAt);

struct SequenceLength final : Kernel {
  void run(RunContext& c) const override {
    const int64_t count = length(c.value(0).sequence());
    *c.output(0, DType::int64, {}).data<int64_t>() = count;
  }
};
BASCULE_KERNEL("SequenceLength", SequenceLength);

struct SplitToSequence final : Kernel {
  static Capability capability(const NodeSpec& node) {
    return is_packed(node.dtype(0)) ? reject("elements narrower than a byte") : accept;
  }
  explicit SplitToSequence(const NodeSpec& node)
      : axis(node.get_int("axis", 0)), keep(node.get_int("keepdims", 1) != 0) {}
  void run(RunContext& c) const override {
    const Tensor& x = c.input(0);
    const int at = x.shape().axis(axis);
    const int64_t size = x.dim(at);
    const std::vector<int64_t> sizes = part_sizes(c, size);
    const int64_t outer = x.shape().product(0, at), inner = x.shape().product(at + 1, x.rank());
    Sequence sequence{x.dtype(), {}};
    int64_t start = 0;
    for (const int64_t count : sizes) {
      Shape shape = x.shape();
      shape[at] = count;
      Tensor part = Tensor::allocate(x.dtype(), shape);
      strided_copy(c, x.dtype(), x.raw() + start * inner * item_size(x.dtype()), part.raw(),
                   {{outer, count * inner}, {size * inner, 1}, {count * inner, 1}});
      start += count;
      if (!keep && !c.has_input(1)) {
        shape.erase(at);
        part = part.reshaped(shape);
      }
      sequence.items.emplace_back(std::move(part));
    }
    c.set_output(0, std::move(sequence));
  }

 private:
  static std::vector<int64_t> part_sizes(RunContext& c, int64_t size) {
    std::vector<int64_t> sizes;
    if (c.has_input(1) && c.input(1).rank() > 0) {
      sizes = c.input(1).to_ints();
      int64_t sum = 0;
      bool fits = true;
      for (const int64_t part : sizes) {
        fits &= part >= 0 && part <= size - sum;
        if (fits) sum += part;
      }
      if (!fits || sum != size) {
        invalid("SplitToSequence: the sizes of `split` do not sum to " + std::to_string(size));
      }
      return sizes;
    }
    const int64_t step = c.has_input(1) ? c.input(1).to_int() : 1;
    if (step < 1) invalid("SplitToSequence: `split` must be positive");
    for (int64_t start = 0; start < size; start += sizes.back()) {
      sizes.push_back(std::min(step, size - start));
    }
    return sizes;
  }
  int64_t axis;
  bool keep;
};
BASCULE_KERNEL("SplitToSequence", SplitToSequence);

struct ConcatFromSequence final : Kernel {
  explicit ConcatFromSequence(const NodeSpec& node)
      : axis(node.get_int("axis", 0)), stacked(node.get_int("new_axis", 0) != 0) {}
  void run(RunContext& c) const override {
    const Sequence& sequence = c.value(0).sequence();
    if (sequence.items.empty()) invalid("ConcatFromSequence: the sequence is empty");
    std::vector<Tensor> tensors;
    for (const Value& item : sequence.items) {
      Tensor tensor = item.tensor();
      if (stacked) {
        Shape shape = tensor.shape();
        shape.insert(Shape::filled(shape.rank() + 1, 1).axis(axis), 1);
        tensor = tensor.reshaped(shape);
      }
      tensors.push_back(std::move(tensor));
    }
    std::vector<const Tensor*> parts;
    for (const Tensor& tensor : tensors) parts.push_back(&tensor);
    concat(c, parts, axis);
  }
  int64_t axis;
  bool stacked;
};
BASCULE_KERNEL("ConcatFromSequence", ConcatFromSequence);

// Inputs: a sequence, then sequences as long (walked along) and tensors (the same for every run),
// then captured values.
struct SequenceMap final : Kernel {
  static Capability capability(const NodeSpec& node) { return subgraphs_capability(node); }
  explicit SequenceMap(const NodeSpec& node) : body(node, "body") {}
  void run(RunContext& c) const override {
    const int64_t count = length(c.value(0).sequence());
    std::vector<Sequence> results(static_cast<size_t>(body.outputs()));
    for (size_t i = 0; i < results.size(); ++i) {
      results[i].dtype = body.output(static_cast<int>(i)).dtype;
    }
    std::vector<Value> values;
    Turns turns;
    for (int64_t k = 0; k < count; ++k) {
      turns.next(c);
      values.clear();
      for (int i = 0; i < body.inputs(); ++i) values.push_back(item(c.value(i), k, count));
      body.append_captures(c, body.inputs(), values);
      std::vector<Value> outputs = body.run(c, values);
      for (size_t i = 0; i < outputs.size(); ++i) results[i].items.push_back(std::move(outputs[i]));
    }
    for (size_t i = 0; i < results.size(); ++i) {
      c.set_output(static_cast<int>(i), std::move(results[i]));
    }
  }

 private:
  static Value item(const Value& value, int64_t k, int64_t count) {
    if (value.kind() != ValueKind::sequence) return value;
    if (length(value.sequence()) != count) {
      invalid("SequenceMap: sequences of " + std::to_string(count) + " and " +
              std::to_string(length(value.sequence())) + " elements");
    }
    return value.sequence().items[static_cast<size_t>(k)];
  }
  Subgraph body;
};
BASCULE_KERNEL("SequenceMap", SequenceMap);

}  // namespace
}  // namespace bascule
