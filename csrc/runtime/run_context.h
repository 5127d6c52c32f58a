// SPDX-License-Identifier: Apache-2.0
// What a kernel sees of one run: its inputs, its outputs, scratch memory and threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "core/value.h"
#include "runtime/thread_pool.h"

namespace bascule {

class Frame;

class RunContext {
 public:
  RunContext(Frame& frame, int step, const int* inputs, int input_count, const int* outputs,
             int output_count)
      : frame_(frame),
        step_(step),
        inputs_(inputs),
        outputs_(outputs),
        input_count_(input_count),
        output_count_(output_count) {}

  int input_count() const { return input_count_; }
  int output_count() const { return output_count_; }

  // False when input i was left out, or is an empty optional.
  bool has_input(int i) const;
  // Input i as a tensor; an error when it is absent or something else.
  const Tensor& input(int i) const;
  // Input i, whatever it is.
  const Value& value(int i) const;

  // False when nobody reads output i.
  bool wants_output(int i) const { return i < output_count_ && outputs_[i] >= 0; }

  // Output i with this type and shape: memory from the plan, from an input that dies here (in
  // place, if the kernel registered that) or from the heap, uninitialized. Call it once per output,
  // after all inputs have been checked; a string output holds empty strings. An output that nobody
  // wants gets scratch memory.
  Tensor& output(int i, DType dtype, const Shape& shape);

  // Output i as the same elements as `source` (an input, or part of one): no copy where the plan
  // allows it.
  void alias_output(int i, const Tensor& source, const Shape& shape);

  // Output i as any value: sequences, maps, empty optionals, tensors that own their memory.
  void set_output(int i, Value value);

  // `bytes` of scratch memory, 64-byte aligned, until run() returns. Several calls give several
  // pieces.
  void* workspace(int64_t bytes);
  template <class T>
  T* workspace(int64_t count) {
    return static_cast<T*>(workspace(count * static_cast<int64_t>(sizeof(T))));
  }

  // body(begin, end) over pieces of [0, count), on the caller's thread and perhaps others. `cost`
  // is the rough number of simple operations of one item: small work is not split. Items must not
  // depend on each other, and results must not depend on how the range was cut.
  template <class Body>
  void parallel_for(int64_t count, double cost, Body&& body) {
    const int threads = pieces_for(count, cost);
    if (threads <= 1) {
      if (count > 0) body(int64_t{0}, count);
      return;
    }
    pool_for(Loop::over(count, body), threads, cost);
  }

  // How many threads a parallel_for of this run may use.
  int threads() const;

  // For the kernels that hold nested Programs: how to run them (threads, terminate flag).
  const struct RunSettings& settings() const;

 private:
  int pieces_for(int64_t count, double cost) const {
    // Waking a thread costs a few microseconds: below ~30k operations it does not pay.
    if (count <= 1 || static_cast<double>(count) * cost < 32768.0) return 1;
    const int most = threads();
    return count < most ? static_cast<int>(count) : most;
  }
  void pool_for(Loop loop, int threads, double cost) const;

  Frame& frame_;
  int step_;
  const int* inputs_;
  const int* outputs_;
  int input_count_;
  int output_count_;
};

}  // namespace bascule
