// SPDX-License-Identifier: Apache-2.0
// Running a Program from Python, with as little in between as can be.
#include "bindings/program.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <optional>
#include <unordered_map>

#include "bindings/convert.h"
#include "bindings/graph_builder.h"
#include "bindings/host_kernel.h"
#include "bindings/interpreter_lock.h"
#include "runtime/affinity.h"
#include "runtime/float_mode.h"
#include "runtime/frame.h"
#include "runtime/packed_memory.h"
#include "runtime/plan_file.h"
#include "runtime/prepack.h"
#include "runtime/profiler.h"
#include "runtime/program.h"

namespace bascule::bindings {

namespace {

// RunOptions.terminate: read by running programs.
struct TerminateFlag {
  std::atomic<bool> value{false};
};

std::unique_ptr<Program> compiled(const GraphSpec& graph, Compilation* compilation) {
  const Compilation::Scope scope(compilation);
  PackedMemory memory;
  const PackedMemory::Scope memory_scope(memory);
  return std::make_unique<Program>(graph);
}

using EqualSizes = std::vector<std::array<int, 4>>;

// A Program with the names of its inputs and outputs.
class Runner {
 public:
  // `equal_sizes`: (input, axis, input, axis) whose sizes the program takes to be equal.
  Runner(std::unique_ptr<Program> program, std::vector<std::string> inputs,
         const std::vector<std::string>& outputs, int threads, EqualSizes equal_sizes)
      : program_(std::move(program)),
        input_names_(std::move(inputs)),
        equal_sizes_(std::move(equal_sizes)),
        threads_(threads) {
    check_names(outputs.size());
    for (size_t i = 0; i < input_names_.size(); ++i) {
      PyObject* text = PyUnicode_FromStringAndSize(input_names_[i].data(),
                                                   static_cast<Py_ssize_t>(input_names_[i].size()));
      if (text != nullptr) PyUnicode_InternInPlace(&text);
      interned_.push_back(py::reinterpret_steal<py::object>(text));
      input_index_.emplace(input_names_[i], static_cast<int>(i));
    }
    for (size_t i = 0; i < outputs.size(); ++i) {
      output_index_.emplace(outputs[i], static_cast<int>(i));
    }
  }

  // The fast way in: a dict of arrays that need no conversion and fit what the model declares.
  // NotImplemented when anything is out of the ordinary: the caller then looks closer, and either
  // normalizes the feeds or says what is wrong with them.
  py::object run_feeds(const py::object& output_names, const py::dict& feeds,
                       const TerminateFlag* terminate, Profiler* profiler) {
    const auto ordinary = [] { return py::reinterpret_borrow<py::object>(Py_NotImplemented); };
    const size_t count = input_names_.size();
    if (feeds.size() != count) return ordinary();
    Value few[8];
    std::vector<Value> many;
    if (count > 8) many.resize(count);
    Value* values = count > 8 ? many.data() : few;
    for (const auto& [key, array] : feeds) {
      const int index = find_input(key);
      if (index < 0) return ordinary();
      Tensor tensor;
      const bool is_plain =
          of_input(index, [&] { return view_array(array, &tensor) || dense_copy(array, &tensor); });
      if (!is_plain) return ordinary();
      const ValueSpec& spec = program_->input(index);
      if (spec.kind != ValueKind::tensor || !spec.takes(tensor.dtype(), tensor.shape())) {
        return ordinary();
      }
      values[index] = fed(std::move(tensor), array);
    }
    for (const auto& [a, i, b, j] : equal_sizes_) {
      if (values[a].tensor().dim(i) != values[b].tensor().dim(j)) return ordinary();
    }
    std::vector<int> wanted;
    if (!output_names.is_none()) {
      if (!py::isinstance<py::list>(output_names)) return ordinary();
      for (const py::handle name : py::reinterpret_borrow<py::list>(output_names)) {
        if (!py::isinstance<py::str>(name)) return ordinary();
        const auto found = output_index_.find(name.cast<std::string>());
        if (found == output_index_.end()) return ordinary();
        wanted.push_back(found->second);
      }
    }
    const std::span<const Value> fed(values, count);
    return results(run(fed, terminate, profiler), wanted);
  }

  // One object per input, in order: arrays, lists, dicts, None. `wanted`: outputs by number, none
  // for all.
  py::object run_values(const py::list& feeds, const std::vector<int>& wanted,
                        const TerminateFlag* terminate, Profiler* profiler) {
    return results(run(values_of(feeds), terminate, profiler), wanted);
  }

  // The outputs numbered in `wanted`, each made in the memory of the array that `targets` has for
  // it, if it has one. Returns what lies somewhere else nevertheless, and for the others None.
  py::list run_into(const py::list& feeds, const std::vector<int>& wanted, const py::list& targets,
                    const TerminateFlag* terminate, Profiler* profiler) {
    const std::vector<Value> values = values_of(feeds);
    std::vector<Tensor> memory(static_cast<size_t>(program_->output_count()));
    for (size_t i = 0; i < wanted.size(); ++i) {
      Tensor& target = memory.at(static_cast<size_t>(wanted[i]));
      const bool fits =
          writable(targets[i], &target) && target.dtype() == program_->output(wanted[i]).dtype;
      if (!fits || is_read(target, values, memory)) target = Tensor();
    }
    std::vector<Value> made = run(values, terminate, profiler, memory);
    py::list list(wanted.size());
    for (size_t i = 0; i < wanted.size(); ++i) {
      const auto number = static_cast<size_t>(wanted[i]);
      const Value& value = made[number];
      const bool is_there = value.is_tensor() && value.tensor().raw() != nullptr &&
                            value.tensor().raw() == memory[number].raw() &&
                            value.tensor().dtype() == memory[number].dtype() &&
                            value.tensor().shape() == memory[number].shape();
      list[i] = is_there ? py::none() : to_python(value);
    }
    return list;
  }

  std::vector<std::tuple<std::string, std::string, std::string, std::string>> steps() const {
    std::vector<std::tuple<std::string, std::string, std::string, std::string>> result;
    for (const Program::Step& step : program_->steps()) {
      result.emplace_back(step.name, step.op_type, step.domain, step.kernel_name);
    }
    return result;
  }
  int64_t arena_bytes() const { return program_->arena_bytes(); }

  // Keeps what write_plan() needs.
  void keep_record(std::shared_ptr<const GraphSpec> graph,
                   std::unique_ptr<Compilation> compilation) {
    graph_ = std::move(graph);
    compilation_ = std::move(compilation);
  }
  // Writes the record to a file; 0, or the system's error number.
  int write_plan(int descriptor, const py::bytes& key, const std::string& description,
                 const std::vector<Tensor>& attachments) const {
    if (graph_ == nullptr) throw Error(Code::fail, "the program was compiled without a record");
    const Digest digest = to_digest(key);
    const py::gil_scoped_release unlocked;
    return bascule::write_plan(descriptor, digest, *graph_, *compilation_, description,
                               attachments);
  }
  bool spins() const { return spins_; }
  void set_spins(bool spins) { spins_ = spins; }
  bool flushes() const { return flushes_; }
  void set_flushes(bool flushes) { flushes_ = flushes; }

 private:
  // The names and sizes say what the program's inputs and outputs are.
  void check_names(size_t outputs) const {
    const size_t inputs = input_names_.size();
    bool fits = inputs == static_cast<size_t>(program_->input_count()) &&
                outputs == static_cast<size_t>(program_->output_count());
    const auto has_axis = [&](int input, int axis) {
      return input >= 0 && static_cast<size_t>(input) < inputs && axis >= 0 &&
             axis < program_->input(input).rank();
    };
    for (const auto& [a, i, b, j] : equal_sizes_) fits = fits && has_axis(a, i) && has_axis(b, j);
    if (!fits) throw Error(Code::invalid_graph, "the names do not fit the graph");
  }

  int find_input(py::handle key) const {
    for (size_t i = 0; i < interned_.size() && i < 8; ++i) {
      if (interned_[i].ptr() == key.ptr()) return static_cast<int>(i);
    }
    if (!PyUnicode_Check(key.ptr())) return -1;
    const auto found = input_index_.find(key.cast<std::string>());
    return found == input_index_.end() ? -1 : found->second;
  }

  // What `convert` makes of an input's feed; an error says of which.
  template <class Convert>
  auto of_input(int index, Convert&& convert) const -> decltype(convert()) {
    try {
      return convert();
    } catch (const Error& error) {
      const std::string& name = input_names_[static_cast<size_t>(index)];
      throw Error(error.code(), std::string(error.what()) + " [input: " + name + "]",
                  error.cause());
    }
  }

  // A view of an array that the caller holds until the run is over, or for longer where that
  // counts.
  Value fed(Tensor tensor, py::handle array) const {
    if (!program_->keeps_inputs() || tensor.owner()) return tensor;
    void* const data = tensor.raw();
    return Tensor(tensor.dtype(), tensor.shape(), data,
                  keep(py::reinterpret_borrow<py::object>(array), data));
  }

  std::vector<Value> values_of(const py::list& feeds) const {
    if (feeds.size() != input_names_.size()) {
      throw Error(Code::invalid_argument,
                  "expected " + std::to_string(input_names_.size()) + " inputs");
    }
    std::vector<Value> values;
    for (size_t i = 0; i < feeds.size(); ++i) {
      const int index = static_cast<int>(i);
      Value value =
          of_input(index, [&] { return to_value(feeds[i], program_->input(index).dtype); });
      if (value.is_tensor()) value = fed(std::move(value.tensor()), feeds[i]);
      values.push_back(std::move(value));
    }
    return values;
  }

  // An array that results can be written to as they are.
  static bool writable(py::handle object, Tensor* tensor) {
    return view_array(object, tensor) && py::reinterpret_borrow<py::array>(object).writeable();
  }

  // Whether a run reads this memory, or writes it as the memory of another output.
  bool is_read(const Tensor& target, std::span<const Value> inputs,
               std::span<const Tensor> targets) const {
    const auto is_apart = [&](const Value& input) {
      return input.is_none() || (input.is_tensor() && !overlap(input.tensor(), target));
    };
    const auto is_other = [&](const Tensor& other) {
      return &other != &target && overlap(other, target);
    };
    return !std::all_of(inputs.begin(), inputs.end(), is_apart) ||
           std::any_of(targets.begin(), targets.end(), is_other) || program_->reads(target);
  }

  std::vector<Value> run(std::span<const Value> inputs, const TerminateFlag* terminate,
                         Profiler* profiler, std::span<const Tensor> targets = {}) {
    RunSettings settings;
    settings.threads = threads_;
    settings.terminate = terminate != nullptr ? &terminate->value : nullptr;
    settings.profiler = profiler;
    settings.spin = spins_;
    settings.poll = &answer_signals;
    try {
      const LockReleased unlocked;
      std::optional<DenormalMode> mode;
      if (flushes_) mode.emplace(true);
      return program_->run(inputs, settings, targets);
    } catch (const Interruption& interruption) {
      interruption.raised->restore();
      throw py::error_already_set();
    }
  }

  static py::object results(std::vector<Value> values, const std::vector<int>& wanted) {
    const size_t count = wanted.empty() ? values.size() : wanted.size();
    py::list list(count);
    for (size_t i = 0; i < count; ++i) {
      if (wanted.empty()) {
        list[i] = to_python(std::move(values[i]));
      } else {
        list[i] = to_python(values[static_cast<size_t>(wanted[i])]);
      }
    }
    return list;
  }

  std::unique_ptr<Program> program_;
  std::vector<std::string> input_names_;
  EqualSizes equal_sizes_;
  std::vector<py::object> interned_;
  std::unordered_map<std::string, int> input_index_;
  std::unordered_map<std::string, int> output_index_;
  int threads_;
  std::shared_ptr<const GraphSpec> graph_;  // null: there is no record
  std::unique_ptr<Compilation> compilation_;
  bool spins_ = true;
  bool flushes_ = false;  // whether denormal numbers count as zero
};

std::unique_ptr<Runner> make_runner(const GraphBuilder& builder, std::vector<std::string> inputs,
                                    const std::vector<std::string>& outputs, int threads,
                                    EqualSizes equal_sizes, bool record) {
  auto compilation = record ? std::make_unique<Compilation>() : nullptr;
  auto runner =
      std::make_unique<Runner>(compiled(builder.graph(), compilation.get()), std::move(inputs),
                               outputs, threads, std::move(equal_sizes));
  if (record) runner->keep_record(builder.shared(), std::move(compilation));
  return runner;
}

// The program of a plan file.
std::unique_ptr<Runner> planned_runner(const PlanFile& plan, std::vector<std::string> inputs,
                                       const std::vector<std::string>& outputs, int threads,
                                       EqualSizes equal_sizes) {
  Compilation compilation(plan.packed());
  auto program = compiled(plan.graph(), &compilation);
  if (!compilation.complete()) fail("the plan file holds more than the kernels ask for");
  return std::make_unique<Runner>(std::move(program), std::move(inputs), outputs, threads,
                                  std::move(equal_sizes));
}

void bind_plan_file(py::module_& module) {
  py::class_<PlanFile>(module, "PlanFile")
      .def(py::init([](int descriptor, const py::bytes& key, bool verify) {
             const Digest digest = to_digest(key);
             const py::gil_scoped_release unlocked;
             return std::make_unique<PlanFile>(descriptor, digest, verify);
           }),
           py::arg("descriptor"), py::arg("key"), py::arg("verify"))
      .def_property_readonly("description",
                             [](const PlanFile& plan) { return py::bytes(plan.description()); })
      .def_property_readonly("attachments",
                             [](const PlanFile& plan) {
                               py::list arrays;
                               for (const Tensor& tensor : plan.attachments()) {
                                 arrays.append(to_python(Value(tensor), Memory::shared));
                               }
                               return arrays;
                             })
      .def("runner", &planned_runner, py::arg("inputs"), py::arg("outputs"), py::arg("threads"),
           py::arg("equal_sizes"));
}

// Gives each of the things that are looked at first a number.
template <class T>
class Numbers {
 public:
  // The number of `thing`; `on_new` is called for one that has none yet.
  template <class OnNew>
  int of(const T* thing, OnNew&& on_new) {
    if (thing == nullptr) return -1;
    const auto [place, is_new] = numbers_.try_emplace(thing, static_cast<int>(numbers_.size()));
    if (is_new) on_new();
    return place->second;
  }
  int find(const T* thing) const {
    const auto found = numbers_.find(thing);
    return found == numbers_.end() ? -1 : found->second;
  }

 private:
  std::unordered_map<const T*, int> numbers_;
};

py::list shapes_of(const Profiler::StepShapes& steps) {
  py::list result;
  for (const auto& step : steps) {
    py::list outputs;
    for (const auto& [dtype, shape] : step) {
      outputs.append(
          py::make_tuple(name_of(dtype), std::vector<int64_t>(shape.begin(), shape.end())));
    }
    result.append(outputs);
  }
  return result;
}

py::list names_of(const StepNames& names) {
  py::list result;
  for (const StepNames::Step& step : names.steps) {
    result.append(py::make_tuple(step.name, step.op_type, step.domain, step.kernel));
  }
  return result;
}

py::array_t<int64_t> array_of(const std::vector<int64_t>& numbers) {
  return py::array_t<int64_t>(static_cast<py::ssize_t>(numbers.size()), numbers.data());
}

// ("", []) for what is no tensor.
py::list inputs_of(const MemoryPlan& plan) {
  py::list result;
  for (const MemoryPlan::Key& key : plan.key) {
    const bool is_tensor = key.dtype != DType::undefined;
    result.append(py::make_tuple(is_tensor ? std::string(name_of(key.dtype)) : std::string(),
                                 std::vector<int64_t>(key.shape.begin(), key.shape.end())));
  }
  return result;
}

const char* name_of_kind(Profiler::Allocation::Kind kind) {
  using Kind = Profiler::Allocation::Kind;
  switch (kind) {
    case Kind::arena:
      return "arena";
    case Kind::output:
      return "output";
    case Kind::scratch:
      return "scratch";
    default:
      return "value";
  }
}

// What a profiler has, as plain data: see python/bascule/profile_events.py.
py::dict take_profile(Profiler& profiler) {
  Profiler::Taken taken;
  {
    const py::gil_scoped_release unlocked;
    taken = profiler.take();
  }
  Numbers<StepNames> programs;
  Numbers<Profiler::StepShapes> shapes;
  Numbers<MemoryPlan> plans;
  py::list program_list, shape_list, input_list, live_list, arena_list, runs, work;
  for (const Profiler::Run& run : taken.runs) {
    const int program =
        programs.of(run.names.get(), [&] { program_list.append(names_of(*run.names)); });
    const int made =
        shapes.of(run.shapes.get(), [&] { shape_list.append(shapes_of(*run.shapes)); });
    const int plan = plans.of(run.plan.get(), [&] {
      input_list.append(inputs_of(*run.plan));
      live_list.append(array_of(run.plan->live_bytes));
      arena_list.append(run.plan->arena_bytes);
    });
    py::list allocations;
    for (const Profiler::Allocation& each : run.allocations) {
      allocations.append(py::make_tuple(taken.nanoseconds(each.time), each.bytes, each.step,
                                        name_of_kind(each.kind)));
    }
    runs.append(
        py::make_tuple(program, made, plan, run.thread, array_of(taken.times(run)), allocations));
  }
  for (const Profiler::Work& each : taken.work) {
    const int program = programs.find(each.names);
    if (program < 0) continue;
    work.append(py::make_tuple(program, each.step, each.thread, taken.nanoseconds(each.begin),
                               taken.nanoseconds(each.end)));
  }
  py::dict result;
  result["programs"] = program_list;
  result["shapes"] = shape_list;
  result["inputs"] = input_list;
  result["live_bytes"] = live_list;
  result["arena_bytes"] = arena_list;
  result["runs"] = runs;
  result["work"] = work;
  result["dropped"] = taken.dropped;
  return result;
}

}  // namespace

void bind_program(py::module_& module) {
  find_main_thread();
  py::class_<TerminateFlag>(module, "TerminateFlag")
      .def(py::init<>())
      .def_property(
          "value", [](const TerminateFlag& flag) { return flag.value.load(); },
          [](TerminateFlag& flag, bool value) { flag.value.store(value); });
  py::class_<Profiler>(module, "Profiler").def(py::init<>()).def("take", &take_profile);
  py::class_<Runner>(module, "Runner")
      .def(py::init(&make_runner), py::arg("graph"), py::arg("inputs"), py::arg("outputs"),
           py::arg("threads"), py::arg("equal_sizes") = EqualSizes(), py::arg("record") = false)
      .def("run_feeds", &Runner::run_feeds, py::arg("output_names"), py::arg("feeds"),
           py::arg("terminate") = nullptr, py::arg("profiler") = nullptr)
      .def("run_values", &Runner::run_values, py::arg("feeds"), py::arg("wanted"),
           py::arg("terminate") = nullptr, py::arg("profiler") = nullptr)
      .def("run_into", &Runner::run_into, py::arg("feeds"), py::arg("wanted"), py::arg("targets"),
           py::arg("terminate") = nullptr, py::arg("profiler") = nullptr)
      .def("write_plan", &Runner::write_plan, py::arg("descriptor"), py::arg("key"),
           py::arg("description"), py::arg("attachments"))
      .def_property_readonly("steps", &Runner::steps)
      .def_property("spins", &Runner::spins, &Runner::set_spins)
      .def_property("flushes_denormals", &Runner::flushes, &Runner::set_flushes)
      .def_property_readonly("arena_bytes", &Runner::arena_bytes);
  bind_plan_file(module);
  module.def("bind_workers", &bind_workers, py::arg("processors"),
             "Binds extra threads, by number, to processors counted from 0.");
}

}  // namespace bascule::bindings
