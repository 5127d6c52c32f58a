// SPDX-License-Identifier: Apache-2.0
// One pool of threads for the whole process.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace bascule {

// Runs loops. Any number of callers may run loops at once, nested ones included; the caller works
// too, so a loop always gets done even when every worker is busy. Idle workers look for work for
// some microseconds and then sleep.
class ThreadPool {
 public:
  // The pool with one worker per usable CPU beyond the caller's (see usable_cpus). Created at first
  // use; after a fork() the child makes its own.
  static ThreadPool& shared();

  // Cuts [0, count) into `pieces` even parts and calls body(begin, end) for each, `pieces` >= 2. An
  // exception of a body is thrown again here once all parts have ended.
  template <class Body>
  void run(int64_t count, int pieces, Body&& body) {
    using Plain = std::remove_reference_t<Body>;
    run_erased(
        count, pieces,
        [](void* context, int64_t begin, int64_t end) {
          (*static_cast<Plain*>(context))(begin, end);
        },
        const_cast<void*>(static_cast<const void*>(&body)));
  }

  // Whether idle workers spin before they sleep. Spinning answers faster and burns CPU.
  void set_spinning(bool spin) { spin_.store(spin, std::memory_order_relaxed); }

  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

 private:
  struct Job;
  using Call = void (*)(void* context, int64_t begin, int64_t end);

  explicit ThreadPool(int workers);
  void run_erased(int64_t count, int pieces, Call call, void* context);
  void work();
  bool help();
  void ensure_workers(int workers);

  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<Job*> jobs_;
  std::atomic<int> open_jobs_{0};
  std::atomic<bool> spin_{true};
  std::atomic<bool> stop_{false};
  int sleeping_ = 0;
  std::vector<std::thread> workers_;
};

// CPUs that this process may use: the affinity mask, a cgroup CPU quota (rounded up) and
// OMP_NUM_THREADS, whichever is least; at least 1.
int usable_cpus();

}  // namespace bascule
