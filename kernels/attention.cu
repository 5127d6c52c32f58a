// SPDX-License-Identifier: Apache-2.0
// Attention in every form, with the scores of a row in memory, and what goes before any attention:
// joined keys and values, masks of other types.
#include "attention.cuh"

// A block takes rows, whose scores it keeps in its strip of `strips`.

enum class Shown { nothing, raw, capped, masked, weights };

template <typename T>
__device__ void show(T* to, const wide_t<T>* strip, int keys, wide_t<T> factor) {
  for (int j = threadIdx.x; j < keys; j += blockDim.x) to[j] = narrow<T>(strip[j] * factor);
}

// The dot products with all keys, by a warp each.
template <typename T>
__device__ void multiply_keys(const Attention& a, const T* q, const T* k, wide_t<T>* strip) {
  const int lane = threadIdx.x % 32;
  for (int j = threadIdx.x / 32; j < a.keys; j += blockDim.x / 32) {
    wide_t<T> sum = 0;
    for (int i = lane; i < a.size; i += 32) sum += widen(q[i]) * widen(k[j * a.k_row + i]);
    sum = warp_reduce(sum, Sum());
    if (lane == 0) strip[j] = sum * static_cast<wide_t<T>>(a.scale);
  }
  __syncthreads();
}

template <typename T>
__device__ void attend_row(const Attention& a, int item, int head, int query, const T* q,
                           const T* k, const T* v, const void* mask, const int64_t* lengths,
                           const T* sinks, T* y, wide_t<T>* strip, Shown shown, T* to) {
  using W = wide_t<T>;
  const W lowest = static_cast<W>(negative_infinity()), cap = static_cast<W>(a.cap);
  multiply_keys(a, q, k, strip);
  if (shown == Shown::raw) show<T>(to, strip, a.keys, 1);
  const Range seen = visible_keys(a, valid_keys(a, lengths, item), query);
  const int64_t start = mask_start(a, item, head, query);
  W top = sinks == nullptr ? lowest : widen(sinks[head]);
  const W sink = top;
  // Each thread goes on with the scores that it wrote: no barrier is between the stages.
  for (int j = threadIdx.x; j < a.keys; j += blockDim.x) {
    W score = strip[j];
    if (a.cap != 0) score = cap * tanh(score / cap);
    if (shown == Shown::capped) to[j] = narrow<T>(score);
    if (j < seen.begin || j >= seen.end) {
      score = lowest;
    } else if (mask != nullptr) {
      score += mask_value<T>(a, mask, start + j);
    }
    if (shown == Shown::masked) to[j] = narrow<T>(score);
    strip[j] = score;
    top = Largest()(top, score);
  }
  top = block_reduce(top, lowest, Largest());
  const W reference = top == lowest ? W(0) : top;
  W sum = 0;
  for (int j = threadIdx.x; j < a.keys; j += blockDim.x) {
    const W weight = exp(strip[j] - reference);
    strip[j] = weight;
    sum += weight;
  }
  sum = block_reduce(sum, W(0), Sum());
  if (seen.begin < seen.end) sum += exp(sink - reference);
  const W factor = sum == 0 || seen.begin == seen.end ? W(0) : 1 / sum;
  if (shown == Shown::weights) show<T>(to, strip, a.keys, factor);
  for (int c = threadIdx.x; c < a.v_size; c += blockDim.x) {
    W total = 0;
    for (int j = seen.begin; j < seen.end; ++j) total += strip[j] * widen(v[j * a.v_row + c]);
    y[c] = narrow<T>(total * factor);
  }
  __syncthreads();  // the strip is used again
}

template <typename T>
__device__ void attend_rows(const T* q, const T* k, const T* v, const void* mask,
                            const int64_t* lengths, const T* sinks, T* y, const Attention& a,
                            wide_t<T>* strips, T* scores, int mode) {
  const int64_t rows = static_cast<int64_t>(a.batch) * a.q_heads * a.queries;
  wide_t<T>* strip = strips + static_cast<int64_t>(blockIdx.x) * a.keys;
  const Shown shown = scores == nullptr ? Shown::nothing : static_cast<Shown>(mode + 1);
  for (int64_t i = blockIdx.x; i < rows; i += gridDim.x) {
    const int query = static_cast<int>(i % a.queries);
    const int number = static_cast<int>(i / a.queries);
    const int item = number / a.q_heads, head = number % a.q_heads, kv_head = head / a.group();
    attend_row<T>(a, item, head, query, q + item * a.q_batch + head * a.q_head + query * a.q_row,
                  k + item * a.k_batch + kv_head * a.k_head,
                  v + item * a.v_batch + kv_head * a.v_head, mask, lengths, sinks,
                  y + item * a.y_batch + head * a.y_head + query * a.y_row, strip, shown,
                  scores == nullptr ? nullptr : scores + i * a.keys);
  }
}

#define ROWS(name, T)                                                                        \
  extern "C" __global__ void rows_##name(                                                    \
      const T* q, const T* k, const T* v, const void* mask, const int64_t* lengths,          \
      const T* sinks, T* y, const Attention a, wide_t<T>* strips, T* scores, int32_t mode) { \
    wait_for_previous_kernels();                                                             \
    attend_rows<T>(q, k, v, mask, lengths, sinks, y, a, strips, scores, mode);               \
  }
FOR_FLOATS(ROWS)

// --- a mask of another type, as float or double

template <typename T, typename W>
__device__ void widen_elements(const T* x, W* y, int64_t count) {
  for (int64_t i = thread_number(); i < count; i += thread_count()) {
    y[i] = static_cast<W>(widen(x[i]));
  }
}
#define WIDEN(name, T)                                                                     \
  extern "C" __global__ void mask_##name##_float32(const T* x, float* y, int64_t count) {  \
    wait_for_previous_kernels();                                                           \
    widen_elements(x, y, count);                                                           \
  }                                                                                        \
  extern "C" __global__ void mask_##name##_float64(const T* x, double* y, int64_t count) { \
    wait_for_previous_kernels();                                                           \
    widen_elements(x, y, count);                                                           \
  }
FOR_NUMBERS(WIDEN)

// --- keys or values: [batch, heads, past + rows, size] of a past and new rows

// Sizes and strides in units of the elements moved.
struct Join {
  int64_t batch_stride, head_stride, row_stride;  // of the new rows
  int64_t items;                                  // batch * heads
  int32_t heads, past, rows, size;
};

template <typename U>
__device__ void join(const U* past, const U* from, U* to, const Join& j) {
  const int64_t length = static_cast<int64_t>(j.past + j.rows) * j.size;
  const int64_t before = static_cast<int64_t>(j.past) * j.size, count = j.items * length;
  for (int64_t i = thread_number(); i < count; i += thread_count()) {
    const int64_t item = i / length, at = i % length;
    if (at < before) {
      to[i] = past[item * before + at];
    } else {
      const int64_t row = (at - before) / j.size, column = (at - before) % j.size;
      to[i] = from[item / j.heads * j.batch_stride + item % j.heads * j.head_stride +
                   row * j.row_stride + column];
    }
  }
}

// Keys by the blocks with y = 0, values by those with 1.
#define JOIN(bytes, U)                                                                           \
  extern "C" __global__ void join_##bytes(const U* past_key, const U* key, U* present_key,       \
                                          const U* past_value, const U* value, U* present_value, \
                                          const Join of_keys, const Join of_values) {            \
    wait_for_previous_kernels();                                                                 \
    if (blockIdx.y == 0) {                                                                       \
      join(past_key, key, present_key, of_keys);                                                 \
    } else {                                                                                     \
      join(past_value, value, present_value, of_values);                                         \
    }                                                                                            \
  }
FOR_WIDTHS(JOIN)
