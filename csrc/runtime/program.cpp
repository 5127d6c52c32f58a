// SPDX-License-Identifier: Apache-2.0
#include "runtime/program.h"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <map>
#include <optional>
#include <set>

#include "core/fork_safety.h"
#include "core/mapped_pages.h"
#include "runtime/alternatives.h"
#include "runtime/frame.h"
#include "runtime/prepack.h"
#include "runtime/profiler.h"
#include "runtime/read_ahead.h"

namespace bascule {

namespace {

constexpr int never = std::numeric_limits<int>::max();
// Plans kept for different input shapes; each is a few bytes per value.
constexpr size_t max_plans = 64;
// Frames kept for later runs: as many as ran at once, up to this number.
constexpr size_t max_frames = 16;

[[noreturn]] void rethrow_with_node(const Program::Step& step, const Frame& frame) {
  std::string place = " running " + step.op_type + " node. Name:'" + step.name + "'";
  std::string inputs;
  for (const int slot : step.inputs) {
    if (!inputs.empty()) inputs += ", ";
    if (slot < 0) {
      inputs += "-";
      continue;
    }
    const Value& value = const_cast<Frame&>(frame).value(slot);
    inputs += value.is_tensor()
                  ? std::string(name_of(value.tensor().dtype())) + value.tensor().shape().text()
                  : "(not a tensor)";
  }
  const auto describe = [&](const std::string& what) {
    return "Non-zero status code returned while" + place + " Status Message: " + what +
           " [inputs: " + inputs + "]";
  };
  try {
    throw;
  } catch (const Error& error) {
    // An error from a nested graph names its own node already.
    const std::string what = error.what();
    if (what.starts_with("Non-zero status code")) throw;
    throw Error(error.code(), describe(what), error.cause());
  } catch (const std::bad_alloc&) {
    throw Error(Code::fail, describe("out of memory"));
  } catch (const std::exception& error) {
    throw Error(Code::fail, describe(error.what()));
  }
}

// Notes the end of a step, and what it made where that is not known for the run's plan.
inline void note_step(Profiler::Run& profile, int number, const Program::Step& step, Frame& frame) {
  profile.ended(number);
  if (profile.shapes != nullptr) return;
  auto& made = profile.collected[static_cast<size_t>(number)];
  for (const int slot : step.outputs) {
    if (slot < 0 || !frame.value(slot).is_tensor()) continue;
    const Tensor& tensor = frame.value(slot).tensor();
    made.emplace_back(tensor.dtype(), tensor.shape());
  }
}

// Constants of a file may lie at any address; kernels may rely on that of their element type.
void align(Tensor& tensor) {
  const auto item = static_cast<uintptr_t>(std::max<int64_t>(item_size(tensor.dtype()), 1));
  const uintptr_t step = std::min<uintptr_t>(item, alignof(std::max_align_t));
  if (tensor.dtype() == DType::string || reinterpret_cast<uintptr_t>(tensor.raw()) % step == 0) {
    return;
  }
  Tensor copy = shared_copy(tensor);
  release_mapped_pages(tensor);
  tensor = std::move(copy);
}

}  // namespace

Program::Program(const GraphSpec& graph)
    : inputs_(graph.inputs),
      outputs_(graph.outputs),
      slot_count_(static_cast<int>(graph.values.size())),
      mutex_(fork_safe_mutex(this)) {
  for (const int slot : inputs_) input_specs_.push_back(graph.values[static_cast<size_t>(slot)]);
  for (const int slot : outputs_) output_specs_.push_back(graph.values[static_cast<size_t>(slot)]);

  std::string refused;
  std::set<int> needed(outputs_.begin(), outputs_.end());
  std::map<int, Tensor> constants = graph.constants;
  std::map<int, int> readers;
  for (const GraphSpec::Step& source : graph.nodes) {
    for (const int slot : source.inputs) ++readers[slot];
  }
  for (const int slot : outputs_) ++readers[slot];
  Compilation* const compilation = Compilation::current();
  std::set<int> read_elsewhere;

  for (const GraphSpec::Step& source : graph.nodes) {
    NodeSpec node = source.node;
    if (compilation != nullptr) compilation->start(node);
    for (size_t i = 0; i < source.inputs.size(); ++i) {
      const auto constant = constants.find(source.inputs[i]);
      if (constant == constants.end() || node.stays_unpacked(i)) continue;
      align(constant->second);
      node.inputs[i].constant = &constant->second;
    }
    const KernelChoice choice = choose_kernel(node);
    if (choice.entry == nullptr) {
      refused += "\n  " + node.text() + ": " + choice.reason;
      continue;
    }
    Step step;
    step.entry = choice.entry;
    step.kernel_name = choice.name;
    try {
      step.kernel = choice.entry->create(node);
    } catch (const Error& error) {
      throw Error(error.code(), node.text() + ": " + error.what());
    }
    step.name = node.name;
    step.op_type = node.op_type;
    step.domain = node.domain;
    step.threads = static_cast<int>(std::clamp<int64_t>(node.get_int(threads_attribute, 0), 0,
                                                        std::numeric_limits<int>::max()));
    step.inputs = source.inputs;
    step.outputs = source.outputs;
    for (const size_t i : node.released()) {
      if (i >= step.inputs.size() || step.inputs[i] < 0) continue;
      // Pages and copies go back at once: the peak stays at one packed weight.
      const auto constant = constants.find(step.inputs[i]);
      if (constant != constants.end()) {
        release_mapped_pages(constant->second);
        const int slot = constant->first;
        if (compilation != nullptr && !compilation->is_packed(node, i)) read_elsewhere.insert(slot);
        if (--readers[slot] == 0) {
          if (compilation != nullptr && !read_elsewhere.count(slot)) compilation->drop(graph, slot);
          constants.erase(constant);
        }
      }
      step.inputs[i] = -1;
    }
    for (const int slot : step.inputs) needed.insert(slot);
    steps_.push_back(std::move(step));
  }
  if (!refused.empty()) {
    throw Error(Code::not_implemented, "Could not find an implementation for:" + refused);
  }
  std::vector<ReadsAhead*> readers_ahead;
  for (const Step& step : steps_) {
    if (auto* one = dynamic_cast<ReadsAhead*>(step.kernel.get())) readers_ahead.push_back(one);
  }
  plan_read_ahead(readers_ahead);
  std::set<int> constant_slots;
  for (const auto& [slot, tensor] : graph.constants) constant_slots.insert(slot);
  for (auto& [slot, tensor] : constants) {
    if (!needed.count(slot)) continue;
    align(tensor);
    constants_.emplace_back(slot, std::move(tensor));
  }

  last_use_.assign(static_cast<size_t>(slot_count_), -1);
  kept_.assign(static_cast<size_t>(slot_count_), false);
  for (size_t i = 0; i < steps_.size(); ++i) {
    const bool keeps = steps_[i].entry->keeps_inputs;
    keeps_inputs_ |= keeps;
    for (const int slot : steps_[i].inputs) {
      if (slot < 0) continue;
      last_use_[static_cast<size_t>(slot)] = static_cast<int>(i);
      if (keeps) kept_[static_cast<size_t>(slot)] = true;
    }
    for (const int slot : steps_[i].outputs) {
      if (slot >= 0) last_use_[static_cast<size_t>(slot)] = static_cast<int>(i);
    }
  }
  for (const int slot : outputs_) last_use_[static_cast<size_t>(slot)] = never;
  std::set<int> run_long;
  for (const int slot : inputs_) run_long.insert(slot);
  for (const int slot : outputs_) {
    if (!constant_slots.count(slot)) run_long.insert(slot);
  }
  run_long_slots_.assign(run_long.begin(), run_long.end());
  for (int slot = 0; slot < slot_count_; ++slot) {
    const int step = last_use_[static_cast<size_t>(slot)];
    if (step >= 0 && step != never && !constant_slots.count(slot) && !run_long.count(slot)) {
      steps_[static_cast<size_t>(step)].dead.push_back(slot);
    }
  }
}

Program::~Program() = default;

std::unique_ptr<Frame> Program::take_frame() const {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!frames_.empty()) {
      std::unique_ptr<Frame> frame = std::move(frames_.back());
      frames_.pop_back();
      return frame;
    }
  }
  return std::make_unique<Frame>(*this);
}

void Program::give_frame(std::unique_ptr<Frame> frame) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (frames_.size() < max_frames) frames_.push_back(std::move(frame));
}

std::shared_ptr<const MemoryPlan> Program::find_plan(std::span<const Value> inputs) const {
  const auto matches = [&](const MemoryPlan& plan) {
    for (size_t i = 0; i < inputs.size(); ++i) {
      const MemoryPlan::Key& key = plan.key[i];
      if (!inputs[i].is_tensor()) {
        if (key.dtype != DType::undefined) return false;
      } else if (key.dtype != inputs[i].tensor().dtype() ||
                 !(key.shape == inputs[i].tensor().shape())) {
        return false;
      }
    }
    return true;
  };
  const std::lock_guard<std::mutex> lock(mutex_);
  for (size_t i = 0; i < plans_.size(); ++i) {
    if (!matches(*plans_[i])) continue;
    if (i > 0) {
      std::rotate(plans_.begin(), plans_.begin() + static_cast<std::ptrdiff_t>(i),
                  plans_.begin() + static_cast<std::ptrdiff_t>(i) + 1);
    }
    return plans_.front();
  }
  return nullptr;
}

void Program::keep_plan(std::shared_ptr<const MemoryPlan> plan) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  plans_.insert(plans_.begin(), std::move(plan));
  if (plans_.size() > max_plans) plans_.pop_back();
}

bool overlap(const Tensor& a, const Tensor& b) {
  return a.raw() < b.raw() + b.bytes() && b.raw() < a.raw() + a.bytes();
}

bool Program::reads(const Tensor& memory) const {
  return std::any_of(constants_.begin(), constants_.end(),
                     [&](const auto& constant) { return overlap(constant.second, memory); });
}

int64_t Program::arena_bytes() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  int64_t most = 0;
  for (const auto& plan : plans_) most = std::max(most, plan->arena_bytes);
  return most;
}

std::shared_ptr<const StepNames> Program::step_names() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (step_names_ == nullptr) {
    auto names = std::make_shared<StepNames>();
    for (const Step& step : steps_) {
      names->steps.push_back({step.name, step.op_type, step.domain, step.kernel_name});
    }
    step_names_ = std::move(names);
  }
  return step_names_;
}

std::vector<Value> Program::take_outputs(Frame& frame) const {
  std::vector<Value> results;
  results.reserve(outputs_.size());
  for (const int slot : outputs_) results.push_back(frame.value(slot).owned());
  return results;
}

std::vector<Value> Program::run(std::span<const Value> inputs, const RunSettings& settings,
                                std::span<const Tensor> targets) const {
  std::unique_ptr<Frame> frame = take_frame();
  std::shared_ptr<const MemoryPlan> plan = find_plan(inputs);
  const bool record = plan == nullptr;
  std::optional<Profiler::Run> profile;
  std::shared_ptr<const MemoryPlan> followed;  // for the profile
  if (settings.profiler != nullptr) {
    if (settings.profiler->begin(profile.emplace(), step_names(), plan)) {
      followed = plan;
    } else {
      profile.reset();
    }
  }
  // Where a run is timed in part only, its nodes are too short for more to be told of them.
  Profiler::Run* const whole = profile && !profile->is_sampled() ? &*profile : nullptr;
  frame->begin(std::move(plan), inputs, settings, targets, whole);
  const int count = static_cast<int>(steps_.size());
  int i = 0;
  try {
    for (; i < count; ++i) {
      if (settings.terminate != nullptr && settings.terminate->load(std::memory_order_relaxed)) {
        throw Error(Code::fail, "Exiting due to terminate flag being set to true.");
      }
      const Step& step = steps_[static_cast<size_t>(i)];
      RunContext context(*frame, i, step.inputs.data(), static_cast<int>(step.inputs.size()),
                         step.outputs.data(), static_cast<int>(step.outputs.size()));
      step.kernel->run(context);
      if (profile) note_step(*profile, i, step, *frame);
      frame->end_step(i);
    }
  } catch (...) {
    const bool stopped = settings.terminate != nullptr && settings.terminate->load();
    if (profile) settings.profiler->end(std::move(*profile), nullptr);
    try {
      if (stopped) throw;
      rethrow_with_node(steps_[static_cast<size_t>(i)], *frame);
    } catch (...) {
      frame->finish(false);
      give_frame(std::move(frame));
      throw;
    }
  }
  std::vector<Value> results = take_outputs(*frame);
  if (record) keep_plan(followed = frame->make_plan(inputs));
  if (profile) settings.profiler->end(std::move(*profile), std::move(followed));
  frame->finish(true);
  give_frame(std::move(frame));
  return results;
}

}  // namespace bascule
