// SPDX-License-Identifier: Apache-2.0
// instruction sets: base avx2 avx512
#include "kernels/recurrent/gates.h"
#include "simd/activation.h"

namespace bascule::BASCULE_ISA {
namespace {

// One function for all activations but the usual two, so that they are compiled once.
__attribute__((noinline)) F32 other_gate(const Gate& gate, F32 x) {
  switch (gate.kind) {
    case GateKind::sigmoid:
      return sigmoid(x);
    case GateKind::tanh:
      return tanh(x);
    case GateKind::relu:
      return relu(x);
    case GateKind::affine:
      return fma(x, set(gate.alpha), set(gate.beta));
    case GateKind::leaky_relu:
      return leaky_relu(x, gate.alpha);
    case GateKind::thresholded_relu:
      return x >= gate.alpha ? x : set(0.0f);
    case GateKind::scaled_tanh:
      return tanh(x * gate.beta) * gate.alpha;
    case GateKind::hard_sigmoid:
      return hard_sigmoid(x, gate.alpha, gate.beta);
    case GateKind::elu:
      return elu(x, gate.alpha);
    case GateKind::softsign:
      return x / (abs(x) + 1.0f);
    case GateKind::softplus:
      return at_least(set(0.0f), x) + log1p(exp(-abs(x)));
  }
  return x;
}

template <bool usual>
BASCULE_INLINE F32 sigmoid_or(const Gate& gate, F32 x) {
  return usual ? sigmoid(x) : other_gate(gate, x);
}
template <bool usual>
BASCULE_INLINE F32 tanh_or(const Gate& gate, F32 x) {
  return usual ? tanh(x) : other_gate(gate, x);
}

// NaN stays NaN.
BASCULE_INLINE F32 bounded(F32 x, float limit) { return clip(x, -limit, limit); }

template <bool usual>
void lstm_row(const LstmRow<float>& r) {
  const int64_t n = r.hidden;
  for_vectors(r.units, [&](int64_t i, int64_t count) {
    const auto sum = [&](int64_t gate) {
      return load(r.projected + gate * n + i, count, 0) +
             load(r.recurrent + gate * r.width + i, count, 0);
    };
    const auto peephole = [&](int64_t gate, F32 cell) {
      return load(r.peepholes + gate * n + i, count, 0) * cell;
    };
    const F32 before = load(r.c + i, count, 0);
    F32 input = sum(0), output = sum(1), forget = sum(2), cell = sum(3);
    if (r.peepholes != nullptr) {
      input += peephole(0, before);
      forget += peephole(2, before);
    }
    input = sigmoid_or<usual>(r.f, bounded(input, r.clip));
    forget = r.couple ? set(1.0f) - input : sigmoid_or<usual>(r.f, bounded(forget, r.clip));
    cell = tanh_or<usual>(r.g, bounded(cell, r.clip));
    cell = fma(forget, before, input * cell);
    if (r.peepholes != nullptr) output += peephole(1, cell);
    output = sigmoid_or<usual>(r.f, bounded(output, r.clip));
    const F32 hidden = output * tanh_or<usual>(r.h_gate, cell);
    store(r.c + i, cell, count);
    store(r.h + i, hidden, count);
    if (r.y != nullptr) store(r.y + i, hidden, count);
  });
}

void lstm(const LstmRow<float>& r) {
  const bool usual = r.f.kind == GateKind::sigmoid && r.g.kind == GateKind::tanh &&
                     r.h_gate.kind == GateKind::tanh;
  usual ? lstm_row<true>(r) : lstm_row<false>(r);
}

template <bool usual>
void gru_gate_row(const GruRow<float>& r) {
  for_vectors(r.units, [&](int64_t i, int64_t count) {
    const F32 update = load(r.projected + i, count, 0) + load(r.recurrent + i, count, 0);
    const F32 reset =
        load(r.projected + r.hidden + i, count, 0) + load(r.recurrent + r.width + i, count, 0);
    const F32 open = sigmoid_or<usual>(r.f, bounded(reset, r.clip));
    store(r.update + i, sigmoid_or<usual>(r.f, bounded(update, r.clip)), count);
    store(r.reset + i, r.recurrent_bias != nullptr ? open : open * load(r.before + i, count, 0),
          count);
  });
}

template <bool usual>
void gru_output_row(const GruRow<float>& r) {
  for_vectors(r.units, [&](int64_t i, int64_t count) {
    F32 product = load(r.product + i, count, 0);
    if (r.recurrent_bias != nullptr) {
      product = (product + load(r.recurrent_bias + i, count, 0)) * load(r.reset + i, count, 0);
    }
    const F32 sum = load(r.projected + 2 * r.hidden + i, count, 0) + product;
    const F32 candidate = tanh_or<usual>(r.g, bounded(sum, r.clip));
    const F32 update = load(r.update + i, count, 0);
    const F32 hidden = fma(update, load(r.before + i, count, 0), (set(1.0f) - update) * candidate);
    store(r.h + i, hidden, count);
    if (r.y != nullptr) store(r.y + i, hidden, count);
  });
}

void gru_gates(const GruRow<float>& r) {
  r.f.kind == GateKind::sigmoid ? gru_gate_row<true>(r) : gru_gate_row<false>(r);
}
void gru_output(const GruRow<float>& r) {
  r.g.kind == GateKind::tanh ? gru_output_row<true>(r) : gru_output_row<false>(r);
}

template <bool usual>
void rnn_row(const RnnRow<float>& r) {
  for_vectors(r.units, [&](int64_t i, int64_t count) {
    const F32 sum = load(r.projected + i, count, 0) + load(r.recurrent + i, count, 0);
    const F32 hidden = tanh_or<usual>(r.f, bounded(sum, r.clip));
    store(r.h + i, hidden, count);
    if (r.y != nullptr) store(r.y + i, hidden, count);
  });
}

void rnn(const RnnRow<float>& r) {
  r.f.kind == GateKind::tanh ? rnn_row<true>(r) : rnn_row<false>(r);
}

}  // namespace

const RecurrentFunctions<float>& recurrent_functions_f32() {
  static constexpr RecurrentFunctions<float> functions = {lstm, gru_gates, gru_output, rnn};
  return functions;
}
}  // namespace bascule::BASCULE_ISA

#if BASCULE_ONCE
#include <algorithm>
#include <cmath>
#include <limits>

#include "simd/isa.h"
namespace bascule {
BASCULE_PER_ISA(const RecurrentFunctions<float>& recurrent_functions_f32());

template <>
const RecurrentFunctions<float>& recurrent_functions<float>() {
  static const RecurrentFunctions<float>& functions = BASCULE_PICK(recurrent_functions_f32)();
  return functions;
}

namespace {

double gate_f64(const Gate& gate, double x, double limit) {
  x = std::clamp(x, -limit, limit);
  const double alpha = static_cast<double>(gate.alpha);
  const double beta = static_cast<double>(gate.beta);
  switch (gate.kind) {
    case GateKind::sigmoid:
      return 1 / (1 + std::exp(-x));
    case GateKind::tanh:
      return std::tanh(x);
    case GateKind::relu:
      return x < 0 ? 0 : x;
    case GateKind::affine:
      return alpha * x + beta;
    case GateKind::leaky_relu:
      return x < 0 ? alpha * x : x;
    case GateKind::thresholded_relu:
      return x >= alpha ? x : 0;
    case GateKind::scaled_tanh:
      return alpha * std::tanh(beta * x);
    case GateKind::hard_sigmoid:
      return std::clamp(alpha * x + beta, 0.0, 1.0);
    case GateKind::elu:
      return x < 0 ? alpha * std::expm1(x) : x;
    case GateKind::softsign:
      return x / (1 + std::abs(x));
    case GateKind::softplus:
      return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x)));
  }
  return x;
}

constexpr double unbounded = std::numeric_limits<double>::infinity();

void lstm_f64(const LstmRow<double>& r) {
  const int64_t n = r.hidden;
  for (int64_t i = 0; i < r.units; ++i) {
    const auto sum = [&](int64_t gate, double cell) {
      const double peephole =
          r.peepholes != nullptr && gate < 3 ? r.peepholes[gate * n + i] * cell : 0;
      return r.projected[gate * n + i] + r.recurrent[gate * r.width + i] + peephole;
    };
    const double before = r.c[i];
    const double input = gate_f64(r.f, sum(0, before), r.clip);
    const double forget = r.couple ? 1 - input : gate_f64(r.f, sum(2, before), r.clip);
    r.c[i] = forget * before + input * gate_f64(r.g, sum(3, before), r.clip);
    r.h[i] = gate_f64(r.f, sum(1, r.c[i]), r.clip) * gate_f64(r.h_gate, r.c[i], unbounded);
    if (r.y != nullptr) r.y[i] = r.h[i];
  }
}

void gru_gates_f64(const GruRow<double>& r) {
  for (int64_t i = 0; i < r.units; ++i) {
    r.update[i] = gate_f64(r.f, r.projected[i] + r.recurrent[i], r.clip);
    const double open = gate_f64(r.f, r.projected[r.hidden + i] + r.recurrent[r.width + i], r.clip);
    r.reset[i] = r.recurrent_bias != nullptr ? open : open * r.before[i];
  }
}

void gru_output_f64(const GruRow<double>& r) {
  for (int64_t i = 0; i < r.units; ++i) {
    double product = r.product[i];
    if (r.recurrent_bias != nullptr) product = (product + r.recurrent_bias[i]) * r.reset[i];
    const double candidate = gate_f64(r.g, r.projected[2 * r.hidden + i] + product, r.clip);
    r.h[i] = (1 - r.update[i]) * candidate + r.update[i] * r.before[i];
    if (r.y != nullptr) r.y[i] = r.h[i];
  }
}

void rnn_f64(const RnnRow<double>& r) {
  for (int64_t i = 0; i < r.units; ++i) {
    r.h[i] = gate_f64(r.f, r.projected[i] + r.recurrent[i], r.clip);
    if (r.y != nullptr) r.y[i] = r.h[i];
  }
}

}  // namespace

template <>
const RecurrentFunctions<double>& recurrent_functions<double>() {
  static constexpr RecurrentFunctions<double> functions = {lstm_f64, gru_gates_f64, gru_output_f64,
                                                           rnn_f64};
  return functions;
}
}  // namespace bascule
#endif
