// SPDX-License-Identifier: Apache-2.0
// What one step of a recurrent network does for one row of the batch, beside its products. T is
// float or double. Plain data, shared by code of every instruction set.
#pragma once

#include <cstdint>

namespace bascule {

enum class GateKind : uint8_t {
  sigmoid,
  tanh,
  relu,
  affine,            // alpha * x + beta
  leaky_relu,        // alpha: slope below zero
  thresholded_relu,  // alpha: zero below
  scaled_tanh,       // alpha * tanh(beta * x)
  hard_sigmoid,      // alpha: slope, beta: offset
  elu,               // alpha
  softsign,
  softplus,
};

struct Gate {
  GateKind kind;
  float alpha;
  float beta;
};

// Some units of one row. Inputs of the activations are sum = projected + recurrent, in the order of
// the operator's gates, bounded by `clip` (infinity: not at all). All pointers are at the first of
// the units; gates are `hidden` elements apart, but those of `recurrent` are `width`. `h` is the
// state after the step, and `y` gets a copy of it unless it is null.
template <class T>
struct LstmRow {
  const T* projected;  // i o f c
  const T* recurrent;
  const T* peepholes;  // i o f, or null
  Gate f, g, h_gate;
  bool couple;  // the forget gate is 1 - the input gate
  T clip;
  int64_t hidden;
  int64_t width;
  int64_t units;
  T* h;
  T* c;  // changed in place
  T* y;
};

template <class T>
struct GruRow {
  const T* projected;       // z r h
  const T* recurrent;       // z r
  const T* product;         // h
  const T* recurrent_bias;  // of the hidden gate, when the reset follows the product; else null
  Gate f, g;
  T clip;
  int64_t hidden;
  int64_t width;
  int64_t units;
  const T* before;  // the state before the step
  T* h;
  T* reset;   // the reset gate; times the state where that is what the hidden gate multiplies
  T* update;  // the update gate
  T* y;
};

template <class T>
struct RnnRow {
  const T* projected;
  const T* recurrent;
  Gate f;
  T clip;
  int64_t units;
  T* h;
  T* y;
};

template <class T>
struct RecurrentFunctions {
  void (*lstm)(const LstmRow<T>& row);
  // GRU: reset and update from the first two gates; then h from the third.
  void (*gru_gates)(const GruRow<T>& row);
  void (*gru_output)(const GruRow<T>& row);
  void (*rnn)(const RnnRow<T>& row);
};

template <class T>
const RecurrentFunctions<T>& recurrent_functions();

}  // namespace bascule
