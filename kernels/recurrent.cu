// SPDX-License-Identifier: Apache-2.0
// parts: float32 float64 float16 bfloat16
// LSTM, GRU and RNN: the inputs of all steps are multiplied with W at once, here or by cuBLASLt;
// then a launch for each step (two for a GRU whose reset comes before the product) takes the state
// one step further. A warp makes one element of the state. States and sums are in the wide type.
#include "common.cuh"

struct Sizes {
  int64_t steps, batch, input, hidden;
  int32_t directions, gates;
  int32_t reverse;      // the only direction is backwards
  int32_t batch_first;  // layout 1
};

struct Cell {
  int32_t kind[6];  // of the activations of both directions, see gate()
  float alpha[6];
  float beta[6];
  int32_t count;   // activations of a direction
  int32_t option;  // LSTM: the gates are coupled; GRU: linear before reset
  float clip;      // infinity: no bound
};

template <typename W>
__device__ W gate(const Cell& cell, int index, W x, bool bounded) {
  if (bounded) {
    const W limit = cell.clip;
    x = x < -limit ? -limit : x > limit ? limit : x;
  }
  const W alpha = cell.alpha[index], beta = cell.beta[index];
  switch (cell.kind[index]) {
    case 0:  // Sigmoid
      return W(1) / (W(1) + exp(-x));
    case 1:  // Tanh
      return tanh(x);
    case 2:  // Relu
      return x < W(0) ? W(0) : x;
    case 3:  // Affine
      return alpha * x + beta;
    case 4:  // LeakyRelu
      return x < W(0) ? alpha * x : x;
    case 5:  // ThresholdedRelu
      return x >= alpha ? x : W(0);
    case 6:  // ScaledTanh
      return alpha * tanh(beta * x);
    case 7: {  // HardSigmoid
      const W y = alpha * x + beta;
      return y < W(0) ? W(0) : y > W(1) ? W(1) : y;
    }
    case 8:  // Elu
      return x < W(0) ? alpha * expm1(x) : x;
    case 9:  // Softsign
      return x / (W(1) + fabs(x));
    default:  // Softplus
      return (x > W(0) ? x : W(0)) + log1p(exp(-fabs(x)));
  }
}

// What is added to a product of the input with W, for column `column` of direction d.
template <typename T>
__device__ wide_t<T> summed_bias(const T* bias, const Sizes& s, const Cell& cell, int64_t d,
                                 int64_t column) {
  const int64_t columns = s.gates * s.hidden;
  const T* own = bias + d * 2 * columns;
  // A GRU that is linear before the reset multiplies the last gate's second bias.
  const bool apart = s.gates == 3 && cell.option && column >= 2 * s.hidden;
  return widen(own[column]) + (apart ? wide_t<T>(0) : widen(own[columns + column]));
}

template <typename T>
__device__ void sum_bias(const T* bias, wide_t<T>* sums, const Sizes& s, const Cell& cell) {
  const int64_t columns = s.gates * s.hidden;
  for (int64_t i = thread_number(); i < s.directions * columns; i += thread_count()) {
    sums[i] = summed_bias(bias, s, cell, i / columns, i % columns);
  }
}

// projected[d][row][column] = x[row] W[d][column]' and the bias, 16 rows and columns to a block.
template <typename T>
__device__ void project(const T* x, const T* w, const T* bias, wide_t<T>* projected, Sizes s,
                        Cell cell) {
  using W = wide_t<T>;
  __shared__ W of_x[16][17];
  __shared__ W of_w[16][17];
  const int64_t columns = s.gates * s.hidden, rows = s.steps * s.batch;
  const int64_t tiles = (columns + 15) / 16, tile = blockIdx.x;
  const int64_t d = blockIdx.y, i = threadIdx.x / 16, j = threadIdx.x % 16;
  const int64_t row = tile / tiles * 16 + i, column = tile % tiles * 16 + j;
  const int64_t other = tile % tiles * 16 + i;
  W sum = 0;
  for (int64_t k = 0; k < s.input; k += 16) {
    const bool inside = k + j < s.input;
    of_x[i][j] = inside && row < rows ? widen(x[row * s.input + k + j]) : W(0);
    of_w[i][j] =
        inside && other < columns ? widen(w[(d * columns + other) * s.input + k + j]) : W(0);
    __syncthreads();
    for (int l = 0; l < 16; ++l) sum += of_x[i][l] * of_w[j][l];
    __syncthreads();
  }
  if (row >= rows || column >= columns) return;
  if (bias != nullptr) sum += summed_bias(bias, s, cell, d, column);
  projected[(d * rows + row) * columns + column] = sum;
}

// Where the state of (direction, row of the batch) is in an input or output.
__device__ inline int64_t state_row(const Sizes& s, int64_t d, int64_t b) {
  return s.batch_first ? b * s.directions + d : d * s.batch + b;
}

// state[d][b] from an input, or zero.
template <typename T>
__device__ void load_state(const T* from, wide_t<T>* state, Sizes s) {
  const int64_t total = s.directions * s.batch * s.hidden;
  for (int64_t i = thread_number(); i < total; i += thread_count()) {
    const int64_t row = i / s.hidden, at = state_row(s, row / s.batch, row % s.batch);
    state[i] = from == nullptr ? wide_t<T>(0) : widen(from[at * s.hidden + i % s.hidden]);
  }
}

template <typename T>
__device__ void store_state(const wide_t<T>* state, T* to, Sizes s) {
  const int64_t total = s.directions * s.batch * s.hidden;
  for (int64_t i = thread_number(); i < total; i += thread_count()) {
    const int64_t row = i / s.hidden, at = state_row(s, row / s.batch, row % s.batch);
    to[at * s.hidden + i % s.hidden] = narrow<T>(state[i]);
  }
}

// One warp's element of the state, in step number `number` of its walk.
template <typename W>
struct Element {
  int64_t d, b, j, state, projected, y;
  bool exists, lives;

  __device__ Element(const Sizes& s, const int32_t* lengths, int64_t number) {
    state = thread_number() / 32;
    exists = state < s.directions * s.batch * s.hidden;
    const int64_t row = exists ? state / s.hidden : 0;
    j = exists ? state % s.hidden : 0;
    d = row / s.batch;
    b = row % s.batch;
    int64_t length = s.steps;
    if (lengths != nullptr && lengths[b] < length) length = lengths[b] < 0 ? 0 : lengths[b];
    lives = number < length;
    const int64_t step = (s.reverse || d == 1) && lives ? length - 1 - number : number;
    projected =
        (d * s.steps * s.batch + (s.batch_first ? b * s.steps + step : step * s.batch + b)) *
        s.gates * s.hidden;
    y = (s.batch_first ? (b * s.steps + step) * s.directions + d
                       : (step * s.directions + d) * s.batch + b) *
            s.hidden +
        j;
  }
};

// Row `gate` of R times the state; every lane gets it.
template <typename T, typename W>
__device__ W product(const T* r, const W* h, const Sizes& s, const Element<W>& e, int gate) {
  const T* row = r + ((e.d * s.gates + gate) * s.hidden + e.j) * s.hidden;
  const W* own = h + (e.d * s.batch + e.b) * s.hidden;
  W sum = 0;
  for (int64_t k = threadIdx.x % 32; k < s.hidden; k += 32) sum += widen(row[k]) * own[k];
  return warp_reduce(sum, Sum());
}

template <typename T>
__device__ void lstm_step(const wide_t<T>* projected, const T* r, const T* peepholes,
                          const int32_t* lengths, const wide_t<T>* h, wide_t<T>* next, wide_t<T>* c,
                          T* y, Sizes s, Cell cell, int64_t number) {
  using W = wide_t<T>;
  const Element<W> e(s, lengths, number);
  W sum[4];
  for (int g = 0; g < 4; ++g) sum[g] = product(r, h, s, e, g);
  if (threadIdx.x % 32 != 0 || !e.exists) return;
  if (!e.lives) {
    next[e.state] = h[e.state];
    return;
  }
  for (int g = 0; g < 4; ++g) sum[g] += projected[e.projected + g * s.hidden + e.j];
  const W before = c[e.state];
  const T* p = peepholes == nullptr ? nullptr : peepholes + e.d * 3 * s.hidden + e.j;
  if (p != nullptr) {
    sum[0] += widen(p[0]) * before;
    sum[2] += widen(p[2 * s.hidden]) * before;
  }
  const int first = static_cast<int>(e.d) * cell.count;
  const W input = gate(cell, first, sum[0], true);
  const W forget = cell.option ? W(1) - input : gate(cell, first, sum[2], true);
  const W state = forget * before + input * gate(cell, first + 1, sum[3], true);
  if (p != nullptr) sum[1] += widen(p[s.hidden]) * state;
  const W hidden = gate(cell, first, sum[1], true) * gate(cell, first + 2, state, false);
  c[e.state] = state;
  next[e.state] = hidden;
  if (y != nullptr) y[e.y] = narrow<T>(hidden);
}

// The update gate, and what the last product multiplies: the reset gate times the state, or (linear
// before reset) the reset gate alone.
template <typename T>
__device__ void gru_gates(const wide_t<T>* projected, const T* r, const int32_t* lengths,
                          const wide_t<T>* h, wide_t<T>* update, wide_t<T>* reset, Sizes s,
                          Cell cell, int64_t number) {
  using W = wide_t<T>;
  const Element<W> e(s, lengths, number);
  W sum[2];
  for (int g = 0; g < 2; ++g) sum[g] = product(r, h, s, e, g);
  if (threadIdx.x % 32 != 0 || !e.exists) return;
  if (!e.lives) {
    update[e.state] = reset[e.state] = 0;
    return;
  }
  for (int g = 0; g < 2; ++g) sum[g] += projected[e.projected + g * s.hidden + e.j];
  const int first = static_cast<int>(e.d) * cell.count;
  update[e.state] = gate(cell, first, sum[0], true);
  const W open = gate(cell, first, sum[1], true);
  reset[e.state] = cell.option ? open : open * h[e.state];
}

template <typename T>
__device__ void gru_output(const wide_t<T>* projected, const T* r, const T* bias,
                           const int32_t* lengths, const wide_t<T>* h, wide_t<T>* next,
                           const wide_t<T>* update, const wide_t<T>* reset, T* y, Sizes s,
                           Cell cell, int64_t number) {
  using W = wide_t<T>;
  const Element<W> e(s, lengths, number);
  W sum = product(r, cell.option ? h : reset, s, e, 2);
  if (threadIdx.x % 32 != 0 || !e.exists) return;
  if (!e.lives) {
    next[e.state] = h[e.state];
    return;
  }
  if (cell.option) {
    if (bias != nullptr) sum += widen(bias[(e.d * 6 + 5) * s.hidden + e.j]);
    sum *= reset[e.state];
  }
  sum += projected[e.projected + 2 * s.hidden + e.j];
  const W candidate = gate(cell, static_cast<int>(e.d) * cell.count + 1, sum, true);
  const W z = update[e.state];
  const W hidden = (W(1) - z) * candidate + z * h[e.state];
  next[e.state] = hidden;
  if (y != nullptr) y[e.y] = narrow<T>(hidden);
}

template <typename T>
__device__ void rnn_step(const wide_t<T>* projected, const T* r, const int32_t* lengths,
                         const wide_t<T>* h, wide_t<T>* next, T* y, Sizes s, Cell cell,
                         int64_t number) {
  using W = wide_t<T>;
  const Element<W> e(s, lengths, number);
  const W sum = product(r, h, s, e, 0);
  if (threadIdx.x % 32 != 0 || !e.exists) return;
  if (!e.lives) {
    next[e.state] = h[e.state];
    return;
  }
  const W x = sum + projected[e.projected + e.j];
  const W hidden = gate(cell, static_cast<int>(e.d) * cell.count, x, true);
  next[e.state] = hidden;
  if (y != nullptr) y[e.y] = narrow<T>(hidden);
}

#define RECURRENT(name, T)                                                                        \
  extern "C" __global__ void recurrent_project_##name(                                            \
      const T* x, const T* w, const T* bias, wide_t<T>* projected, Sizes sizes, Cell cell) {      \
    project<T>(x, w, bias, projected, sizes, cell);                                               \
  }                                                                                               \
  extern "C" __global__ void recurrent_bias_##name(const T* bias, wide_t<T>* sums, Sizes sizes,   \
                                                   Cell cell) {                                   \
    sum_bias<T>(bias, sums, sizes, cell);                                                         \
  }                                                                                               \
  extern "C" __global__ void load_state_##name(const T* from, wide_t<T>* state, Sizes sizes) {    \
    load_state<T>(from, state, sizes);                                                            \
  }                                                                                               \
  extern "C" __global__ void store_state_##name(const wide_t<T>* state, T* to, Sizes sizes) {     \
    store_state<T>(state, to, sizes);                                                             \
  }                                                                                               \
  extern "C" __global__ void lstm_step_##name(const wide_t<T>* projected, const T* r,             \
                                              const T* peepholes, const int32_t* lengths,         \
                                              const wide_t<T>* h, wide_t<T>* next, wide_t<T>* c,  \
                                              T* y, Sizes sizes, Cell cell, int64_t number) {     \
    lstm_step<T>(projected, r, peepholes, lengths, h, next, c, y, sizes, cell, number);           \
  }                                                                                               \
  extern "C" __global__ void gru_gates_##name(                                                    \
      const wide_t<T>* projected, const T* r, const int32_t* lengths, const wide_t<T>* h,         \
      wide_t<T>* update, wide_t<T>* reset, Sizes sizes, Cell cell, int64_t number) {              \
    gru_gates<T>(projected, r, lengths, h, update, reset, sizes, cell, number);                   \
  }                                                                                               \
  extern "C" __global__ void gru_output_##name(                                                   \
      const wide_t<T>* projected, const T* r, const T* bias, const int32_t* lengths,              \
      const wide_t<T>* h, wide_t<T>* next, const wide_t<T>* update, const wide_t<T>* reset, T* y, \
      Sizes sizes, Cell cell, int64_t number) {                                                   \
    gru_output<T>(projected, r, bias, lengths, h, next, update, reset, y, sizes, cell, number);   \
  }                                                                                               \
  extern "C" __global__ void rnn_step_##name(                                                     \
      const wide_t<T>* projected, const T* r, const int32_t* lengths, const wide_t<T>* h,         \
      wide_t<T>* next, T* y, Sizes sizes, Cell cell, int64_t number) {                            \
    rnn_step<T>(projected, r, lengths, h, next, y, sizes, cell, number);                          \
  }
FOR_FLOATS(RECURRENT)
