// SPDX-License-Identifier: Apache-2.0
#include "runtime/frame.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "runtime/memory_plan.h"
#include "runtime/run_context.h"

namespace bascule {

namespace {

constexpr int never = std::numeric_limits<int>::max();

// Whether the step reads `slot` through an input over which this output must not be written, too.
bool reads_beside(const Program::Step& step, int slot, int output) {
  const auto& pairs = step.entry->in_place;
  for (size_t i = 0; i < step.inputs.size(); ++i) {
    const auto allows = [&](const InPlace& pair) {
      return pair.output == output && pair.input == static_cast<int>(i);
    };
    if (step.inputs[i] == slot && std::none_of(pairs.begin(), pairs.end(), allows)) return true;
  }
  return false;
}

}  // namespace

Frame::Frame(const Program& program_)
    : program(program_), values_(static_cast<size_t>(program_.slot_count_)) {
  for (const auto& [slot, tensor] : program.constants_) value(slot) = tensor;
}

void Frame::begin(std::shared_ptr<const MemoryPlan> plan, std::span<const Value> inputs,
                  const RunSettings& run_settings, std::span<const Tensor> targets,
                  Profiler::Run* run_profile) {
  plan_ = std::move(plan);
  profile = run_profile;
  targets_ = targets;
  settings = run_settings;
  for (size_t i = 0; i < inputs.size(); ++i) value(program.inputs_[i]) = inputs[i];
  if (!recording()) {
    if (plan_->arena_bytes > arena_bytes_) {
      arena_owner_.reset();
      const Tensor arena = Tensor::allocate(DType::uint8, {plan_->arena_bytes});
      arena_owner_ = arena.owner();
      arena_ = static_cast<std::byte*>(arena_owner_.get());
      arena_bytes_ = plan_->arena_bytes;
      note(Profiler::Allocation::Kind::arena, -1, arena_bytes_);
    }
    if (recorded_before_) blocks_.clear();
    recorded_before_ = false;
    return;
  }
  storages_.clear();
  records_.assign(values_.size(), Record{});
  recorded_workspaces_.assign(program.steps_.size(), {});
}

bool Frame::escapes(int slot) const {
  return program.last_use_[static_cast<size_t>(slot)] == never ||
         program.kept_[static_cast<size_t>(slot)];
}

// Adds `slot` to the slots that show a storage.
void Frame::extend(int slot, int storage) {
  records_[static_cast<size_t>(slot)].storage = storage;
  if (storage < 0) return;
  Storage& s = storages_[static_cast<size_t>(storage)];
  s.live_slots += 1;
  s.escapes |= escapes(slot);
  s.kept |= program.kept_[static_cast<size_t>(slot)];
  s.last_step = std::max(s.last_step, program.last_use_[static_cast<size_t>(slot)]);
}

// The input of `step` over which output slot `slot` may be written, as an index; -1 if none.
int Frame::in_place_source(int step, int slot, int64_t bytes) const {
  const Program::Step& s = program.steps_[static_cast<size_t>(step)];
  for (const InPlace& pair : s.entry->in_place) {
    if (pair.output >= static_cast<int>(s.outputs.size()) ||
        s.outputs[static_cast<size_t>(pair.output)] != slot ||
        pair.input >= static_cast<int>(s.inputs.size())) {
      continue;
    }
    const int source = s.inputs[static_cast<size_t>(pair.input)];
    if (source < 0 || program.last_use_[static_cast<size_t>(source)] != step) continue;
    if (reads_beside(s, source, pair.output)) continue;
    const int storage = records_[static_cast<size_t>(source)].storage;
    if (storage < 0) continue;
    const Storage& memory = storages_[static_cast<size_t>(storage)];
    const Value& held = values_[static_cast<size_t>(source)];
    if (!memory.ours || memory.live_slots != 1 || memory.bytes != bytes || !held.is_tensor() ||
        held.tensor().bytes() != bytes || held.tensor().dtype() == DType::string ||
        held.tensor().owner().use_count() >
            1) {  // a sequence may hold it, or a nested graph's value
      continue;
    }
    return pair.input;
  }
  return -1;
}

Tensor& Frame::place(int slot, DType dtype, const Shape& shape, std::byte* data,
                     std::shared_ptr<void> owner) {
  Value& held = value(slot);
  held = Tensor(dtype, shape, data, std::move(owner));
  return held.tensor();
}

Tensor& Frame::unwanted_output(int step, DType dtype, const Shape& shape) {
  unwanted_.push_back(dtype == DType::string
                          ? Tensor::allocate(dtype, shape)
                          : Tensor(dtype, shape, workspace(step, byte_size(dtype, shape.size()))));
  return unwanted_.back();
}

Tensor& Frame::output(int step, int slot, DType dtype, const Shape& shape) {
  const int64_t bytes = byte_size(dtype, shape.size());
  const Program::Step& s = program.steps_[static_cast<size_t>(step)];
  if (recording()) {
    Record& record = records_[static_cast<size_t>(slot)];
    const int source = dtype == DType::string ? -1 : in_place_source(step, slot, bytes);
    if (source >= 0) {
      const int from = s.inputs[static_cast<size_t>(source)];
      record.kind = Placement::Kind::in_place;
      record.source = source;
      extend(slot, records_[static_cast<size_t>(from)].storage);
      const Tensor held = value(from).tensor();
      return place(slot, dtype, shape, const_cast<std::byte*>(held.raw()), held.owner());
    }
    value(slot) = escapes(slot) ? Tensor::allocate(dtype, shape) : blocks_.allocate(dtype, shape);
    note(kind_of(slot), step, bytes);
    if (dtype != DType::string) {
      record.kind = Placement::Kind::arena;
      storages_.push_back({bytes, step, step, 0, true, false, false});
      extend(slot, static_cast<int>(storages_.size()) - 1);
    }
    return value(slot).tensor();
  }
  const Placement& placement = plan_->outputs[static_cast<size_t>(slot)];
  if (placement.kind == Placement::Kind::arena && bytes <= placement.bytes &&
      dtype != DType::string) {
    return place(slot, dtype, shape, arena_ + placement.offset, nullptr);
  }
  if (placement.kind == Placement::Kind::in_place) {
    const int from = s.inputs[static_cast<size_t>(placement.source)];
    const Value& held = value(from);
    // An owner with other users means that this time the input shares memory with something.
    if (held.is_tensor() && held.tensor().bytes() == bytes && dtype != DType::string &&
        held.tensor().dtype() != DType::string && held.tensor().owner().use_count() <= 1) {
      return place(slot, dtype, shape, const_cast<std::byte*>(held.tensor().raw()),
                   held.tensor().owner());
    }
  }
  if (placement.target >= 0 && !targets_.empty()) {
    const Tensor& target = targets_[static_cast<size_t>(placement.target)];
    if (bytes > 0 && target.bytes() == bytes && dtype != DType::string) {
      auto* data = const_cast<std::byte*>(target.raw());
      // An owner of its own, by whose uses later steps see whether they may write there.
      return place(slot, dtype, shape, data, std::shared_ptr<void>(data, [](void*) {}));
    }
  }
  value(slot) = Tensor::allocate(dtype, shape);
  note(kind_of(slot), step, bytes);
  return value(slot).tensor();
}

// Tells the profile, if there is one, of memory that came from the system.
void Frame::note(Profiler::Allocation::Kind kind, int step, int64_t bytes) {
  if (profile != nullptr) profile->allocated(kind, step, bytes);
}

Profiler::Allocation::Kind Frame::kind_of(int slot) const {
  using Kind = Profiler::Allocation::Kind;
  return program.last_use_[static_cast<size_t>(slot)] == never ? Kind::output : Kind::value;
}

// The input slot of `step` whose memory `tensor` shows, or -1.
int Frame::slot_of(const Tensor& tensor, int step) const {
  for (const int slot : program.steps_[static_cast<size_t>(step)].inputs) {
    if (slot < 0) continue;
    const Value& held = values_[static_cast<size_t>(slot)];
    if (!held.is_tensor()) continue;
    const std::byte* first = held.tensor().raw();
    if (tensor.raw() >= first && tensor.raw() <= first + held.tensor().bytes()) return slot;
  }
  return -1;
}

void Frame::alias(int step, int slot, const Tensor& source, const Shape& shape) {
  if (recording()) {
    const int from = slot_of(source, step);
    if (from >= 0) {
      Record& record = records_[static_cast<size_t>(slot)];
      record.kind = Placement::Kind::alias;
      record.source = from;
      const int storage = records_[static_cast<size_t>(from)].storage;
      // Memory that is not ours (an input, a constant) stays readable for the whole run.
      extend(slot, storage);
      place(slot, source.dtype(), shape, const_cast<std::byte*>(source.raw()), source.owner());
      return;
    }
  } else if (plan_->outputs[static_cast<size_t>(slot)].kind == Placement::Kind::alias) {
    place(slot, source.dtype(), shape, const_cast<std::byte*>(source.raw()), source.owner());
    return;
  }
  // Not a view of an input, or not one when the plan was made: lifetimes may differ, so copy.
  Tensor copy = source.reshaped(shape).clone();
  if (recording()) records_[static_cast<size_t>(slot)].kind = Placement::Kind::heap;
  value(slot) = std::move(copy);
}

void Frame::set(int slot, Value held) { value(slot) = std::move(held); }

void* Frame::workspace(int step, int64_t bytes) {
  const size_t piece = workspace_count_++;
  if (recording()) {
    recorded_workspaces_[static_cast<size_t>(step)].push_back(bytes);
  } else {
    const auto& pieces = plan_->workspaces[static_cast<size_t>(step)];
    if (piece < pieces.size() && pieces[piece].bytes >= bytes) {
      return arena_ + pieces[piece].offset;
    }
  }
  scratch_.push_back(recording() ? blocks_.allocate(DType::uint8, {bytes})
                                 : Tensor::allocate(DType::uint8, {bytes}));
  note(Profiler::Allocation::Kind::scratch, step, bytes);
  return scratch_.back().raw();
}

void Frame::end_step(int step) {
  scratch_.clear();
  unwanted_.clear();
  workspace_count_ = 0;
  for (const int slot : program.steps_[static_cast<size_t>(step)].dead) {
    Value& held = value(slot);
    if (held.is_none()) continue;
    if (recording()) {
      const int storage = records_[static_cast<size_t>(slot)].storage;
      if (storage >= 0) storages_[static_cast<size_t>(storage)].live_slots -= 1;
    }
    // Arena memory needs no release; everything else lets go of its owner.
    if (!held.is_tensor() || held.tensor().owner()) held = Value();
  }
}

// For each storage the graph output that it ends as, or -1.
std::vector<int> Frame::targets_of_storages() const {
  std::vector<int> result(storages_.size(), -1);
  for (size_t i = 0; i < program.outputs_.size(); ++i) {
    const auto slot = static_cast<size_t>(program.outputs_[i]);
    const int storage = records_[slot].storage;
    if (storage < 0 || !values_[slot].is_tensor()) continue;
    const Storage& s = storages_[static_cast<size_t>(storage)];
    if (s.ours && !s.kept && s.bytes == values_[slot].tensor().bytes()) {
      result[static_cast<size_t>(storage)] = static_cast<int>(i);
    }
  }
  return result;
}

// The bytes in use at each step: of pieces of the arena, and of what outlives the run.
std::vector<int64_t> Frame::live_bytes(std::span<const Interval> intervals) const {
  std::vector<int64_t> result(program.steps_.size() + 1);
  for (const Interval& each : intervals) {
    result[static_cast<size_t>(each.first)] += each.bytes;
    result[static_cast<size_t>(each.last) + 1] -= each.bytes;
  }
  for (const Storage& each : storages_) {
    if (each.escapes) result[static_cast<size_t>(each.first_step)] += each.bytes;
  }
  std::partial_sum(result.begin(), result.end(), result.begin());
  result.pop_back();
  return result;
}

std::shared_ptr<const MemoryPlan> Frame::make_plan(std::span<const Value> inputs) const {
  auto plan = std::make_shared<MemoryPlan>();
  for (const Value& input : inputs) {
    plan->key.push_back(input.is_tensor()
                            ? MemoryPlan::Key{input.tensor().dtype(), input.tensor().shape()}
                            : MemoryPlan::Key{DType::undefined, {}});
  }
  // One interval per storage that stays inside the run, and per piece of scratch memory.
  std::vector<Interval> intervals;
  std::vector<int> interval_of(storages_.size(), -1);
  for (size_t i = 0; i < storages_.size(); ++i) {
    const Storage& s = storages_[i];
    if (s.escapes) continue;
    interval_of[i] = static_cast<int>(intervals.size());
    intervals.push_back({s.first_step, std::max(s.first_step, s.last_step), s.bytes, 0});
  }
  const size_t first_workspace = intervals.size();
  for (size_t step = 0; step < recorded_workspaces_.size(); ++step) {
    for (const int64_t bytes : recorded_workspaces_[step]) {
      intervals.push_back({static_cast<int>(step), static_cast<int>(step), bytes, 0});
    }
  }
  plan->arena_bytes = assign_offsets(intervals);
  plan->live_bytes = live_bytes(intervals);
  plan->outputs.resize(records_.size());
  const std::vector<int> targets = targets_of_storages();
  for (size_t slot = 0; slot < records_.size(); ++slot) {
    const Record& record = records_[slot];
    Placement& placement = plan->outputs[slot];
    placement.kind = record.kind;
    placement.source = record.source;
    if (record.kind != Placement::Kind::arena) continue;
    const int interval = interval_of[static_cast<size_t>(record.storage)];
    if (interval < 0) {
      placement.kind = Placement::Kind::heap;
      placement.target = targets[static_cast<size_t>(record.storage)];
    } else {
      placement.offset = intervals[static_cast<size_t>(interval)].offset;
      placement.bytes = intervals[static_cast<size_t>(interval)].bytes;
    }
  }
  size_t next = first_workspace;
  plan->workspaces.resize(recorded_workspaces_.size());
  for (size_t step = 0; step < recorded_workspaces_.size(); ++step) {
    for (size_t piece = 0; piece < recorded_workspaces_[step].size(); ++piece, ++next) {
      plan->workspaces[step].push_back(
          {Placement::Kind::arena, -1, intervals[next].offset, intervals[next].bytes});
    }
  }
  return plan;
}

void Frame::finish(bool completed) {
  if (!completed) {
    scratch_.clear();
    unwanted_.clear();
    workspace_count_ = 0;
    for (Value& held : values_) held = Value();
    for (const auto& [slot, tensor] : program.constants_) value(slot) = tensor;
  } else {
    for (const int slot : program.run_long_slots_) value(slot) = Value();
  }
  // Only where one new shape comes after the other are blocks worth keeping.
  if (recording()) {
    if (!recorded_before_ || !completed) blocks_.clear();
    recorded_before_ = true;
  }
  plan_.reset();
  profile = nullptr;
}

}  // namespace bascule
