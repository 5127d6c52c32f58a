// SPDX-License-Identifier: Apache-2.0
#include "runtime/run_context.h"

#include <algorithm>

#include "runtime/frame.h"

namespace bascule {

namespace {

// Notes what workers do for a step.
class Watch final : public LoopWatch {
 public:
  Watch(const Profiler::Run& run, int step) : run_(run), step_(step) {}
  void worked(Ticks begin, Ticks end) const override {
    run_.profiler->worked({run_.names.get(), step_, thread_number(), begin, end});
  }

 private:
  const Profiler::Run& run_;
  int step_;
};

}  // namespace

bool RunContext::has_input(int i) const {
  return i < input_count_ && inputs_[i] >= 0 && !frame_.value(inputs_[i]).is_none();
}

const Tensor& RunContext::input(int i) const { return value(i).tensor(); }

const Value& RunContext::value(int i) const {
  if (i >= input_count_ || inputs_[i] < 0) {
    fail("input " + std::to_string(i) + " is required but was left out");
  }
  return frame_.value(inputs_[i]);
}

Tensor& RunContext::output(int i, DType dtype, const Shape& shape) {
  if (!wants_output(i)) {
    // Scratch memory that looks like an output.
    return frame_.unwanted_output(step_, dtype, shape);
  }
  return frame_.output(step_, outputs_[i], dtype, shape);
}

void RunContext::alias_output(int i, const Tensor& source, const Shape& shape) {
  if (wants_output(i)) frame_.alias(step_, outputs_[i], source, shape);
}

void RunContext::set_output(int i, Value value) {
  if (wants_output(i)) frame_.set(outputs_[i], std::move(value));
}

void* RunContext::workspace(int64_t bytes) { return frame_.workspace(step_, bytes); }

int RunContext::threads() const {
  const int chosen = frame_.program.steps()[static_cast<size_t>(step_)].threads;
  return chosen > 0 ? std::min(chosen, frame_.settings.threads) : frame_.settings.threads;
}

void RunContext::pool_for(Loop loop, int threads, double cost) const {
  // Several pieces a thread, so that one which the system has stopped delays the others less; what
  // takes a few microseconds is not worth being taken over.
  constexpr int most = 64;
  constexpr double least_cost = 65536;
  const double pieces = std::min(static_cast<double>(loop.count),
                                 static_cast<double>(loop.count) * cost / least_cost);
  loop.threads = threads;
  loop.pieces = std::max(threads, static_cast<int>(std::min<double>(pieces, most * threads)));
  loop.spin = frame_.settings.spin;
  if (frame_.profile == nullptr) {
    ThreadPool::shared().run(loop);
    return;
  }
  const Watch watch(*frame_.profile, step_);
  loop.watch = &watch;
  ThreadPool::shared().run(loop);
}

const RunSettings& RunContext::settings() const { return frame_.settings; }

}  // namespace bascule
