// SPDX-License-Identifier: Apache-2.0
// Constants in the form in which kernels read them: packed once in a process for equal nodes, kept
// for a plan file, or taken from one.
#pragma once

#include <cstddef>
#include <functional>
#include <initializer_list>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "runtime/node.h"

namespace bascule {

// For the constructor of a kernel: a tensor of this type and shape that `fill` writes, unless its
// contents are known already. They follow from the node's attributes, types and shapes and the
// elements of the constant `inputs`, all of which the kernel reads nowhere but in `fill`: a plan
// file leaves them out. `name` tells a node's tensors apart. The tensor may be shared, so that it
// is not written to afterwards, and it holds nothing that must be trusted not to lead out of
// bounds, such as indices: a plan file may be damaged.
Tensor prepack(const NodeSpec& node, std::initializer_list<size_t> inputs, const std::string& name,
               DType dtype, const Shape& shape, const std::function<void(Tensor&)>& fill);

// The same for several tensors that are filled together.
struct PackedPart {
  DType dtype;
  Shape shape;
};
std::vector<Tensor> prepack(const NodeSpec& node, std::initializer_list<size_t> inputs,
                            const std::string& name, std::initializer_list<PackedPart> parts,
                            const std::function<void(std::vector<Tensor>&)>& fill);

// A copy of a constant that does not change, in aligned memory that equal constants share.
Tensor shared_copy(const Tensor& constant);

// What kernels pack while a Program is compiled, in order: recorded, or given to them again.
class Compilation {
 public:
  struct Packed {
    std::string node;
    std::string name;
    Tensor tensor;
  };
  // While it lives, what this thread compiles belongs to `compilation`.
  class Scope {
   public:
    explicit Scope(Compilation* compilation);
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Compilation* outer_;
  };

  // Records what kernels pack.
  Compilation() = default;
  // Gives kernels what was recorded before; that they ask for anything else is an error.
  explicit Compilation(std::vector<Packed> recorded)
      : replays_(true), packed_(std::move(recorded)) {}

  // That of this thread, or nullptr.
  static Compilation* current();

  const std::vector<Packed>& packed() const { return packed_; }
  // Whether all that was recorded has been taken.
  bool complete() const { return !replays_ || next_ == packed_.size(); }

  // Nothing is known yet of how this node's inputs are read.
  void start(const NodeSpec& node);
  // Whether the elements of input i were read by prepack() alone.
  bool is_packed(const NodeSpec& node, size_t i) const { return read_.count({&node, i}) > 0; }
  // Notes that nothing reads the elements of a constant any more.
  void drop(const GraphSpec& graph, int slot) { dropped_.emplace(&graph, slot); }
  bool is_dropped(const GraphSpec* graph, int slot) const {
    return dropped_.count({graph, slot}) > 0;
  }

 private:
  friend Tensor prepack(const NodeSpec&, std::initializer_list<size_t>, const std::string&, DType,
                        const Shape&, const std::function<void(Tensor&)>&);
  Tensor replay(const NodeSpec& node, const std::string& name, DType dtype, const Shape& shape);

  bool replays_ = false;
  size_t next_ = 0;
  std::vector<Packed> packed_;
  std::set<std::pair<const NodeSpec*, size_t>> read_;
  std::set<std::pair<const GraphSpec*, int>> dropped_;
};

}  // namespace bascule
