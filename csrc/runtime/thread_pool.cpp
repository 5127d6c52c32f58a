// SPDX-License-Identifier: Apache-2.0
#include "runtime/thread_pool.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <string>

#if defined(__linux__)
#include <sched.h>
#endif
#if !defined(_WIN32)
#include <pthread.h>
#endif
#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

namespace bascule {

namespace {

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

// One loop. Lives on the caller's stack; `users` keeps it there until the last helper has left.
struct ThreadPool::Job {
  Call call;
  void* context;
  int64_t count;
  int pieces;
  std::atomic<int> next{0};
  std::atomic<int> done{0};
  std::atomic<int> users{0};
  std::exception_ptr error;
  std::atomic<bool> failed{false};

  // Does pieces until none is left.
  void work() {
    for (int piece = next.fetch_add(1, std::memory_order_relaxed); piece < pieces;
         piece = next.fetch_add(1, std::memory_order_relaxed)) {
      try {
        call(context, count * piece / pieces, count * (piece + 1) / pieces);
      } catch (...) {
        if (!failed.exchange(true)) error = std::current_exception();
      }
      done.fetch_add(1, std::memory_order_release);
    }
  }
};

ThreadPool& ThreadPool::shared() {
  static std::mutex creation;
  ThreadPool* pool = shared_pool.load(std::memory_order_acquire);
  if (pool != nullptr) return *pool;
  const std::lock_guard<std::mutex> lock(creation);
  pool = shared_pool.load(std::memory_order_acquire);
  if (pool == nullptr) {
    // Never destroyed: its threads end with the process, and a run may be under way at exit.
    pool = new ThreadPool(usable_cpus() - 1);
    shared_pool.store(pool, std::memory_order_release);
#if !defined(_WIN32)
    static const int registered = pthread_atfork(
        nullptr, nullptr, [] { shared_pool.store(nullptr, std::memory_order_release); });
    (void)registered;
#endif
  }
  return *pool;
}

ThreadPool::ThreadPool(int workers) { ensure_workers(workers); }

ThreadPool::~ThreadPool() {
  stop_.store(true);
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    wake_.notify_all();
  }
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::ensure_workers(int workers) {
  while (static_cast<int>(workers_.size()) < workers) {
    workers_.emplace_back([this] { work(); });
  }
}

void ThreadPool::run_erased(int64_t count, int pieces, Call call, void* context) {
  Job job;
  job.call = call;
  job.context = context;
  job.count = count;
  job.pieces = pieces;
  bool wake;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    // A session may ask for more threads than there are CPUs; it gets them, up to a bound.
    ensure_workers(std::min(pieces - 1, 255));
    jobs_.push_back(&job);
    open_jobs_.fetch_add(1, std::memory_order_release);
    wake = sleeping_ > 0;
  }
  if (wake) {
    if (pieces == 2) {
      wake_.notify_one();
    } else {
      wake_.notify_all();
    }
  }
  job.work();
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    jobs_.erase(std::find(jobs_.begin(), jobs_.end(), &job));
    open_jobs_.fetch_sub(1, std::memory_order_release);
  }
  int spins = 0;
  while (job.done.load(std::memory_order_acquire) < pieces ||
         job.users.load(std::memory_order_acquire) > 0) {
    if (++spins < 4096) {
      pause();
    } else {
      std::this_thread::yield();
    }
  }
  if (job.failed.load()) std::rethrow_exception(job.error);
}

// Joins one open job; false when there is none with pieces left.
bool ThreadPool::help() {
  Job* found = nullptr;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (Job* job : jobs_) {
      if (job->next.load(std::memory_order_relaxed) < job->pieces) {
        found = job;
        job->users.fetch_add(1, std::memory_order_relaxed);
        break;
      }
    }
  }
  if (found == nullptr) return false;
  found->work();
  found->users.fetch_sub(1, std::memory_order_release);
  return true;
}

void ThreadPool::work() {
  using clock = std::chrono::steady_clock;
  constexpr auto patience = std::chrono::microseconds(100);
  while (!stop_.load(std::memory_order_relaxed)) {
    if (open_jobs_.load(std::memory_order_acquire) > 0 && help()) continue;
    if (spin_.load(std::memory_order_relaxed)) {
      const auto until = clock::now() + patience;
      bool helped = false;
      while (!helped && clock::now() < until) {
        for (int i = 0; i < 16 && !helped; ++i) {
          pause();
          // A job whose last pieces are being done by others stays listed for a moment.
          if (open_jobs_.load(std::memory_order_acquire) > 0) helped = help();
        }
      }
      if (helped) continue;
    }
    std::unique_lock<std::mutex> lock(mutex_);
    ++sleeping_;
    wake_.wait(lock, [this] {
      if (stop_.load()) return true;
      for (const Job* job : jobs_) {
        if (job->next.load(std::memory_order_relaxed) < job->pieces) return true;
      }
      return false;
    });
    --sleeping_;
  }
}

}  // namespace bascule
