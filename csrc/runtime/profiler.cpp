// SPDX-License-Identifier: Apache-2.0
#include "runtime/profiler.h"

#include <algorithm>
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
constexpr size_t chunk_ticks = size_t{1} << 16;
// The counter is compared with the system's clock over this time at least.
constexpr int64_t calibration_ns = 5'000'000;
// Programs of fewer steps are always timed in full, as are the first runs by a plan.
constexpr size_t least_steps = 32;
constexpr int most_full_runs = 8;
constexpr int most_stride = 32;

// The clock of the processor itself, and what one reading of it takes.
int64_t ticks_of_reading() {
  static const int64_t cost = [] {
    const Ticks begin = now_ticks();
    for (int i = 0; i < 62; ++i) (void)now_ticks();
    return std::max<int64_t>((now_ticks() - begin) / 64, 1);
  }();
  return cost;
}

}  // namespace

#if defined(__x86_64__) || defined(_M_X64)
const bool has_even_counter = [] {
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
}();
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

// Memory for so many readings; null when no more is kept. The mutex is held.
Ticks* Profiler::claim(size_t count) {
  kept_ += static_cast<int64_t>(count);
  if (kept_ > most_ticks) return nullptr;
  if (chunks_.empty() || used_ + count > chunk_) {
    chunk_ = std::max(chunk_ticks, count);
    used_ = 0;
    chunks_.push_back(std::make_unique_for_overwrite<Ticks[]>(chunk_));
  }
  Ticks* const claimed = chunks_.back().get() + used_;
  used_ += count;
  return claimed;
}

bool Profiler::begin(Run& run, std::shared_ptr<const StepNames> names,
                     const std::shared_ptr<const MemoryPlan>& plan) {
  const size_t steps = names->steps.size();
  size_t count = steps + 1;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = plan == nullptr ? known_.end() : known_.find(plan.get());
    if (found != known_.end()) {
      Known& known = found->second;
      run.shapes = known.shapes;
      run.stride = known.stride;
      if (known.stride > 1) {
        run.phase = run.next = known.phase;
        known.phase = (known.phase + 1) % known.stride;
        if (run.next == 0) run.next = 1;  // the beginning is read in any case
        count = 2 * (steps / static_cast<size_t>(known.stride) + 2);
      }
    }
    run.ticks = claim(count);
    if (run.ticks == nullptr) {
      ++dropped_;
      return false;
    }
  }
  run.names = std::move(names);
  run.profiler = this;
  run.thread = thread_number();
  if (run.shapes == nullptr) run.collected.resize(steps);
  run.read_clock();
  return true;
}

void Profiler::end(Run&& run, std::shared_ptr<const MemoryPlan> plan) {
  if (run.is_sampled()) run.read_clock();  // the end of the run, perhaps once more
  if (run.shapes == nullptr) {
    run.shapes = std::make_shared<const StepShapes>(std::move(run.collected));
  }
  run.plan = std::move(plan);
  const std::lock_guard<std::mutex> lock(mutex_);
  if (run.plan != nullptr && !run.is_sampled()) {
    const auto place = known_.try_emplace(run.plan.get()).first;
    Known& known = place->second;
    const Ticks took = run.ticks[run.count - 1] - run.ticks[0];
    if (known.plan == nullptr) {
      known.plan = run.plan;
      known.shapes = run.shapes;
    } else {  // the first run by a plan made it
      known.fastest = known.full_runs == 0 ? took : std::min(known.fastest, took);
      if (++known.full_runs == most_full_runs) choose_stride(known, run.names->steps.size());
    }
  }
  runs_.push_back(std::move(run));
}

// How many steps go without a reading for one that is timed, so that it costs about 2 %.
void Profiler::choose_stride(Known& known, size_t steps) const {
  if (steps < least_steps) return;
  const int64_t step = std::max<int64_t>(known.fastest / static_cast<int64_t>(steps), 1);
  const int64_t stride = 2 * ticks_of_reading() * 50 / step;
  known.stride = stride > 2 ? static_cast<int>(std::min<int64_t>(stride, most_stride)) : 1;
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
  taken.chunks = std::move(chunks_);
  taken.dropped = dropped_;
  taken.first_ticks = first_ticks_;
  taken.first_ns = first_ns_;
  if (last_ticks > first_ticks_) {
    taken.ns_per_tick =
        static_cast<double>(last_ns - first_ns_) / static_cast<double>(last_ticks - first_ticks_);
  }
  runs_.clear();
  work_.clear();
  chunks_.clear();
  kept_ = dropped_ = 0;
  return taken;
}

int64_t Profiler::Taken::nanoseconds(Ticks ticks) const {
  return first_ns + static_cast<int64_t>(static_cast<double>(ticks - first_ticks) * ns_per_tick);
}

std::vector<int64_t> Profiler::Taken::times(const Run& run) const {
  const size_t steps = run.names->steps.size();
  std::vector<int64_t> result(run.is_sampled() ? steps + 1 : run.count, -1);
  if (!run.is_sampled()) {
    for (size_t i = 0; i < run.count; ++i) result[i] = nanoseconds(run.ticks[i]);
    return result;
  }
  result[0] = nanoseconds(run.ticks[0]);
  size_t read = 1;
  for (size_t i = 1; i <= steps && read + 1 < run.count; ++i) {
    if (Run::is_read(static_cast<int>(i), run.stride, run.phase)) {
      result[i] = nanoseconds(run.ticks[read++]);
    }
  }
  result[steps] = nanoseconds(run.ticks[run.count - 1]);
  return result;
}

}  // namespace bascule
