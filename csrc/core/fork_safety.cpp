// SPDX-License-Identifier: Apache-2.0
#include "core/fork_safety.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#if !defined(_WIN32)
#include <pthread.h>
#endif

namespace bascule {

namespace {

constexpr size_t purposes = 5;
constexpr size_t objects = 64;

struct Mutexes {
  // The last one is that of `acts`.
  std::array<std::mutex, purposes + objects + 1> all;
  std::vector<void (*)()> acts;

  Mutexes() {
#if !defined(_WIN32)
    pthread_atfork(&lock, &unlock, &restart);
#endif
  }

  // Never destroyed: threads may run until the process is gone.
  static Mutexes& shared() {
    static auto* mutexes = new Mutexes;
    return *mutexes;
  }

  static void lock() {
    for (std::mutex& mutex : shared().all) mutex.lock();
  }
  static void unlock() {
    for (std::mutex& mutex : shared().all) mutex.unlock();
  }
  static void restart() {
    for (void (*act)() : shared().acts) act();
    unlock();
  }
};

}  // namespace

std::mutex& fork_safe_mutex(ForkSafe purpose) {
  return Mutexes::shared().all[static_cast<size_t>(purpose)];
}

std::mutex& fork_safe_mutex(const void* object) {
  const auto address = reinterpret_cast<uintptr_t>(object);
  return Mutexes::shared().all[purposes + (address >> 6) % objects];
}

void after_fork_in_child(void (*act)()) {
  const std::lock_guard<std::mutex> lock(Mutexes::shared().all.back());
  Mutexes::shared().acts.push_back(act);
}

}  // namespace bascule
