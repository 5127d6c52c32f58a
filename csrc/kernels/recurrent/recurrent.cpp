// SPDX-License-Identifier: Apache-2.0
// LSTM, GRU and RNN.
//
// The inputs of all steps are multiplied with W at once. Then parts of the work that do not depend
// on each other (directions, and rows of the batch) walk over the steps: the state is multiplied
// with R, some units at a time, and the cell turns both products into their next state. 16-bit
// floats are widened first.
#include <algorithm>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "kernels/gemm/convert.h"
#include "kernels/gemm/gemm.h"
#include "kernels/gemm/prepack_floats.h"
#include "kernels/recurrent/cells.h"
#include "kernels/recurrent/gate_list.h"
#include "runtime/kernel.h"

namespace bascule {
namespace {

struct Sizes {
  int64_t steps;
  int64_t batch;
  int64_t input;
  int64_t hidden;
};

// The tensors of a run; null is zero for inputs and not wanted for outputs.
template <class T>
struct Data {
  const T* x;
  const T* w;  // packed, per direction
  const T* r;
  const T* bias;
  const int32_t* lengths;
  const T* initial_h;
  const T* initial_c;
  const T* peepholes;
  T* y;
  T* y_h;
  T* y_c;
};

template <class Cell>
class Recurrent final : public Kernel {
 public:
  static Capability capability(const NodeSpec& node) {
    return require_dtype(node, 0, FloatTypes{});
  }

  explicit Recurrent(const NodeSpec& node)
      : cell_(node),
        direction_(node.get_string("direction", "forward")),
        directions_(direction_ == "bidirectional" ? 2 : 1),
        batch_first_(node.get_int("layout", 0) != 0),
        clip_(node.get_float("clip", std::numeric_limits<float>::infinity())),
        activations_(parse_gates(node, directions_, Cell::activations())) {
    if (direction_ != "forward" && direction_ != "reverse" && direction_ != "bidirectional") {
      invalid("attribute 'direction' is '" + direction_ + "'");
    }
    w_ = pack_constant(node, input_w);
    r_ = pack_constant(node, input_r);
  }

  void run(RunContext& c) const override {
    visit(FloatTypes{}, c.input(0).dtype(), [&](auto tag) {
      using S = typename decltype(tag)::type;
      run_typed<S>(c);
    });
  }

 private:
  static constexpr int64_t gates = Cell::gates;
  static constexpr int input_w = 1;
  static constexpr int input_r = 2;

  // A constant W or R in panels, and its shape.
  struct Packed {
    Tensor panels;
    Shape shape;
    bool present() const { return shape.rank() == 3; }
  };

  // W [directions, gates * hidden, size] or R as they are multiplied: W in panels, R in blocks of
  // the gates that are multiplied together.
  template <class T>
  int64_t packed_direction(int input, int64_t size, int64_t hidden) const {
    if (input == input_w) return packed_size<T>(size, gates * hidden);
    const int64_t first = cell_.first_gates();
    const int64_t rest = first < gates ? StateBlocks<T>{hidden, gates - first}.size() : 0;
    return StateBlocks<T>{hidden, first}.size() + rest;
  }
  template <class T>
  void pack(int input, const T* from, int64_t size, int64_t hidden, T* to) const {
    for (int64_t d = 0; d < directions_; ++d, from += gates * hidden * size) {
      T* at = to + d * packed_direction<T>(input, size, hidden);
      if (input == input_w) {
        pack_panels<T>(from, 1, size, size, gates * hidden, at);
        continue;
      }
      const StateBlocks<T> first{hidden, cell_.first_gates()};
      first.pack(from, at);
      if (first.gates == gates) continue;
      const StateBlocks<T> rest{hidden, gates - first.gates};
      rest.pack(from + first.gates * hidden * hidden, at + first.size());
    }
  }

  Packed pack_constant(const NodeSpec& node, int input) const {
    Packed packed;
    const auto index = static_cast<size_t>(input);
    const Tensor* constant = node.constant(index);
    if (constant == nullptr || constant->rank() != 3 || constant->dim(1) % gates != 0 ||
        constant->dim(0) != directions_) {
      return packed;
    }
    const int64_t hidden = constant->dim(1) / gates;
    const int64_t size = constant->dim(2);
    if (input == input_r && size != hidden) return packed;
    packed.shape = constant->shape();
    const auto fill = [&]<class T>(Tag<T>) {
      packed.panels =
          prepack_floats<T>(node, {index}, input == input_w ? "W" : "R",
                            directions_ * packed_direction<T>(input, size, hidden), *constant,
                            [&](const T* from, T* to) { pack<T>(input, from, size, hidden, to); });
    };
    if (constant->dtype() == DType::float64) {
      fill(Tag<double>{});
    } else {
      fill(Tag<float>{});
    }
    node.release_constant(index);
    return packed;
  }

  template <class T>
  static const T* widened(RunContext& c, int input) {
    if (input < 0 || !c.has_input(input)) return nullptr;
    if constexpr (std::is_same_v<T, double>) {
      return c.input(input).data<double>();
    } else {
      return as_floats(c, c.input(input));
    }
  }

  template <class T>
  const T* panels(RunContext& c, int input, const Packed& packed, int64_t size,
                  int64_t hidden) const {
    if (packed.present()) return packed.panels.template data<T>();
    T* to = c.workspace<T>(directions_ * packed_direction<T>(input, size, hidden));
    pack<T>(input, widened<T>(c, input), size, hidden, to);
    return to;
  }

  static void check(RunContext& c, int input, const char* name, const Shape& expected) {
    if (input < 0 || !c.has_input(input) || c.input(input).shape() == expected) return;
    fail(std::string(name) + " has shape " + c.input(input).shape().text() + ", expected " +
         expected.text());
  }

  Sizes find_sizes(RunContext& c) const {
    const Tensor& x = c.input(0);
    if (x.rank() != 3) fail("X has shape " + x.shape().text() + ", expected three axes");
    const Shape w = w_.present() ? w_.shape : c.input(1).shape();
    const Shape r = r_.present() ? r_.shape : c.input(2).shape();
    Sizes s{x.dim(batch_first_ ? 1 : 0), x.dim(batch_first_ ? 0 : 1), x.dim(2),
            r.rank() == 3 ? r[2] : 0};
    const Shape expected_w{directions_, gates * s.hidden, s.input};
    const Shape expected_r{directions_, gates * s.hidden, s.hidden};
    if (w != expected_w) fail("W has shape " + w.text() + ", expected " + expected_w.text());
    if (r != expected_r) fail("R has shape " + r.text() + ", expected " + expected_r.text());
    const Shape state = batch_first_ ? Shape{s.batch, directions_, s.hidden}
                                     : Shape{directions_, s.batch, s.hidden};
    check(c, 3, "B", {directions_, 2 * gates * s.hidden});
    check(c, 4, "sequence_lens", {s.batch});
    check(c, 5, "initial_h", state);
    if (Cell::peepholes_input >= 0) {
      check(c, 6, "initial_c", state);
      check(c, Cell::peepholes_input, "P", {directions_, 3 * s.hidden});
    }
    if (c.has_input(4)) {
      for (int32_t length : c.input(4).template elements<int32_t>()) {
        if (length < 0 || length > s.steps) {
          invalid("sequence_lens holds " + std::to_string(length) + ", and there are " +
                  std::to_string(s.steps) + " steps");
        }
      }
    }
    return s;
  }

  // An output as T: itself, or scratch that narrow_output() converts.
  template <class S>
  Compute<S>* make_output(RunContext& c, int index, const Shape& shape, Tensor*& tensor) const {
    using T = Compute<S>;
    if (!c.wants_output(index)) return nullptr;
    tensor = &c.output(index, dtype_of<S>, shape);
    if constexpr (std::is_same_v<S, T>) {
      return tensor->data<T>();
    } else {
      return c.workspace<T>(shape.size());
    }
  }

  template <class S>
  void run_typed(RunContext& c) const {
    using T = Compute<S>;
    const Sizes s = find_sizes(c);
    Data<T> data;
    data.x = widened<T>(c, 0);
    data.w = panels<T>(c, input_w, w_, s.input, s.hidden);
    data.r = panels<T>(c, input_r, r_, s.hidden, s.hidden);
    data.bias = widened<T>(c, 3);
    data.lengths = c.has_input(4) ? c.input(4).template data<int32_t>() : nullptr;
    data.initial_h = widened<T>(c, 5);
    data.initial_c = Cell::peepholes_input >= 0 ? widened<T>(c, 6) : nullptr;
    data.peepholes = widened<T>(c, Cell::peepholes_input);
    Tensor* outputs[3] = {};
    const Shape state = batch_first_ ? Shape{s.batch, directions_, s.hidden}
                                     : Shape{directions_, s.batch, s.hidden};
    data.y = make_output<S>(c, 0,
                            batch_first_ ? Shape{s.batch, s.steps, directions_, s.hidden}
                                         : Shape{s.steps, directions_, s.batch, s.hidden},
                            outputs[0]);
    data.y_h = make_output<S>(c, 1, state, outputs[1]);
    data.y_c = make_output<S>(c, 2, state, outputs[2]);
    if (state.size() > 0) walk(c, s, data);
    if constexpr (!std::is_same_v<S, T>) {
      const T* results[3] = {data.y, data.y_h, data.y_c};
      for (int i = 0; i < 3; ++i) {
        if (results[i] == nullptr) continue;
        narrow(c, dtype_of<S>, results[i], outputs[i]->raw(), outputs[i]->size());
      }
    }
  }

  // Row (step, b) of [steps, batch] or [batch, steps].
  int64_t row(const Sizes& s, int64_t step, int64_t b) const {
    return batch_first_ ? b * s.steps + step : step * s.batch + b;
  }
  // Row (direction, b) of a state.
  int64_t state_row(const Sizes& s, int64_t direction, int64_t b) const {
    return batch_first_ ? b * directions_ + direction : direction * s.batch + b;
  }
  int64_t y_row(const Sizes& s, int64_t step, int64_t direction, int64_t b) const {
    return batch_first_ ? row(s, step, b) * directions_ + direction
                        : (step * directions_ + direction) * s.batch + b;
  }

  // W X + biases for all steps: [directions, steps * batch, gates * hidden].
  template <class T>
  const T* project(RunContext& c, const Sizes& s, const Data<T>& data) const {
    const int64_t columns = gates * s.hidden;
    const int64_t rows = s.steps * s.batch;
    T* bias = c.workspace<T>(directions_ * columns);
    T* projected = c.workspace<T>(directions_ * rows * columns);
    for (int64_t d = 0; d < directions_; ++d) {
      const T* b = data.bias != nullptr ? data.bias + d * 2 * columns : nullptr;
      const int64_t joined = cell_.splits_bias() ? columns - s.hidden : columns;
      for (int64_t i = 0; i < columns; ++i) {
        bias[d * columns + i] = b == nullptr ? T(0) : i < joined ? b[i] + b[columns + i] : b[i];
      }
      if (rows == 0) continue;
      GemmBlock<T> g = matrix_block<T>(&data.x, rows, s.input, s.input,
                                       data.w + d * packed_direction<T>(input_w, s.input, s.hidden),
                                       projected + d * rows * columns, columns);
      g.epilogue.bias = bias + d * columns;
      multiply(c, g);
    }
    return projected;
  }

  template <class T>
  void walk(RunContext& c, const Sizes& s, const Data<T>& data) const {
    const T* projected = project(c, s, data);
    T* zero = c.workspace<T>(s.hidden);
    std::fill_n(zero, s.hidden, T(0));
    // Parts: directions times runs of rows, enough for the threads. One part alone uses the threads
    // for its products, as is better where R does not stay in the cache of one core.
    const bool stays = gates * s.hidden * s.hidden * static_cast<int64_t>(sizeof(T)) <= 1 << 20;
    const int64_t wanted = stays ? (c.threads() + directions_ - 1) / directions_ : 1;
    const int64_t runs = std::min(s.batch, wanted);
    const int64_t parts = directions_ * runs;
    const int64_t most_rows = (s.batch + runs - 1) / runs;
    const int64_t part_size = Part<T>::size(most_rows, s.hidden, gates);
    T* space = c.workspace<T>(parts * part_size);
    const double cost = static_cast<double>(s.steps * most_rows * gates * s.hidden) *
                        static_cast<double>(s.hidden + 64) / 8;
    c.parallel_for(parts, cost, [&](int64_t begin, int64_t end) {
      for (int64_t p = begin; p < end; ++p) {
        const int64_t run = p % runs;
        const int64_t first = s.batch * run / runs;
        Part<T> part;
        part.direction = p / runs;
        part.rows = s.batch * (run + 1) / runs - first;
        part.hidden = s.hidden;
        part.stride = Part<T>::row_stride(s.hidden);
        T* at = space + p * part_size;
        for (T** buffer : {&part.h, &part.next, &part.c, &part.reset, &part.update}) {
          *buffer = at;
          at += part.rows * part.stride;
        }
        part.products = at;
        part.packed = data.r + part.direction * packed_direction<T>(input_r, s.hidden, s.hidden);
        part.threads = parts == 1 ? &c : nullptr;
        walk_part(s, data, projected, zero, first, part);
      }
    });
  }

  template <class T>
  void walk_part(const Sizes& s, const Data<T>& data, const T* projected, const T* zero,
                 int64_t first, Part<T> part) const {
    const int64_t n = s.hidden;
    const int64_t columns = gates * n;
    const bool reverse = direction_ == "reverse" || part.direction == 1;
    const auto length = [&](int64_t b) {
      return data.lengths != nullptr ? static_cast<int64_t>(data.lengths[b]) : s.steps;
    };
    int64_t longest = 0;
    for (int64_t r = 0; r < part.rows; ++r) {
      const int64_t at = state_row(s, part.direction, first + r) * n;
      const int64_t own = r * part.stride;
      std::copy_n(data.initial_h != nullptr ? data.initial_h + at : zero, n, part.h + own);
      std::copy_n(data.initial_c != nullptr ? data.initial_c + at : zero, n, part.c + own);
      std::copy_n(zero, n, part.reset + own);  // multiplied for all rows, also those without steps
      longest = std::max(longest, length(first + r));
    }
    const Gate* gate =
        activations_.data() + static_cast<size_t>(part.direction) *
                                  (activations_.size() / static_cast<size_t>(directions_));
    const T* last_bias =
        data.bias != nullptr ? data.bias + (part.direction + 1) * 2 * columns - n : zero;
    const T* own = projected + part.direction * s.steps * s.batch * columns;
    for (int64_t i = 0; i < longest; ++i) {
      // A sequence is reversed within its own length.
      const auto step_of = [&](int64_t r) { return reverse ? length(first + r) - 1 - i : i; };
      const auto projected_row = [&](int64_t r) -> const T* {
        if (i >= length(first + r)) return nullptr;
        return own + row(s, step_of(r), first + r) * columns;
      };
      const auto output_row = [&](int64_t r) -> T* {
        if (data.y == nullptr) return nullptr;
        return data.y + y_row(s, step_of(r), part.direction, first + r) * n;
      };
      cell_.step(part, Step<T, decltype(projected_row), decltype(output_row)>{
                           gate, static_cast<T>(clip_), data.peepholes, last_bias, i % 2 != 0,
                           gates, projected_row, output_row});
      std::swap(part.h, part.next);
    }
    for (int64_t r = 0; r < part.rows; ++r) {
      const int64_t b = first + r;
      const int64_t at = state_row(s, part.direction, b) * n;
      if (data.y_h != nullptr) std::copy_n(part.h + r * part.stride, n, data.y_h + at);
      if (data.y_c != nullptr) std::copy_n(part.c + r * part.stride, n, data.y_c + at);
      for (int64_t step = length(b); data.y != nullptr && step < s.steps; ++step) {
        std::fill_n(data.y + y_row(s, step, part.direction, b) * n, n, T(0));
      }
    }
  }

  Cell cell_;
  std::string direction_;
  int64_t directions_;
  bool batch_first_;
  float clip_;
  std::vector<Gate> activations_;
  Packed w_;
  Packed r_;
};
using Lstm = Recurrent<LstmCell>;
using Gru = Recurrent<GruCell>;
using Rnn = Recurrent<RnnCell>;
BASCULE_KERNEL("LSTM", Lstm);
BASCULE_KERNEL("GRU", Gru);
BASCULE_KERNEL("RNN", Rnn);

}  // namespace
}  // namespace bascule
