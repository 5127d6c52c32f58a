// SPDX-License-Identifier: Apache-2.0
// A graph of elementwise nodes as a list of tile functions over registers: buffers of one tile that
// are used again as soon as their value has no reader left.
#pragma once

#include <string>
#include <vector>

#include "kernels/elementwise/elementwise.h"

namespace bascule {

struct TileProgram {
  // Where an operand is, or a result goes.
  struct Place {
    enum class Kind : uint8_t { none, input, constant, slot, output } kind = Kind::none;
    int index = 0;
  };
  struct Step {
    ElementwiseOp op;
    Place operands[3];
    int64_t sizes[3] = {0, 0, 0};  // bytes of an element of each operand
    Place result;
  };
  struct Output {
    DType dtype;
    Place source;  // a slot is copied out at the end of a tile; else a step writes to the output
  };

  static constexpr int max_inputs = 24;
  static constexpr int max_steps = 64;

  std::vector<Step> steps;
  std::vector<Output> outputs;
  std::vector<Tensor> constants;     // one element each
  std::vector<int64_t> input_sizes;  // bytes of an element
  std::vector<bool> input_is_bound;  // used as a bound of Clip only: no part of the shape
  int slots = 0;
  int64_t slot_item_size = 1;  // of the widest value
  double cost = 0;

  // Fills in the program for `body`. Returns the empty string, or why it cannot be done.
  std::string compile(const GraphSpec& body);
};

}  // namespace bascule
