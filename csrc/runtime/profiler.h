// SPDX-License-Identifier: Apache-2.0
// Records what each node of a run did. Costs nothing when no profiler is set.
#pragma once

#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "core/tensor.h"

namespace bascule {

class Profiler {
 public:
  struct Event {
    std::string name;
    std::string op_type;
    std::string domain;
    std::string kernel;
    int64_t start_ns;  // of steady_clock
    int64_t duration_ns;
    uint64_t thread;
    std::vector<std::pair<DType, Shape>> outputs;
  };

  static int64_t now() {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(
               std::chrono::steady_clock::now().time_since_epoch())
        .count();
  }

  void add(Event event) {
    event.thread = std::hash<std::thread::id>{}(std::this_thread::get_id());
    const std::lock_guard<std::mutex> lock(mutex_);
    events_.push_back(std::move(event));
  }

  // All events so far; the profiler forgets them.
  std::vector<Event> take() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return std::move(events_);
  }

 private:
  std::mutex mutex_;
  std::vector<Event> events_;
};

}  // namespace bascule
