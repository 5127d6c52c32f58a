// SPDX-License-Identifier: Apache-2.0
// What a kernel is, how it says what it can do, and how it registers itself.
#pragma once

#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"
#include "runtime/node.h"
#include "runtime/run_context.h"
#include "simd/isa.h"

namespace bascule {

// Runs one node. Made once per node when a Program is compiled: the constructor takes a const
// NodeSpec&, reads the attributes and packs constant inputs. run() may be called from many threads
// at once and therefore changes no member.
class Kernel {
 public:
  virtual ~Kernel() = default;
  virtual void run(RunContext& c) const = 0;
};

// Whether a kernel takes a node; otherwise why not, in words for explain(): "dtype is not float32".
class Capability {
 public:
  static Capability accept() { return Capability(true, ""); }
  static Capability reject(std::string reason) { return Capability(false, std::move(reason)); }
  bool accepted() const { return accepted_; }
  const std::string& reason() const { return reason_; }

 private:
  Capability(bool accepted, std::string reason) : accepted_(accepted), reason_(std::move(reason)) {}
  bool accepted_;
  std::string reason_;
};
inline const Capability accept = Capability::accept();
inline Capability reject(std::string reason) { return Capability::reject(std::move(reason)); }

// accept, or "dtype X is not supported" for input i.
template <class... T>
Capability require_dtype(const NodeSpec& node, size_t i, Types<T...> types) {
  if (!node.has_input(i) || contains(types, node.dtype(i))) return accept;
  return reject("input " + std::to_string(i) + " of type " + name_of(node.dtype(i)) +
                " is not supported");
}

// Output `output` may be written over input `input` when nothing reads that input later, not even
// this node through another input that is not one of its pairs, and both have the same number of
// bytes.
struct InPlace {
  int input;
  int output;
};

struct KernelEntry {
  std::string domain;
  std::string op_type;
  std::string name;  // the class, shown by explain()
  int priority;      // kernels of one operator are asked in falling order
  std::function<Capability(const NodeSpec&)> capability;
  std::function<std::unique_ptr<Kernel>(const NodeSpec&)> create;
  std::vector<InPlace> in_place;
  bool keeps_inputs = false;  // may hold the memory of its inputs after run(): it gets no arena's
};

// What an operator says of an output before any run; of the shape nothing if the rank is not known.
struct OutputType {
  DType dtype = DType::undefined;
  std::optional<std::vector<int64_t>> shape;
};

// An operator that is not one of ours: the embedding program's, or a library's.
class HostOperator {
 public:
  virtual ~HostOperator() = default;
  virtual Capability capability(const NodeSpec&) const { return accept; }
  // By output, nothing for those of which it says nothing. Sizes below 0 are not known; those below
  // -1, of inputs too, that are the same number are the same size.
  virtual std::vector<std::optional<OutputType>> types(const NodeSpec&) const { return {}; }
  virtual std::unique_ptr<Kernel> kernel(const NodeSpec& node) const = 0;
  virtual std::string name() const = 0;     // shown by explain()
  virtual std::string runs_by() const = 0;  // for messages: "Python"
  virtual bool keeps_inputs() const = 0;    // as in KernelEntry
};

// All kernels of this build; filled before main() by BASCULE_KERNEL.
const std::vector<KernelEntry>& kernel_registry();
bool register_kernel(KernelEntry entry);

// The kernel that will run the node. Without one, `reason` says why for each that was asked.
struct KernelChoice {
  const KernelEntry* entry = nullptr;
  std::string reason;
  std::string name = {};  // of the entry, or of what runs the node in its place
};
KernelChoice choose_kernel(const NodeSpec& node);

// Registers kernel class K. K::capability(const NodeSpec&) and K::priority are optional.
template <class K>
bool register_kernel_class(const char* domain, const char* op_type, const char* name,
                           std::initializer_list<InPlace> in_place) {
  KernelEntry entry;
  entry.domain = domain;
  entry.op_type = op_type;
  entry.name = name;
  if constexpr (requires { K::priority; }) {
    entry.priority = K::priority;
  } else {
    entry.priority = 0;
  }
  entry.capability = [](const NodeSpec& node) {
    if constexpr (requires { K::capability(node); }) {
      return K::capability(node);
    } else {
      return accept;
    }
  };
  entry.create = [](const NodeSpec& node) -> std::unique_ptr<Kernel> {
    if constexpr (requires { K(node); }) {
      return std::make_unique<K>(node);
    } else {
      return std::make_unique<K>();
    }
  };
  entry.in_place = in_place;
  return register_kernel(std::move(entry));
}

#define BASCULE_JOIN_(a, b) a##b
#define BASCULE_JOIN(a, b) BASCULE_JOIN_(a, b)
// BASCULE_KERNEL_IN("bascule", "MatMul", MatMul, InPlace{3, 0}); the class may be a template: put
// its name with commas in parentheses-free aliases.
#define BASCULE_KERNEL_IN(domain, op_type, Class, ...)                        \
  [[maybe_unused]] static const bool BASCULE_JOIN(registered_, __COUNTER__) = \
      ::bascule::register_kernel_class<Class>(domain, op_type, #Class, {__VA_ARGS__})
// BASCULE_KERNEL("Softmax", Softmax, InPlace{0, 0}); at namespace scope beside the class.
#define BASCULE_KERNEL(op_type, Class, ...) BASCULE_KERNEL_IN("", op_type, Class, __VA_ARGS__)

}  // namespace bascule
