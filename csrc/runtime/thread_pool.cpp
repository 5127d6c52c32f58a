// SPDX-License-Identifier: Apache-2.0
#include "runtime/thread_pool.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <string>

#include "core/fork_safety.h"
#include "runtime/affinity.h"
#include "runtime/float_mode.h"

#if defined(__linux__)
#include <sched.h>
#endif
#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

namespace bascule {

namespace {

using clock = std::chrono::steady_clock;

constexpr int max_threads = 256;
constexpr int64_t max_pieces = 1 << 20;
// Loops at a time; more are done by their callers alone.
constexpr int max_slots = 64;
constexpr uint32_t caller_sleeps = uint32_t{1} << 31;
// How long a worker looks for the next loop: a sleeping one takes 20 to 200 us to come back.
constexpr auto worker_patience = std::chrono::microseconds(1000);
// How long a caller looks whether workers are done.
constexpr auto caller_patience = std::chrono::microseconds(200);

inline void pause() {
#if defined(__x86_64__) || defined(_M_X64)
  _mm_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

// CPUs that a cgroup quota amounts to, or a large number without one.
int quota_cpus() {
  constexpr int unlimited = 1 << 20;
  const auto cpus = [](double quota, double period) {
    return quota > 0 && period > 0 ? std::max(1, static_cast<int>((quota + period - 1) / period))
                                   : unlimited;
  };
  if (std::ifstream file("/sys/fs/cgroup/cpu.max"); file) {  // version 2
    std::string quota;
    double period = 0;
    if (file >> quota >> period && quota != "max") return cpus(std::atof(quota.c_str()), period);
    return unlimited;
  }
  std::ifstream quota_file("/sys/fs/cgroup/cpu/cpu.cfs_quota_us");
  std::ifstream period_file("/sys/fs/cgroup/cpu/cpu.cfs_period_us");
  double quota = 0;
  double period = 0;
  if (quota_file >> quota && period_file >> period) return cpus(quota, period);
  return unlimited;
}

// Replaced by a new pool in the child of a fork(), where the threads of the old one do not exist.
std::atomic<ThreadPool*> shared_pool{nullptr};

}  // namespace

int usable_cpus() {
  int count = static_cast<int>(std::thread::hardware_concurrency());
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) count = CPU_COUNT(&set);
#endif
  count = std::min(count, quota_cpus());
  if (const char* wanted = std::getenv("OMP_NUM_THREADS")) {
    const int threads = std::atoi(wanted);
    if (threads > 0) count = std::min(count, threads);
  }
  return std::max(count, 1);
}

// A loop that is open or being done. Slots live as long as their pool: a thread that comes late
// finds one closed, or open for another loop, which it may as well join.
struct ThreadPool::Slot {
  // How many threads may take part (upper half) and do (lower half): what idle workers look at. The
  // first line holds all that two threads need.
  alignas(64) std::atomic<uint32_t> joined{0};
  std::atomic<int> threads{0};
  std::atomic<int> pieces{0};
  std::atomic<bool> spin{true};
  std::atomic<bool> flush{false};  // as its caller computes with denormal numbers
  std::atomic<Loop::Call> call{nullptr};
  std::atomic<void*> context{nullptr};
  std::atomic<const LoopWatch*> watch{nullptr};
  std::atomic<int64_t> count{0};
  std::atomic<uint64_t> shares[max_threads] = {};  // pieces not yet begun: first << 32 | end
  alignas(64) std::atomic<uint32_t> done{0};       // pieces that workers did, and caller_sleeps
  std::atomic<bool> failed{false};
  std::exception_ptr error;
  alignas(64) std::atomic<bool> taken{false};

  void open(const Loop& loop);
  bool is_open(std::memory_order order = std::memory_order_relaxed) const {
    const uint32_t state = joined.load(order);
    return (state & 0xFFFF) < (state >> 16);
  }
  int join();
  int claim(int share, bool front);
  void do_piece(int piece);
  uint32_t do_pieces(int share);
};

void ThreadPool::Slot::open(const Loop& loop) {
  const int team = std::clamp(loop.threads, 1, max_threads);
  const int64_t parts = std::clamp<int64_t>(loop.pieces, 1, max_pieces);
  threads.store(team, std::memory_order_relaxed);
  pieces.store(static_cast<int>(parts), std::memory_order_relaxed);
  spin.store(loop.spin, std::memory_order_relaxed);
  flush.store(flushes_denormals(), std::memory_order_relaxed);
  call.store(loop.call, std::memory_order_relaxed);
  context.store(loop.context, std::memory_order_relaxed);
  watch.store(loop.watch, std::memory_order_relaxed);
  count.store(loop.count, std::memory_order_relaxed);
  done.store(0, std::memory_order_relaxed);
  for (int i = 0; i < team; ++i) {
    const auto first = static_cast<uint64_t>(parts * i / team);
    const auto end = static_cast<uint64_t>(parts * (i + 1) / team);
    shares[i].store(first << 32 | end, std::memory_order_release);
  }
  joined.store(static_cast<uint32_t>(team) << 16 | 1, std::memory_order_seq_cst);
}

// The number of the thread in the loop, or -1 when it is not needed.
int ThreadPool::Slot::join() {
  if (!is_open()) return -1;
  const uint32_t state = joined.fetch_add(1, std::memory_order_acquire);
  return (state & 0xFFFF) < (state >> 16) ? static_cast<int>(state & 0xFFFF) : -1;
}

// Begins a piece of a share, from its front or its back; -1 when all are begun.
int ThreadPool::Slot::claim(int share, bool front) {
  uint64_t state = shares[share].load(std::memory_order_relaxed);
  for (;;) {
    const auto first = static_cast<uint32_t>(state >> 32);
    const auto end = static_cast<uint32_t>(state);
    if (first >= end) return -1;
    const uint64_t rest = front ? state + (uint64_t{1} << 32) : state - 1;
    if (shares[share].compare_exchange_weak(state, rest, std::memory_order_acq_rel,
                                            std::memory_order_relaxed)) {
      return static_cast<int>(front ? first : end - 1);
    }
  }
}

void ThreadPool::Slot::do_piece(int piece) {
  const int64_t items = count.load(std::memory_order_relaxed);
  const int parts = pieces.load(std::memory_order_relaxed);
  try {
    call.load(std::memory_order_relaxed)(context.load(std::memory_order_relaxed),
                                         items * piece / parts, items * (piece + 1) / parts);
  } catch (...) {
    if (!failed.exchange(true)) error = std::current_exception();
  }
}

// Does pieces until all are begun: its own share's in order, then the others' from the back.
// Returns how many.
uint32_t ThreadPool::Slot::do_pieces(int share) {
  uint32_t finished = 0;
  const int team = threads.load(std::memory_order_relaxed);
  for (int i = 0; i < team; ++i) {
    const int from = (share + i) % team;
    for (int piece = claim(from, i == 0); piece >= 0; piece = claim(from, i == 0)) {
      do_piece(piece);
      ++finished;
    }
  }
  return finished;
}

ThreadPool& ThreadPool::shared() {
  ThreadPool* pool = shared_pool.load(std::memory_order_acquire);
  if (pool != nullptr) return *pool;
  const std::lock_guard<std::mutex> lock(fork_safe_mutex(ForkSafe::pool_creation));
  pool = shared_pool.load(std::memory_order_acquire);
  if (pool == nullptr) {
    // Never destroyed: its threads end with the process, and a run may be under way at exit.
    pool = new ThreadPool(usable_cpus() - 1);
    shared_pool.store(pool, std::memory_order_release);
    static const bool registered = [] {
      after_fork_in_child([] { shared_pool.store(nullptr, std::memory_order_release); });
      return true;
    }();
    (void)registered;
  }
  return *pool;
}

ThreadPool::ThreadPool(int workers) : slots_(new Slot[max_slots]) { ensure_workers(workers); }

ThreadPool::~ThreadPool() {
  stop_.store(true);
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    wake_.notify_all();
  }
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::ensure_workers(int workers) {
  if (worker_count_.load(std::memory_order_relaxed) >= workers) return;
  const std::lock_guard<std::mutex> lock(mutex_);
  while (static_cast<int>(workers_.size()) < workers) {
    workers_.emplace_back([this] { work(); });
    worker_count_.fetch_add(1);
  }
}

// A slot for the caller alone, that of last time if it is free; nullptr when all are taken.
ThreadPool::Slot* ThreadPool::take_slot() {
  thread_local int last = 0;
  for (int i = -1; i < max_slots; ++i) {
    const int index = i < 0 ? last : i;
    Slot& slot = slots_[static_cast<size_t>(index)];
    if (slot.taken.load(std::memory_order_relaxed) ||
        slot.taken.exchange(true, std::memory_order_acquire)) {
      continue;
    }
    last = index;
    int used = used_slots_.load(std::memory_order_relaxed);
    while (used <= index && !used_slots_.compare_exchange_weak(used, index + 1)) {
    }
    return &slot;
  }
  return nullptr;
}

void ThreadPool::run(const Loop& loop) {
  Slot* const slot = take_slot();
  if (slot == nullptr) {
    loop.call(loop.context, 0, loop.count);
    return;
  }
  // A session may ask for more threads than there are CPUs; it gets them, up to a bound.
  ensure_workers(std::min(loop.threads, max_threads) - 1);
  slot->open(loop);
  if (sleeping_.load(std::memory_order_seq_cst) > 0) wake_workers();
  const uint32_t mine = slot->do_pieces(0);
  // Workers that are late do not join.
  if (slot->is_open()) slot->joined.store(0, std::memory_order_relaxed);
  wait(*slot, static_cast<uint32_t>(slot->pieces.load(std::memory_order_relaxed)) - mine);
  std::exception_ptr error;
  if (slot->failed.load(std::memory_order_relaxed)) {
    error = std::move(slot->error);
    slot->error = nullptr;
    slot->failed.store(false, std::memory_order_relaxed);
  }
  slot->taken.store(false, std::memory_order_release);
  if (error) std::rethrow_exception(error);
}

// Until workers have done so many pieces.
void ThreadPool::wait(Slot& slot, uint32_t pieces) {
  if (slot.done.load(std::memory_order_acquire) == pieces) return;
  const auto until = clock::now() + caller_patience;
  do {
    for (int i = 0; i < 32; ++i) {
      if (slot.done.load(std::memory_order_acquire) == pieces) return;
      pause();
    }
  } while (clock::now() < until);
  // A worker may wait for a CPU that another program keeps busy: it gets the caller's.
  std::unique_lock<std::mutex> lock(mutex_);
  slot.done.fetch_or(caller_sleeps, std::memory_order_acq_rel);
  done_.wait(lock,
             [&] { return slot.done.load(std::memory_order_acquire) == (pieces | caller_sleeps); });
}

// What a worker does last for a loop: from here on the slot may be another loop's.
void ThreadPool::finish(Slot& slot, uint32_t pieces) {
  if (pieces == 0) return;
  const uint32_t before = slot.done.fetch_add(pieces, std::memory_order_acq_rel);
  if ((before & caller_sleeps) == 0) return;
  const std::lock_guard<std::mutex> lock(mutex_);
  done_.notify_all();
}

// Calls as many sleeping workers as the loops under way want beyond those that are awake.
void ThreadPool::wake_workers() {
  int wanted = 0;
  const int used = used_slots_.load();
  for (int i = 0; i < used; ++i) {
    const Slot& slot = slots_[static_cast<size_t>(i)];
    if (slot.taken.load(std::memory_order_relaxed)) {
      wanted += slot.threads.load(std::memory_order_relaxed) - 1;
    }
  }
  wanted -= worker_count_.load() - sleeping_.load();
  if (wanted <= 0) return;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    wanted = std::min(wanted, sleeping_.load());
    sleeping_.fetch_sub(wanted);
    calls_ += wanted;
  }
  for (int i = 0; i < wanted; ++i) wake_.notify_one();
}

bool ThreadPool::has_work() const {
  const int used = used_slots_.load();
  for (int i = 0; i < used; ++i) {
    if (slots_[static_cast<size_t>(i)].is_open(std::memory_order_seq_cst)) return true;
  }
  return false;
}

// Takes part in one open loop and tells whether to spin after it; false when none is open.
bool ThreadPool::help(bool* spin) {
  const int used = used_slots_.load(std::memory_order_acquire);
  for (int i = 0; i < used; ++i) {
    Slot& slot = slots_[static_cast<size_t>(i)];
    const int number = slot.join();
    if (number < 0) continue;
    *spin = slot.spin.load(std::memory_order_relaxed);
    const DenormalMode mode(slot.flush.load(std::memory_order_relaxed));
    const bool watched = slot.watch.load(std::memory_order_relaxed) != nullptr;
    const Ticks begin = watched ? now_ticks() : 0;
    const uint32_t pieces = slot.do_pieces(number);
    if (watched && pieces > 0) {
      // Only now it is certain whose watch this is: that of the loop that waits for these pieces.
      const LoopWatch* const watch = slot.watch.load(std::memory_order_relaxed);
      if (watch != nullptr) watch->worked(begin, now_ticks());
    }
    finish(slot, pieces);
    return true;
  }
  return false;
}

void ThreadPool::sleep() {
  std::unique_lock<std::mutex> lock(mutex_);
  sleeping_.fetch_add(1, std::memory_order_seq_cst);
  // Whoever opens a loop from here on sees this worker asleep.
  if (has_work() || stop_.load()) {
    sleeping_.fetch_sub(1);
    return;
  }
  wake_.wait(lock, [this] { return calls_ > 0 || stop_.load(); });
  if (calls_ > 0) --calls_;
}

void ThreadPool::work() {
  register_worker();
  bool spin = true;
  while (!stop_.load(std::memory_order_relaxed)) {
    if (help(&spin)) continue;
    bool helped = false;
    if (spin) {
      const auto until = clock::now() + worker_patience;
      do {
        for (int i = 0; i < 32 && !helped; ++i) {
          pause();
          helped = help(&spin);
        }
      } while (!helped && clock::now() < until);
    }
    if (!helped) sleep();
  }
}

}  // namespace bascule
