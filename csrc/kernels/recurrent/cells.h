// SPDX-License-Identifier: Apache-2.0
// The cells of LSTM, GRU and RNN: one step of some rows in one direction.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "kernels/recurrent/gates.h"
#include "kernels/recurrent/state_blocks.h"
#include "runtime/node.h"
#include "runtime/run_context.h"

namespace bascule {

// One direction of some rows of the batch while it walks. States are [rows, stride].
template <class T>
struct Part {
  int64_t direction;
  int64_t rows;
  int64_t hidden;
  int64_t stride;
  T* h;
  T* next;  // h after the step
  T* c;
  T* reset;
  T* update;
  T* products;          // [rows, gates * round_up(hidden)]
  const T* packed;      // R in blocks
  RunContext* threads;  // null: blocks on this thread

  static int64_t row_stride(int64_t hidden) { return round_up(hidden, 16) + 16; }
  static int64_t size(int64_t rows, int64_t hidden, int64_t gates) {
    const int64_t columns = round_up(hidden, gemm_functions<T>().panel_width);
    return rows * (5 * row_stride(hidden) + round_up(gates * columns, 16));
  }

  // body(block, row, products) for all blocks and rows: the products [gates, width] of that row of
  // `a` and R from `first` on.
  template <class Given, class Body>
  void multiply_state(const StateBlocks<T>& blocks, int64_t first, const T* a, const Given& given,
                      Body&& body) const {
    const auto run = [&](int64_t begin, int64_t end) {
      T* y = products + begin * rows * blocks.gates * blocks.most_units();
      for (int64_t i = begin; i < end; ++i) {
        const auto block = blocks.block(given.backwards ? begin + end - 1 - i : i);
        given.fetch(rows, hidden, block.first, block.units);
        blocks.multiply(block, packed + first, a, rows, stride, y);
        for (int64_t r = 0; r < rows; ++r) body(block, r, y + r * blocks.gates * block.width);
      }
    };
    const double cost = static_cast<double>(rows * hidden * blocks.gates * blocks.most_units()) / 8;
    threads != nullptr ? threads->parallel_for(blocks.count(), cost, run) : run(0, blocks.count());
  }

  // The state of a row that has ended stays.
  void keep(int64_t row, int64_t first, int64_t units) const {
    const int64_t at = row * stride + first;
    std::copy_n(h + at, units, next + at);
  }
};

// What a step of a part takes: projected(row) is null when the row has ended, output(row) may be.
template <class T, class Projected, class Output>
struct Step {
  const Gate* gate;
  T clip;
  const T* peepholes;
  const T* last_bias;  // of the recurrent product of the last gate
  // Turns the order of the blocks, so that those that a step used last, which are still in the
  // cache, are what the next uses first.
  bool backwards;
  int64_t gates;
  Projected projected;
  Output output;

  // What the gates of some units will read, which comes while their products are made.
  void fetch(int64_t rows, int64_t hidden, int64_t first, int64_t units) const {
    constexpr int64_t line = 64 / sizeof(T);
    for (int64_t r = 0; r < rows; ++r) {
      const T* row = projected(r);
      if (row == nullptr) continue;
      for (int64_t gate = 0; gate < gates; ++gate) {
        const T* from = row + gate * hidden + first;
        for (int64_t i = 0; i < units; i += line) __builtin_prefetch(from + i);
      }
    }
  }

  // Where a row of y has its unit `first`.
  T* output_at(int64_t row, int64_t first) const {
    T* y = output(row);
    return y != nullptr ? y + first : nullptr;
  }
};

// For each operator: how many gates, how many of them are multiplied with the state at first, its
// activations, and one step.
struct LstmCell {
  static constexpr int64_t gates = 4;
  static constexpr int peepholes_input = 7;
  static std::vector<std::string> activations() { return {"sigmoid", "tanh", "tanh"}; }

  explicit LstmCell(const NodeSpec& node) : couple(node.get_int("input_forget", 0) != 0) {}

  int64_t first_gates() const { return gates; }
  // Whether the bias of the recurrent product of the last gate is kept apart.
  bool splits_bias() const { return false; }

  template <class T, class Given>
  void step(const Part<T>& part, const Given& given) const {
    const StateBlocks<T> blocks{part.hidden, gates};
    const T* own =
        given.peepholes != nullptr ? given.peepholes + part.direction * 3 * part.hidden : nullptr;
    part.multiply_state(
        blocks, 0, part.h, given, [&](const auto& block, int64_t r, const T* products) {
          const T* projected = given.projected(r);
          if (projected == nullptr) return part.keep(r, block.first, block.units);
          const int64_t at = r * part.stride + block.first;
          recurrent_functions<T>().lstm(
              {projected + block.first, products, own != nullptr ? own + block.first : nullptr,
               given.gate[0], given.gate[1], given.gate[2], couple, given.clip, part.hidden,
               block.width, block.units, part.next + at, part.c + at,
               given.output_at(r, block.first)});
        });
  }

  bool couple;
};

struct GruCell {
  static constexpr int64_t gates = 3;
  static constexpr int peepholes_input = -1;
  static std::vector<std::string> activations() { return {"sigmoid", "tanh"}; }

  explicit GruCell(const NodeSpec& node)
      : linear_before_reset(node.get_int("linear_before_reset", 0) != 0) {}

  int64_t first_gates() const { return linear_before_reset ? gates : 2; }
  bool splits_bias() const { return linear_before_reset; }

  template <class T, class Given>
  void step(const Part<T>& part, const Given& given) const {
    const auto row = [&](const auto& block, int64_t r, const T* projected, const T* products) {
      const int64_t at = r * part.stride + block.first;
      return GruRow<T>{projected + block.first,
                       products,
                       products,
                       linear_before_reset ? given.last_bias + block.first : nullptr,
                       given.gate[0],
                       given.gate[1],
                       given.clip,
                       part.hidden,
                       block.width,
                       block.units,
                       part.h + at,
                       part.next + at,
                       part.reset + at,
                       part.update + at,
                       given.output_at(r, block.first)};
    };
    const StateBlocks<T> blocks{part.hidden, first_gates()};
    part.multiply_state(blocks, 0, part.h, given,
                        [&](const auto& block, int64_t r, const T* products) {
                          const T* projected = given.projected(r);
                          if (projected == nullptr) return part.keep(r, block.first, block.units);
                          GruRow<T> open = row(block, r, projected, products);
                          recurrent_functions<T>().gru_gates(open);
                          if (!linear_before_reset) return;
                          open.product = products + 2 * block.width;
                          recurrent_functions<T>().gru_output(open);
                        });
    if (linear_before_reset) return;
    part.multiply_state(StateBlocks<T>{part.hidden, 1}, blocks.size(), part.reset, given,
                        [&](const auto& block, int64_t r, const T* products) {
                          const T* projected = given.projected(r);
                          if (projected == nullptr) return;
                          recurrent_functions<T>().gru_output(row(block, r, projected, products));
                        });
  }

  bool linear_before_reset;
};

struct RnnCell {
  static constexpr int64_t gates = 1;
  static constexpr int peepholes_input = -1;
  static std::vector<std::string> activations() { return {"tanh"}; }

  explicit RnnCell(const NodeSpec&) {}

  int64_t first_gates() const { return gates; }
  bool splits_bias() const { return false; }

  template <class T, class Given>
  void step(const Part<T>& part, const Given& given) const {
    part.multiply_state(StateBlocks<T>{part.hidden, 1}, 0, part.h, given,
                        [&](const auto& block, int64_t r, const T* products) {
                          const T* projected = given.projected(r);
                          if (projected == nullptr) return part.keep(r, block.first, block.units);
                          recurrent_functions<T>().rnn({projected + block.first, products,
                                                        given.gate[0], given.clip, block.units,
                                                        part.next + r * part.stride + block.first,
                                                        given.output_at(r, block.first)});
                        });
  }
};

}  // namespace bascule
