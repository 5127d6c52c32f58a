// SPDX-License-Identifier: Apache-2.0
#include "runtime/profiler.h"

#include <functional>
#include <thread>

#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#if (defined(__x86_64__) || defined(_M_X64)) && !defined(_MSC_VER)
#include <cpuid.h>
#endif

namespace bascule {

namespace {

// Readings of the clock that are kept, 8 bytes each: more runs are only counted.
constexpr int64_t most_ticks = int64_t{1} << 23;
// The counter is compared with the system's clock over this time at least.
constexpr int64_t calibration_ns = 5'000'000;

}  // namespace

#if defined(__x86_64__) || defined(_M_X64)
bool has_even_counter() {
#if defined(_MSC_VER)
  int registers[4] = {};
  __cpuid(registers, static_cast<int>(0x80000000u));
  if (static_cast<unsigned>(registers[0]) < 0x80000007u) return false;
  __cpuid(registers, static_cast<int>(0x80000007u));
  return (registers[3] & (1 << 8)) != 0;
#else
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(0x80000007u, &a, &b, &c, &d) != 0 && (d & (1u << 8)) != 0;
#endif
}
#endif

uint64_t thread_number() {
#if defined(__linux__)
  thread_local const auto number = static_cast<uint64_t>(syscall(SYS_gettid));
#else
  thread_local const uint64_t number = std::hash<std::thread::id>{}(std::this_thread::get_id());
#endif
  return number;
}

Profiler::Profiler() : first_ticks_(now_ticks()), first_ns_(steady_ns()) {}

std::unique_ptr<Profiler::Run> Profiler::begin(std::shared_ptr<const StepNames> names,
                                               const std::shared_ptr<const MemoryPlan>& plan) {
  auto run = std::make_unique<Run>();
  const size_t steps = names->steps.size();
  run->names = std::move(names);
  run->thread = thread_number();
  run->profiler = this;
  if (plan != nullptr) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = known_.find(plan.get());
    if (found != known_.end()) run->shapes = found->second.shapes;
  }
  run->ticks.reserve(steps + 1);
  if (run->shapes == nullptr) run->collected.resize(steps);
  run->ticks.push_back(now_ticks());
  return run;
}

void Profiler::end(std::unique_ptr<Run> run, std::shared_ptr<const MemoryPlan> plan) {
  if (run->shapes == nullptr) {
    run->shapes = std::make_shared<const StepShapes>(std::move(run->collected));
  }
  run->plan = std::move(plan);
  const std::lock_guard<std::mutex> lock(mutex_);
  if (run->plan != nullptr) known_.try_emplace(run->plan.get(), Known{run->plan, run->shapes});
  kept_ticks_ += static_cast<int64_t>(run->ticks.size());
  if (kept_ticks_ > most_ticks) {
    ++dropped_;
  } else {
    runs_.push_back(std::move(*run));
  }
}

void Profiler::worked(const Work& work) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (static_cast<int64_t>(work_.size()) < most_ticks / 4) work_.push_back(work);
}

Profiler::Taken Profiler::take() {
  Taken taken;
  int64_t last_ns = steady_ns();
  if (last_ns - first_ns_ < calibration_ns) {
    std::this_thread::sleep_for(std::chrono::nanoseconds(calibration_ns));
    last_ns = steady_ns();
  }
  const Ticks last_ticks = now_ticks();
  const std::lock_guard<std::mutex> lock(mutex_);
  taken.runs = std::move(runs_);
  taken.work = std::move(work_);
  taken.dropped = dropped_;
  taken.first_ticks = first_ticks_;
  taken.first_ns = first_ns_;
  if (last_ticks > first_ticks_) {
    taken.ns_per_tick =
        static_cast<double>(last_ns - first_ns_) / static_cast<double>(last_ticks - first_ticks_);
  }
  runs_.clear();
  work_.clear();
  kept_ticks_ = dropped_ = 0;
  return taken;
}

int64_t Profiler::Taken::nanoseconds(Ticks ticks) const {
  return first_ns + static_cast<int64_t>(static_cast<double>(ticks - first_ticks) * ns_per_tick);
}

}  // namespace bascule
