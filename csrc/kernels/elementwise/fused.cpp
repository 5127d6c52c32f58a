// SPDX-License-Identifier: Apache-2.0
// bascule.Elementwise: a graph of elementwise operators in one pass over memory. Tiles that fit the
// first-level cache go through the functions that the operators run on their own, so the result has
// the same bits.
#include <algorithm>
#include <cstring>

#include "kernels/broadcast.h"
#include "kernels/elementwise/byte_table.h"
#include "kernels/elementwise/gather_tile.h"
#include "kernels/elementwise/tile_program.h"

namespace bascule {
namespace {

using Place = TileProgram::Place;
constexpr int max_inputs = TileProgram::max_inputs;
constexpr int max_outputs = 16;
constexpr int64_t memory_bytes = 1 << 16;  // for the slots of one thread
constexpr int64_t target_bytes = 1 << 15;  // of them in use, if tiles stay long enough
constexpr int64_t most_elements = 1024;
constexpr int max_slots = 96;  // so that tiles have at least 64 elements

// An operand or result of one step: a slot of the thread's memory, or `base` plus a tile's first
// element times `step` bytes.
struct Source {
  std::byte* base;
  int64_t step;
  int slot;  // or -1
};
struct BoundStep {
  const TileOp* tile;
  TileFunction function;
  Source operands[3];
  Source result;
};

class FusedElementwise final : public Kernel {
 public:
  static Capability capability(const NodeSpec& node) {
    const auto body = node.get_graph("body");
    if (body == nullptr) return reject("attribute body is missing");
    TileProgram program;
    const std::string reason = program.compile(*body);
    if (!reason.empty()) return reject(reason);
    if (program.outputs.size() > max_outputs) return reject("the body has too many outputs");
    const size_t slots =
        static_cast<size_t>(program.slots) + program.input_sizes.size() + program.constants.size();
    if (slots > max_slots) return reject("the body needs too many registers");
    return accept;
  }

  explicit FusedElementwise(const NodeSpec& node) {
    program_.compile(*node.get_graph("body"));
    is_byte_function_ = program_.input_sizes.size() == 1 && program_.input_sizes[0] == 1 &&
                        !program_.input_is_bound[0] && program_.outputs.size() == 1 &&
                        item_size(program_.outputs[0].dtype) == 1;
    if (is_byte_function_) fill_table();
  }

  void run(RunContext& c) const override {
    const int inputs = static_cast<int>(program_.input_sizes.size());
    if (c.input_count() < inputs) fail("an input of the body is missing");
    const Tensor* tensors[max_inputs];
    for (int k = 0; k < inputs; ++k) tensors[k] = &c.input(k);
    const Shape shape = output_shape(tensors, inputs);
    const Shape scalar{};
    const Shape* shapes[max_inputs];
    std::byte* data[max_inputs];
    for (int k = 0; k < inputs; ++k) {
      const bool is_bound = program_.input_is_bound[static_cast<size_t>(k)];
      if (is_bound && tensors[k]->size() != 1) {
        invalid("bound of shape " + tensors[k]->shape().text() + ", expected a scalar");
      }
      shapes[k] = is_bound ? &scalar : &tensors[k]->shape();
      data[k] = const_cast<std::byte*>(tensors[k]->raw());
    }
    const BroadcastLoops<max_inputs> loops(shape, shapes, inputs);

    std::byte* outputs[max_outputs];
    for (size_t i = 0; i < program_.outputs.size(); ++i) {
      outputs[i] = c.output(static_cast<int>(i), program_.outputs[i].dtype, shape).raw();
    }
    const int64_t count = shape.size();
    if (count == 0) return;
    if (is_byte_function_) {
      const auto* x = reinterpret_cast<const uint8_t*>(data[0]);
      auto* y = reinterpret_cast<uint8_t*>(outputs[0]);
      c.parallel_for(count, 0.125, [&](int64_t begin, int64_t end) {
        look_up_bytes(table_, x + begin, y + begin, end - begin);
      });
      return;
    }
    for (int k = 0; k < inputs; ++k) keep_overwritten(c, loops, k, count, outputs, data);
    compute(c, loops, inputs, count, data, outputs);
  }

 private:
  // The results for all bytes.
  void fill_table() {
    uint8_t bytes[256];
    for (int i = 0; i < 256; ++i) bytes[i] = static_cast<uint8_t>(i);
    const Shape shape{256};
    const Shape* shapes[] = {&shape};
    const BroadcastLoops<max_inputs> loops(shape, shapes, 1);
    std::byte* input = reinterpret_cast<std::byte*>(bytes);
    std::byte* output = reinterpret_cast<std::byte*>(table_.values);
    Plan plan;
    make_plan(plan, loops, 1, &input, &output);
    alignas(64) std::byte memory[memory_bytes];
    run_tiles(plan, loops, 0, shape.size(), memory, &output);
  }

  Shape output_shape(const Tensor* const* tensors, int inputs) const {
    bool first = true;
    Shape shape;
    for (int k = 0; k < inputs; ++k) {
      if (program_.input_is_bound[static_cast<size_t>(k)]) continue;
      const Shape& own = tensors[k]->shape();
      if (first) {
        shape = own;
      } else if (!(shape == own)) {
        shape = broadcast(shape, own);
      }
      first = false;
    }
    return shape;
  }

  // An output may lie over an input of as many bytes. That is fine if both move together; an input
  // that is read in another order is copied first.
  void keep_overwritten(RunContext& c, const BroadcastLoops<max_inputs>& loops, int k,
                        int64_t count, std::byte* const* outputs, std::byte** data) const {
    for (size_t i = 0; i < program_.outputs.size(); ++i) {
      const int64_t size = program_.input_sizes[static_cast<size_t>(k)];
      const int64_t out_size = item_size(program_.outputs[i].dtype);
      if (outputs[i] != data[k] || (loops.is_dense(k) && size == out_size)) continue;
      const int64_t bytes = count * out_size;
      std::byte* copy = c.workspace<std::byte>(bytes);
      std::memcpy(copy, data[k], static_cast<size_t>(bytes));
      data[k] = copy;
    }
  }

  // Everything that does not change from tile to tile.
  struct Plan {
    BoundStep steps[TileProgram::max_steps];
    int slots = 0;
    int64_t elements = 0;  // of a tile
    int64_t slot_bytes = 0;
    struct Filled {
      int input;  // or -1: from `data`
      const std::byte* data;
      int64_t size;
      int slot;
    };
    Filled gathered[max_inputs];  // copied for each tile
    int gathered_count = 0;
    Filled splats[max_slots];  // one element, repeated once for all tiles
    int splat_count = 0;
  };

  void compute(RunContext& c, const BroadcastLoops<max_inputs>& loops, int inputs, int64_t count,
               std::byte* const* data, std::byte* const* outputs) const {
    Plan plan;
    make_plan(plan, loops, inputs, data, outputs);
    c.parallel_for(count, program_.cost, [&](int64_t begin, int64_t end) {
      alignas(64) std::byte memory[memory_bytes];
      run_tiles(plan, loops, begin, end, memory, outputs);
    });
  }

  void make_plan(Plan& plan, const BroadcastLoops<max_inputs>& loops, int inputs,
                 std::byte* const* data, std::byte* const* outputs) const {
    int slots = program_.slots;
    int input_slot[max_inputs];
    int constant_slot[max_slots];
    bool single[max_inputs];
    for (int k = 0; k < inputs; ++k) {
      input_slot[k] = -1;
      single[k] = loops.is_single(k);
      if (single[k] || loops.is_dense(k)) continue;
      input_slot[k] = slots++;
      plan.gathered[plan.gathered_count++] = {
          k, data[k], program_.input_sizes[static_cast<size_t>(k)], input_slot[k]};
    }
    std::fill_n(constant_slot, program_.constants.size(), -1);

    const auto is_single = [&](const Place& place) {
      return place.kind == Place::Kind::constant ||
             (place.kind == Place::Kind::input && single[place.index]);
    };
    const auto element = [&](const Place& place) {
      return place.kind == Place::Kind::constant
                 ? const_cast<std::byte*>(
                       program_.constants[static_cast<size_t>(place.index)].raw())
                 : data[place.index];
    };
    const auto in_slot = [](int slot) { return Source{nullptr, 0, slot}; };
    const auto splat = [&](const Place& place, int64_t size) {
      int& slot = place.kind == Place::Kind::constant ? constant_slot[place.index]
                                                      : input_slot[place.index];
      if (slot < 0) {
        slot = slots++;
        plan.splats[plan.splat_count++] = {-1, element(place), size, slot};
      }
      return in_slot(slot);
    };
    const auto source = [&](const Place& place, int64_t size) {
      switch (place.kind) {
        case Place::Kind::slot:
          return in_slot(place.index);
        case Place::Kind::output:
          return Source{outputs[place.index], size, -1};
        case Place::Kind::input:
          if (input_slot[place.index] >= 0) return in_slot(input_slot[place.index]);
          if (!single[place.index]) return Source{data[place.index], size, -1};
          [[fallthrough]];
        default:
          return splat(place, size);
      }
    };
    for (size_t i = 0; i < program_.steps.size(); ++i) {
      const TileProgram::Step& step = program_.steps[i];
      const TileOp& tile = step.op.tile;
      BoundStep& bound = plan.steps[i];
      bound.tile = &tile;
      bound.function = tile.run;
      bool as_element[3] = {false, step.op.has_bounds, step.op.has_bounds};
      if (tile.operands == 2) {
        const bool a = is_single(step.operands[0]), b = is_single(step.operands[1]);
        if (b && !a && tile.run_b_single != nullptr) {
          bound.function = tile.run_b_single;
          as_element[1] = true;
        } else if (a && !b && tile.run_a_single != nullptr) {
          bound.function = tile.run_a_single;
          as_element[0] = true;
        }
      }
      for (int k = 0; k < tile.operands; ++k) {
        bound.operands[k] = as_element[k] ? Source{element(step.operands[k]), 0, -1}
                                          : source(step.operands[k], step.sizes[k]);
      }
      bound.result = step.result.kind == Place::Kind::slot
                         ? in_slot(step.result.index)
                         : Source{outputs[step.result.index], item_size(step.op.output), -1};
    }
    set_sizes(plan, slots, plan.gathered_count > 0 ? loops.inner_size() : 0);
  }

  // `row`, if not 0, is the length of the rows that broadcast operands repeat: tiles that do not
  // cross the ends of rows need no copy of them.
  void set_sizes(Plan& plan, int slots, int64_t row) const {
    const int64_t per_element = std::max(slots, 1) * program_.slot_item_size;
    int64_t elements = std::min(most_elements, target_bytes / per_element) / 64 * 64;
    if (elements == 0) elements = 64;
    if (row > elements) {
      const int64_t pieces = (row + elements - 1) / elements;
      if (row % pieces == 0) elements = row / pieces;
    } else if (row >= elements / 4) {
      elements = row;
    }
    plan.slots = slots;
    plan.elements = elements;
    plan.slot_bytes = (elements * program_.slot_item_size + 63) / 64 * 64;
  }

  void run_tiles(const Plan& plan, const BroadcastLoops<max_inputs>& loops, int64_t begin,
                 int64_t end, std::byte* memory, std::byte* const* outputs) const {
    std::byte* places[max_slots];
    for (int slot = 0; slot < plan.slots; ++slot) places[slot] = memory + slot * plan.slot_bytes;
    for (int i = 0; i < plan.splat_count; ++i) {
      const auto& splat = plan.splats[i];
      splat_element(splat.data, places[splat.slot], splat.size,
                    std::min(plan.elements, end - begin));
    }
    const auto address = [&](const Source& source, int64_t first) {
      if (source.slot >= 0) return places[source.slot];
      return source.base + first * source.step;
    };
    for (int64_t first = begin, count; first < end; first += count) {
      count = std::min(plan.elements - first % plan.elements, end - first);
      for (int i = 0; i < plan.gathered_count; ++i) {
        const auto& one = plan.gathered[i];
        const std::byte* found = find_tile(loops, one.input, one.data, one.size, first, count);
        std::byte* own = memory + one.slot * plan.slot_bytes;
        if (found == nullptr) gather_tile(loops, one.input, one.data, one.size, first, count, own);
        places[one.slot] = found != nullptr ? const_cast<std::byte*>(found) : own;
      }
      for (size_t i = 0; i < program_.steps.size(); ++i) {
        const BoundStep& step = plan.steps[i];
        step.function(*step.tile, address(step.operands[0], first),
                      step.tile->operands > 1 ? address(step.operands[1], first) : nullptr,
                      step.tile->operands > 2 ? address(step.operands[2], first) : nullptr,
                      address(step.result, first), count);
      }
      for (size_t i = 0; i < program_.outputs.size(); ++i) {
        const TileProgram::Output& output = program_.outputs[i];
        if (output.source.kind != Place::Kind::slot) continue;
        const int64_t size = item_size(output.dtype);
        std::memcpy(outputs[i] + first * size, places[output.source.index],
                    static_cast<size_t>(count * size));
      }
    }
  }

  TileProgram program_;
  bool is_byte_function_ = false;
  ByteTable table_;
};
BASCULE_KERNEL_IN("bascule", "Elementwise", FusedElementwise, InPlace{0, 0}, InPlace{1, 0},
                  InPlace{2, 0}, InPlace{3, 0});

}  // namespace
}  // namespace bascule
