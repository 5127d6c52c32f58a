// SPDX-License-Identifier: Apache-2.0
// Records what runs did, cheaply: a node costs one reading of the clock, everything else is looked
// up afterwards. Where nodes are so short that this would count, a run reads the clock around some
// of them only, each run around others. Costs nothing when no profiler is set.
#pragma once

#include <cstddef>
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
    std::shared_ptr<const MemoryPlan> plan;    // null: the run was recorded, or failed
    std::shared_ptr<const StepShapes> shapes;  // null: they are collected
    Profiler* profiler = nullptr;
    uint64_t thread = 0;
    // Readings of the clock in order: at the beginning, where `is_read` says so, and at the end.
    Ticks* ticks = nullptr;
    size_t count = 0;
    int stride = 1;  // of so many steps one is timed
    int phase = 0;   // the first of these
    int next = 0;    // the number of the step before which the clock is read next
    std::vector<Allocation> allocations;
    StepShapes collected;

    bool is_sampled() const { return stride > 1; }
    // Whether the clock is read before step `step`, which is after the one before.
    static bool is_read(int step, int stride, int phase) {
      const int distance = (step - phase + stride) % stride;
      return distance == 0 || distance == 1;
    }
    void read_clock() { ticks[count++] = now_ticks(); }
    // After step `step`.
    void ended(int step) {
      if (stride == 1) {
        read_clock();
      } else if (step + 1 == next) {
        read_clock();
        next = (next - phase + stride) % stride == 0 ? next + 1 : next + stride - 1;
      }
    }
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
    std::vector<std::unique_ptr<Ticks[]>> chunks;
    int64_t dropped = 0;  // runs beyond what is kept
    Ticks first_ticks = 0;
    int64_t first_ns = 0;
    double ns_per_tick = 1;

    // Nanoseconds of steady_clock at a reading of the clock.
    int64_t nanoseconds(Ticks ticks) const;
    // Of a run: the beginning, then the end of each step, -1 where it was not read.
    std::vector<int64_t> times(const Run& run) const;
  };

  Profiler();

  // Before the first step of a run that follows `plan`, if it does; false when no more is kept.
  bool begin(Run& run, std::shared_ptr<const StepNames> names,
             const std::shared_ptr<const MemoryPlan>& plan);
  // After its last step with the plan that was made or followed, or after an error without one.
  void end(Run&& run, std::shared_ptr<const MemoryPlan> plan);

  void worked(const Work& work);

  // All so far; the profiler forgets it.
  Taken take();

 private:
  // What is known of runs by a plan.
  struct Known {
    std::shared_ptr<const MemoryPlan> plan;  // so that no other gets its address
    std::shared_ptr<const StepShapes> shapes;
    Ticks fastest = 0;  // of the runs that were timed in full
    int full_runs = 0;
    int stride = 1;
    int phase = 0;
  };

  Ticks* claim(size_t count);
  void choose_stride(Known& known, size_t steps) const;

  std::mutex mutex_;
  std::vector<Run> runs_;
  std::vector<Work> work_;
  std::unordered_map<const MemoryPlan*, Known> known_;
  std::vector<std::unique_ptr<Ticks[]>> chunks_;
  size_t used_ = 0;  // of the last chunk
  size_t chunk_ = 0;
  int64_t kept_ = 0;
  int64_t dropped_ = 0;
  Ticks first_ticks_;
  int64_t first_ns_;
};

// A number of the calling thread, the system's where it has one.
uint64_t thread_number();

}  // namespace bascule
