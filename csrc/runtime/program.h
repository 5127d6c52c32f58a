// SPDX-License-Identifier: Apache-2.0
// A compiled graph: kernels in order, values in slots, and memory plans by input shape.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "runtime/kernel.h"
#include "runtime/node.h"

namespace bascule {

struct MemoryPlan;
struct StepNames;
class Frame;

// Receives what a run did; see profiler.h. Calls cost nothing when no profiler is set.
class Profiler;

// How to run: passed down into nested programs.
struct RunSettings {
  int threads = 1;                               // pieces that a loop is cut into at most
  const std::atomic<bool>* terminate = nullptr;  // set from outside: stop before the next node
  Profiler* profiler = nullptr;
  bool spin = true;  // whether threads that wait for work of this run spin at first
  // Called now and then, on the caller's thread, by what may go on for long; may throw. Or null.
  void (*poll)() = nullptr;
};

// Whether two tensors share memory.
bool overlap(const Tensor& a, const Tensor& b);

class Program {
 public:
  // Chooses a kernel for every node; an error that lists every node without one.
  explicit Program(const GraphSpec& graph);
  ~Program();
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  // Runs the graph. `inputs` in the order of GraphSpec::inputs. Every tensor of the results has an
  // owner; it may be shared (an output that is an input, a constant or another output). Safe to
  // call from several threads at once.
  //
  // `targets`: nothing, or a tensor for each output, undefined for those without. Where it can, the
  // run makes an output in the memory of its target, which shares no memory with anything else.
  std::vector<Value> run(std::span<const Value> inputs, const RunSettings& settings,
                         std::span<const Tensor> targets = {}) const;

  int input_count() const { return static_cast<int>(inputs_.size()); }
  int output_count() const { return static_cast<int>(outputs_.size()); }
  const ValueSpec& input(int i) const { return input_specs_[static_cast<size_t>(i)]; }
  const ValueSpec& output(int i) const { return output_specs_[static_cast<size_t>(i)]; }

  struct Step {
    std::unique_ptr<Kernel> kernel;
    const KernelEntry* entry;
    std::string kernel_name;
    std::string name;
    std::string op_type;
    std::string domain;
    int threads = 0;           // at most, when that was chosen for this node
    std::vector<int> inputs;   // slots, -1: left out
    std::vector<int> outputs;  // slots, -1: not wanted
    std::vector<int> dead;     // slots that nothing reads after this step
  };
  const std::vector<Step>& steps() const { return steps_; }

  // Whether a constant of the graph itself lies in this memory.
  bool reads(const Tensor& memory) const;

  // Whether a kernel may hold the memory of its inputs after the run.
  bool keeps_inputs() const { return keeps_inputs_; }

  // Bytes of the largest arena that a plan asks for so far.
  int64_t arena_bytes() const;

 private:
  friend class Frame;
  friend class RunContext;

  std::unique_ptr<Frame> take_frame() const;
  void give_frame(std::unique_ptr<Frame> frame) const;
  std::shared_ptr<const MemoryPlan> find_plan(std::span<const Value> inputs) const;
  void keep_plan(std::shared_ptr<const MemoryPlan> plan) const;
  std::shared_ptr<const StepNames> step_names() const;
  std::vector<Value> take_outputs(Frame& frame) const;

  std::vector<Step> steps_;
  std::vector<int> inputs_;
  std::vector<int> outputs_;
  std::vector<ValueSpec> input_specs_;
  std::vector<ValueSpec> output_specs_;
  std::vector<std::pair<int, Tensor>> constants_;
  std::vector<bool> kept_;  // per slot: read by a kernel that keeps inputs
  bool keeps_inputs_ = false;
  std::vector<int> last_use_;  // per slot: the last step that reads it; graph outputs: no step
  // Inputs, and outputs that are not constants: alive until the end of a run.
  std::vector<int> run_long_slots_;
  int slot_count_ = 0;

  std::mutex& mutex_;  // of what follows
  mutable std::vector<std::unique_ptr<Frame>> frames_;
  mutable std::vector<std::shared_ptr<const MemoryPlan>> plans_;  // most recently used first
  mutable std::shared_ptr<const StepNames> step_names_;           // made for the first profile
};

}  // namespace bascule
