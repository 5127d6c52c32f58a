// SPDX-License-Identifier: Apache-2.0
// What the kernels of attention share: a case, which keys a query sees, scores, a softmax that
// takes its scores in a part at a time.
#pragma once

#include "asynchronous_copy.cuh"
#include "common.cuh"

// A case, in elements: tensors [batch, head, row, size], whose last axis is dense.
struct Attention {
  int64_t q_batch, q_head, q_row;
  int64_t k_batch, k_head, k_row;
  int64_t v_batch, v_head, v_row;
  int64_t y_batch, y_head, y_row;
  int64_t mask_batch, mask_head, mask_row;  // 0 along axes that it broadcasts
  double scale;
  double cap;  // 0: none
  int32_t batch, q_heads, kv_heads, queries;
  int32_t keys;  // past ones included
  int32_t past;
  int32_t mask_keys;  // how many keys the mask covers; the others are hidden
  int32_t size, v_size;
  int32_t left, right;  // how far a query sees; -1: as far as it goes
  int32_t causal;
  int32_t has_past;
  int32_t mask_kind;

  __device__ int group() const { return q_heads / kv_heads; }
};

constexpr int mask_none = 0, mask_boolean = 1, mask_narrow = 2, mask_wide = 3;

constexpr float log2_of_e = 1.4426950408889634f;

__device__ inline float negative_infinity() { return __int_as_float(0xff800000); }

struct Range {
  int begin, end;
};

// How many keys of a batch item are valid; -1 when nobody says. `lengths` lie on the device, so
// that a captured graph goes on to serve a cache that fills.
__device__ inline int valid_keys(const Attention& a, const int64_t* lengths, int item) {
  if (lengths == nullptr) return -1;
  const int64_t length = lengths[item];
  return static_cast<int>(length < 0 ? 0 : length > a.keys ? a.keys : length);
}

// The keys that a query sees; begin and end never fall from one query to the next.
__device__ inline Range visible_keys(const Attention& a, int length, int query) {
  constexpr int everything = 1 << 29;  // as many keys as there can be
  const int ahead = a.causal ? 0 : a.right >= 0 ? a.right : everything;
  const int behind = a.left >= 0 ? a.left : everything;
  const int covered = min(a.keys, a.mask_keys);
  const int limit = length >= 0 ? min(length, covered) : covered;
  const int position = query + (length >= 0 && !a.has_past ? length - a.queries : a.past);
  const int end = max(min(limit, position + 1 + ahead), 0);
  return {min(max(position - behind, 0), end), end};
}

// What the mask adds to a score.
template <typename T>
__device__ inline wide_t<T> mask_value(const Attention& a, const void* mask, int64_t at) {
  if (a.mask_kind == mask_boolean) {
    return static_cast<const uint8_t*>(mask)[at] != 0 ? 0.0f : negative_infinity();
  }
  if (a.mask_kind == mask_narrow) return widen(static_cast<const T*>(mask)[at]);
  return static_cast<const wide_t<T>*>(mask)[at];
}

__device__ inline int64_t mask_start(const Attention& a, int item, int head, int query) {
  return item * a.mask_batch + head * a.mask_head + query * a.mask_row;
}

__device__ inline float fast_exp2(float x) {
#ifdef BASCULE_EMULATED
  return exp2f(x);
#else
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#endif
}

__device__ inline float fast_divide(float a, float b) {
#ifdef BASCULE_EMULATED
  return a / b;
#else
  return __fdividef(a, b);
#endif
}

// The largest score of a row so far, and the sum of the weights as they are beside that one.
// `fast` takes 2^(score * unit), else e^score.
template <bool fast>
struct RunningSoftmax {
  float top;
  float sum;

  // A score too large for the others leaves NaN, one of -infinity a weight of 0.
  __device__ float reference() const { return top == negative_infinity() ? 0.0f : top; }
  __device__ float weight(float score, float unit) const {
    // The difference first: the lowest finite score, which hides keys too, has no product.
    return fast ? fast_exp2((score - reference()) * unit) : expf(score - reference());
  }
  // Takes in the largest of new scores. What was summed before is to be multiplied by the result.
  __device__ float raise(float largest, float unit) {
    const float before = top;
    top = fmaxf(top, largest);
    const float factor = weight(before, unit);
    sum *= factor;
    return factor;
  }
  // The same, but 1 where none of the new weights is over 2^8 beside the score that is there.
  __device__ float raise_far(float largest, float unit) {
    return (largest - top) * unit <= 8 ? 1.0f : raise(largest, unit);
  }
};

// A block's tile of query rows of one head, and what it reads. The grid has tiles along x, heads
// along y and batch items along z.
template <typename T>
struct QueryTile {
  int item, head;
  int first, count;  // of the rows
  int length;        // how many keys are valid, or -1
  Range seen;        // the keys that any of the rows sees
  Rows<T> q, k, v;   // the tile's queries, the head's keys and values
  T* y;
  int64_t mask;  // where the head's mask begins

  // A tile of `rows` rows.
  __device__ QueryTile(const Attention& a, int rows, const T* queries, const T* keys,
                       const T* values, T* results) {
    item = blockIdx.z;
    head = blockIdx.y;
    // The last rows see the most keys when they are causal: they start first.
    first = (gridDim.x - 1 - blockIdx.x) * rows;
    count = min(a.queries - first, rows);
    const int kv_head = a.q_heads == a.kv_heads ? head : head / a.group();
    q = {queries + item * a.q_batch + head * a.q_head + first * a.q_row, a.q_row, a.size};
    k = {keys + item * a.k_batch + kv_head * a.k_head, a.k_row, a.size};
    v = {values + item * a.v_batch + kv_head * a.v_head, a.v_row, a.v_size};
    y = results + item * a.y_batch + head * a.y_head + first * a.y_row;
    mask = item * a.mask_batch + head * a.mask_head;
  }

  __device__ void look(const Attention& a, const int64_t* lengths) {
    length = valid_keys(a, lengths, item);
    seen = {visible_keys(a, length, first).begin, visible_keys(a, length, first + count - 1).end};
  }
};
