// SPDX-License-Identifier: Apache-2.0
// The state of one run: a value per slot, and where the memory of each value comes from.
//
// The first run with a given set of input shapes allocates every value on its own and writes down
// what happened: sizes, views, values written in place, scratch memory. plan_memory() turns that
// record into offsets in one arena. Later runs with those input shapes follow the plan; a value
// that turns out larger than planned (its shape depends on data) goes to the heap.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <vector>

#include "runtime/block_pool.h"
#include "runtime/memory_plan.h"
#include "runtime/profiler.h"
#include "runtime/program.h"

namespace bascule {

// Memory of one output, or one piece of scratch memory, of one step.
struct Placement {
  enum class Kind : uint8_t {
    heap,      // a graph output, or a value that leaves the run
    arena,     // `offset` in the arena, `bytes` long
    in_place,  // over input `source` of the step
    alias,     // a view of what slot `source` holds
  };
  Kind kind = Kind::heap;
  int source = -1;
  int64_t offset = 0;
  int64_t bytes = 0;
  int target = -1;  // heap: the graph output that this memory ends as
};

struct MemoryPlan {
  struct Key {
    DType dtype;
    Shape shape;
  };
  std::vector<Key> key;                            // of the tensor inputs
  std::vector<Placement> outputs;                  // per slot
  std::vector<std::vector<Placement>> workspaces;  // per step
  std::vector<int64_t> live_bytes;                 // per step: values and scratch memory
  int64_t arena_bytes = 0;
};

class Frame {
 public:
  explicit Frame(const Program& program);

  // Prepares for one run. Without a plan the run is recorded. Otherwise outputs are made in the
  // memory of `targets` (one for each, or none at all) where that has their type and size.
  void begin(std::shared_ptr<const MemoryPlan> plan, std::span<const Value> inputs,
             const RunSettings& settings, std::span<const Tensor> targets,
             Profiler::Run* profile = nullptr);

  Tensor& output(int step, int slot, DType dtype, const Shape& shape);
  Tensor& unwanted_output(int step, DType dtype, const Shape& shape);
  void alias(int step, int slot, const Tensor& source, const Shape& shape);
  void set(int slot, Value value);
  void* workspace(int step, int64_t bytes);
  void end_step(int step);

  // After a recorded run: the plan for the next ones.
  std::shared_ptr<const MemoryPlan> make_plan(std::span<const Value> inputs) const;

  // Lets go of everything that the run made; the arena stays. After an error every slot is looked
  // at, else only those that outlive their last step.
  void finish(bool completed);

  Value& value(int slot) { return values_[static_cast<size_t>(slot)]; }

  const Program& program;
  RunSettings settings;
  Profiler::Run* profile = nullptr;  // of this run, if it is profiled

 private:
  // The record. A storage is a piece of memory with the slots that show it.
  struct Storage {
    int64_t bytes = 0;
    int first_step = 0;
    int last_step = 0;
    int live_slots = 0;
    bool ours = false;     // made by this run: may be overwritten and planned
    bool escapes = false;  // read by a graph output, or by a kernel that keeps inputs
    bool kept = false;     // read by a kernel that keeps inputs
  };
  struct Record {
    Placement::Kind kind = Placement::Kind::heap;
    int source = -1;
    int storage = -1;
  };

  int in_place_source(int step, int slot, int64_t bytes) const;
  Tensor& place(int slot, DType dtype, const Shape& shape, std::byte* data,
                std::shared_ptr<void> owner);
  int slot_of(const Tensor& tensor, int step) const;
  std::vector<int> targets_of_storages() const;
  void extend(int slot, int storage);
  std::vector<int64_t> live_bytes(std::span<const Interval> intervals) const;
  void note(Profiler::Allocation::Kind kind, int step, int64_t bytes);
  Profiler::Allocation::Kind kind_of(int slot) const;
  bool recording() const { return plan_ == nullptr; }
  bool escapes(int slot) const;

  std::vector<Value> values_;
  std::shared_ptr<const MemoryPlan> plan_;
  std::span<const Tensor> targets_;
  std::byte* arena_ = nullptr;
  std::shared_ptr<void> arena_owner_;
  int64_t arena_bytes_ = 0;

  BlockPool blocks_;              // of recorded runs
  bool recorded_before_ = false;  // whether the last run was recorded
  std::vector<Storage> storages_;
  std::vector<Record> records_;  // per slot
  std::vector<std::vector<int64_t>> recorded_workspaces_;
  std::vector<Tensor> scratch_;  // heap pieces of the running step
  std::deque<Tensor> unwanted_;  // outputs of the running step that nobody reads
  size_t workspace_count_ = 0;   // pieces of the running step so far
};

}  // namespace bascule
