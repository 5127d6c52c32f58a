// SPDX-License-Identifier: Apache-2.0
// Records what runs did, cheaply: a node costs one reading of the clock, everything else is looked
// up afterwards. Costs nothing when no profiler is set.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/tensor.h"
#include "runtime/clock_ticks.h"

namespace bascule {

struct MemoryPlan;
class Program;

// The steps of a program, which may be gone when a profile is looked at.
struct StepNames {
  struct Step {
    std::string name;
    std::string op_type;
    std::string domain;
    std::string kernel;
  };
  std::vector<Step> steps;
};

class Profiler {
 public:
  // (element type, shape) of each tensor that a step makes.
  using StepShapes = std::vector<std::vector<std::pair<DType, Shape>>>;

  // Memory that came from the system for one run.
  struct Allocation {
    enum class Kind : uint8_t { arena, output, scratch, value };
    Ticks time;
    int64_t bytes;
    int step;  // -1: for the whole run
    Kind kind;
  };

  // One run of a program.
  struct Run {
    std::shared_ptr<const StepNames> names;
    std::shared_ptr<const MemoryPlan> plan;      // null: the run was recorded, or failed
    std::shared_ptr<const StepShapes> shapes;    // null: they are collected
    std::vector<Ticks> ticks;                    // the beginning, then the end of each step
    std::vector<Allocation> allocations;
    StepShapes collected;
    uint64_t thread = 0;
    Profiler* profiler = nullptr;

    void allocated(Allocation::Kind kind, int step, int64_t bytes) {
      allocations.push_back({now_ticks(), bytes, step, kind});
    }
  };

  // What a worker did for a loop of a step.
  struct Work {
    const StepNames* names;
    int step;
    uint64_t thread;
    Ticks begin;
    Ticks end;
  };

  struct Taken {
    std::vector<Run> runs;
    std::vector<Work> work;
    int64_t dropped = 0;  // runs beyond what is kept
    // Nanoseconds of steady_clock at a reading of the clock.
    int64_t nanoseconds(Ticks ticks) const;
    Ticks first_ticks = 0;
    int64_t first_ns = 0;
    double ns_per_tick = 1;
  };

  Profiler();

  // Before the first step of a run, with what it goes by; and after its last, or after an error.
  std::unique_ptr<Run> begin(std::shared_ptr<const StepNames> names,
                             const std::shared_ptr<const MemoryPlan>& plan);
  void end(std::unique_ptr<Run> run, std::shared_ptr<const MemoryPlan> plan);

  void worked(const Work& work);

  // All so far; the profiler forgets it.
  Taken take();

 private:
  struct Known {
    std::shared_ptr<const MemoryPlan> plan;  // so that no other gets its address
    std::shared_ptr<const StepShapes> shapes;
  };

  std::mutex mutex_;
  std::vector<Run> runs_;
  std::vector<Work> work_;
  std::unordered_map<const MemoryPlan*, Known> known_;
  int64_t kept_ticks_ = 0;
  int64_t dropped_ = 0;
  Ticks first_ticks_;
  int64_t first_ns_;
};

// A number of the calling thread, the system's where it has one.
uint64_t thread_number();

}  // namespace bascule
