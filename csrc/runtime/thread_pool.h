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

#include "runtime/clock_ticks.h"

namespace bascule {

// Is told when a worker, not the caller, did a part of a loop.
class LoopWatch {
 public:
  virtual void worked(Ticks begin, Ticks end) const = 0;

 protected:
  ~LoopWatch() = default;
};

// body(begin, end) over [0, count), as a pool is given it.
struct Loop {
  using Call = void (*)(void* context, int64_t begin, int64_t end);

  // `body` has to live until the loop is done.
  template <class Body>
  static Loop over(int64_t count, Body&& body) {
    using Plain = std::remove_reference_t<Body>;
    Loop loop;
    loop.call = [](void* context, int64_t begin, int64_t end) {
      (*static_cast<Plain*>(context))(begin, end);
    };
    loop.context = const_cast<void*>(static_cast<const void*>(&body));
    loop.count = count;
    return loop;
  }

  Call call = nullptr;
  void* context = nullptr;
  int64_t count = 0;
  int threads = 2;   // the caller's included
  int pieces = 2;    // even parts that [0, count) is cut into, at least one a thread
  bool spin = true;  // whether idle workers spin after it before they sleep
  const LoopWatch* watch = nullptr;
};

// Runs loops. Any number of callers may run loops at once, nested ones included; the caller works
// too, so a loop always gets done even when every worker is busy. Each thread of a loop has a share
// of its pieces, the same in every run, and takes from the others' when it is done with its own.
// Idle workers look for work for some time and then sleep.
class ThreadPool {
 public:
  // The pool with one worker per usable CPU beyond the caller's (see usable_cpus). Created at first
  // use; after a fork() the child makes its own.
  static ThreadPool& shared();

  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  // Returns when all is done; an exception of a body is thrown again here.
  void run(const Loop& loop);

 private:
  struct Slot;

  explicit ThreadPool(int workers);
  void ensure_workers(int workers);
  Slot* take_slot();
  void wait(Slot& slot, uint32_t pieces);
  void wake_workers();
  void work();
  bool help(bool* spin);
  bool has_work() const;
  void sleep();
  void finish(Slot& slot, uint32_t pieces);

  std::unique_ptr<Slot[]> slots_;
  std::atomic<int> used_slots_{0};  // slots from here on were never taken
  std::atomic<int> worker_count_{0};
  std::atomic<int> sleeping_{0};  // workers that nobody has called yet
  std::atomic<bool> stop_{false};
  std::mutex mutex_;
  int calls_ = 0;                 // workers that have been called and have not noticed
  std::condition_variable wake_;  // workers sleep here
  std::condition_variable done_;  // callers sleep here
  std::vector<std::thread> workers_;
};

// CPUs that this process may use: the affinity mask, a cgroup CPU quota (rounded up) and
// OMP_NUM_THREADS, whichever is least; at least 1.
int usable_cpus();

}  // namespace bascule
