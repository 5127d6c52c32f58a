// SPDX-License-Identifier: Apache-2.0
#include "runtime/affinity.h"

#include <mutex>
#include <utility>

#include "core/fork_safety.h"

#if defined(__linux__)
#include <pthread.h>
#include <sched.h>
#endif

namespace bascule {

#if defined(__linux__)

namespace {

struct Workers {
  std::vector<std::vector<int>> wanted;
  std::vector<pthread_t> threads;

  static Workers& shared() {
    static auto* workers = new Workers;
    static const bool registered = [] {
      after_fork_in_child([] { shared().threads.clear(); });
      return true;
    }();
    (void)registered;
    return *workers;
  }

  void bind(size_t number) const {
    if (number >= wanted.size() || number >= threads.size() || wanted[number].empty()) return;
    cpu_set_t set;
    CPU_ZERO(&set);
    for (const int processor : wanted[number]) {
      if (processor >= 0 && processor < CPU_SETSIZE) CPU_SET(processor, &set);
    }
    pthread_setaffinity_np(threads[number], sizeof(set), &set);
  }
};

}  // namespace

void bind_workers(std::vector<std::vector<int>> processors) {
  Workers& workers = Workers::shared();
  const std::lock_guard<std::mutex> lock(fork_safe_mutex(ForkSafe::affinities));
  workers.wanted = std::move(processors);
  for (size_t i = 0; i < workers.threads.size(); ++i) workers.bind(i);
}

void register_worker() {
  Workers& workers = Workers::shared();
  const std::lock_guard<std::mutex> lock(fork_safe_mutex(ForkSafe::affinities));
  workers.threads.push_back(pthread_self());
  workers.bind(workers.threads.size() - 1);
}

#else

void bind_workers(std::vector<std::vector<int>>) {}

void register_worker() {}

#endif

}  // namespace bascule
