// SPDX-License-Identifier: Apache-2.0
// The work of attention: softmax(scale * Q K' + mask) V for every head.
//
// Work is done per key/value head. Its keys and values are packed into panels once; then tiles of
// query rows are multiplied with the keys into a strip of scores, turned into weights in one pass,
// multiplied with the values, and divided by the sums of the weights. A few queries (decoding) read
// keys and values where they are. 16-bit floats are widened a head or a tile at a time.
#pragma once

#include <algorithm>
#include <limits>

#include "kernels/attention/attention_rows.h"
#include "kernels/gemm/convert.h"
#include "kernels/gemm/gemm.h"
#include "runtime/run_context.h"

namespace bascule::attention {

struct Sizes {
  int64_t batch;
  int64_t q_heads;
  int64_t kv_heads;
  int64_t queries;
  int64_t past;
  int64_t keys;  // past ones included
  int64_t head;
  int64_t v_head;

  int64_t group() const { return q_heads / kv_heads; }
};

// A tensor [batch, head, row, size], in elements; the last axis is contiguous.
struct Strides {
  int64_t batch;
  int64_t head;
  int64_t row;
};

inline Strides strides_4d(int64_t heads, int64_t rows, int64_t size) {
  return {heads * rows * size, rows * size, size};
}
inline Strides strides_3d(int64_t heads, int64_t rows, int64_t size) {
  return {heads * rows * size, size, heads * size};
}

// Which keys a query may see.
struct Visibility {
  bool causal;
  int64_t left;   // -1: any
  int64_t right;  // -1: any
  bool has_past;
  const int64_t* lengths;  // valid keys of each batch item, or null
  int64_t mask_keys;       // keys that the mask covers

  struct Range {
    int64_t begin;
    int64_t end;
  };
  Range range(const Sizes& sizes, int64_t item, int64_t query) const {
    int64_t offset = sizes.past;
    int64_t end = std::min(sizes.keys, mask_keys);
    if (lengths != nullptr) {
      end = std::min(end, lengths[item]);
      if (!has_past) offset = lengths[item] - sizes.queries;
    }
    const int64_t position = query + offset;
    if (causal) end = std::min(end, position + 1);
    if (right >= 0) end = std::min(end, position + right + 1);
    const int64_t begin = left >= 0 ? std::max<int64_t>(0, position - left) : 0;
    return end <= begin ? Range{0, 0} : Range{begin, end};
  }
};

// Which of the scores the fourth output shows.
enum class Shown { nothing, raw, capped, masked, weights };

template <class S>
struct Job {
  using T = Compute<S>;
  static constexpr bool narrow = sizeof(S) < sizeof(T);

  Sizes sizes;
  Visibility visible;
  Shown shown;
  T scale;
  T cap;
  const S* q;
  const S* k;
  const S* v;
  S* y;
  Strides q_strides;
  Strides k_strides;
  Strides v_strides;
  Strides y_strides;
  const T* mask;
  Strides mask_strides;
  const T* sinks;  // of each query head, or null
  S* scores;

  const GemmFunctions<T>& gemm = gemm_functions<T>();
  const AttentionFunctions<T>& loops = attention_functions<T>();

  // With one query each, the query heads that share a key head are rows of one tile.
  bool stacked() const { return sizes.queries == 1; }
  int64_t rows() const { return stacked() ? sizes.group() : sizes.queries; }
  int64_t heads_per_item() const { return stacked() ? 1 : sizes.group(); }
  // Up to this many rows packing costs more than it saves.
  static constexpr int64_t direct_rows = 8;
  bool direct() const { return rows() <= direct_rows && heads_per_item() == 1; }

  static constexpr int64_t most_tile_rows = 64;
  int64_t tile_rows() const { return std::min({rows(), 4 * gemm.tile_rows, most_tile_rows}); }
  int64_t tiles() const { return (rows() + tile_rows() - 1) / tile_rows(); }
  int64_t items() const { return sizes.batch * sizes.kv_heads; }
  // Not a multiple of the page size, where all rows would share a cache set.
  int64_t score_stride() const { return round_up(sizes.keys, 16) + 16; }

  // What a head's keys and values take: widened, then packed.
  int64_t wide_size() const {
    return narrow ? round_up(sizes.keys * (direct() ? sizes.head + sizes.v_head
                                                    : std::max(sizes.head, sizes.v_head)),
                             16)
                  : 0;
  }
  int64_t packed_k_size() const {
    return direct() ? 0 : packed_size<T>(sizes.head, round_up(sizes.keys, 16));
  }
  int64_t packed_v_size() const {
    return direct() ? 0 : round_up(packed_size<T>(sizes.keys, sizes.v_head), 16);
  }
  int64_t head_size() const { return wide_size() + packed_k_size() + packed_v_size(); }
  int64_t q_tile_size() const { return round_up(tile_rows() * sizes.head, 16); }
  int64_t y_tile_size() const { return narrow ? round_up(tile_rows() * sizes.v_head, 16) : 0; }
  int64_t tile_size() const { return q_tile_size() + y_tile_size() + tile_rows() * score_stride(); }

  // Rows of `size` elements as T, one after the other.
  static void widen_rows(const S* from, int64_t stride, int64_t rows, int64_t size, T* to) {
    for (int64_t r = 0; r < rows; ++r) {
      if constexpr (narrow) {
        widen_row(dtype_of<S>, reinterpret_cast<const std::byte*>(from + r * stride), to + r * size,
                  size);
      } else {
        std::copy_n(from + r * stride, size, to + r * size);
      }
    }
  }

  // The keys and values of one head, as the tiles read them.
  struct Head {
    const T* k;
    int64_t k_stride;
    const T* v;
    int64_t v_stride;
  };

  Head prepare(int64_t item, T* space) const {
    const int64_t b = item / sizes.kv_heads;
    const int64_t h = item % sizes.kv_heads;
    const S* from_k = k + b * k_strides.batch + h * k_strides.head;
    const S* from_v = v + b * v_strides.batch + h * v_strides.head;
    T* packed_k = space + wide_size();
    T* packed_v = packed_k + packed_k_size();
    Head head;
    if constexpr (narrow) {
      widen_rows(from_k, k_strides.row, sizes.keys, sizes.head, space);
      head = {space, sizes.head, space + sizes.keys * sizes.head, sizes.v_head};
      if (direct()) {
        widen_rows(from_v, v_strides.row, sizes.keys, sizes.v_head,
                   space + sizes.keys * sizes.head);
        return head;
      }
    } else {
      head = {from_k, k_strides.row, from_v, v_strides.row};
      if (direct()) return head;
    }
    pack_panels<T>(head.k, 1, head.k_stride, sizes.head, sizes.keys, packed_k);
    if constexpr (narrow) {
      widen_rows(from_v, v_strides.row, sizes.keys, sizes.v_head, space);
      head.v = space;
    }
    pack_panels<T>(head.v, head.v_stride, 1, sizes.keys, sizes.v_head, packed_v);
    return {packed_k, 0, packed_v, 0};
  }
  // The same for a head that was prepared before.
  Head prepared(T* space) const {
    T* packed_k = space + wide_size();
    return {packed_k, 0, packed_k + packed_k_size(), 0};
  }

  // Rows [first, first + count) of query head `member` of the item's group.
  void tile(int64_t item, int64_t member, int64_t first, int64_t count, const Head& head,
            T* space) const {
    const int64_t b = item / sizes.kv_heads;
    const int64_t h = item % sizes.kv_heads * sizes.group() + member;
    const auto query_of = [&](int64_t r) { return stacked() ? 0 : first + r; };
    const auto head_of = [&](int64_t r) { return stacked() ? h + first + r : h; };
    const int64_t q_row = stacked() ? q_strides.head : q_strides.row;
    const int64_t y_row = stacked() ? y_strides.head : y_strides.row;

    Visibility::Range all{sizes.keys, 0};
    for (int64_t r = 0; r < count; ++r) {
      const Visibility::Range range = visible.range(sizes, b, query_of(r));
      if (range.end == 0) continue;
      all.begin = std::min(all.begin, range.begin);
      all.end = std::max(all.end, range.end);
    }
    if (shown != Shown::nothing) all = {0, sizes.keys};
    all.begin = std::min(all.begin, all.end) / gemm.panel_width * gemm.panel_width;

    T* q_tile = space;
    T* y_tile = q_tile + q_tile_size();
    T* strip = y_tile + y_tile_size();
    const int64_t stride = score_stride();
    const S* q_from = q + b * q_strides.batch + h * q_strides.head + first * q_row;
    widen_rows(q_from, q_row, count, sizes.head, q_tile);
    multiply_keys(head, q_tile, count, all, strip);

    T sums[most_tile_rows];
    for (int64_t r = 0; r < count; ++r) {
      const Visibility::Range range = visible.range(sizes, b, query_of(r));
      T* row = strip + r * stride;
      const T* bias = mask == nullptr
                          ? nullptr
                          : mask + b * mask_strides.batch + head_of(r) * mask_strides.head +
                                query_of(r) * mask_strides.row;
      const T sink = sinks == nullptr ? -std::numeric_limits<T>::infinity() : sinks[head_of(r)];
      if (shown == Shown::nothing) {
        sums[r] = weigh(row, bias, range, all, sink);
      } else {
        S* to =
            scores + ((b * sizes.q_heads + head_of(r)) * sizes.queries + query_of(r)) * sizes.keys;
        sums[r] = weigh_and_show(row, bias, range, sink, to);
      }
    }

    S* y_to = y + b * y_strides.batch + h * y_strides.head + first * y_row;
    T* out;
    int64_t out_stride;
    if constexpr (narrow) {
      out = y_tile;
      out_stride = sizes.v_head;
    } else {
      out = y_to;
      out_stride = y_row;
    }
    multiply_values(head, strip, count, all, out, out_stride);
    for (int64_t r = 0; r < count; ++r) {
      T* row = out + r * out_stride;
      if (sums[r] == 0) {
        std::fill_n(row, sizes.v_head, T(0));
      } else {
        loops.scale_row(row, sizes.v_head, 1 / sums[r]);
      }
      if constexpr (narrow) {
        narrow_row(dtype_of<S>, row, reinterpret_cast<std::byte*>(y_to + r * y_row), sizes.v_head);
      }
    }
  }

  void multiply_keys(const Head& head, const T* const q_tile, int64_t count, Visibility::Range all,
                     T* strip) const {
    const int64_t columns = all.end - all.begin;
    if (columns == 0) return;
    if (direct()) {
      loops.dot_rows(q_tile, sizes.head, count, head.k + all.begin * head.k_stride, head.k_stride,
                     columns, sizes.head, scale, strip + all.begin, score_stride());
      return;
    }
    GemmBlock<T> g = matrix_block<T>(&q_tile, count, sizes.head, sizes.head,
                                     head.k + all.begin * sizes.head, strip + all.begin, columns);
    g.c_stride = score_stride();
    g.epilogue.alpha = scale;
    multiply(g);
  }

  void multiply_values(const Head& head, const T* strip, int64_t count, Visibility::Range all,
                       T* out, int64_t out_stride) const {
    const int64_t keys = all.end - all.begin;
    const T* weights = strip + all.begin;
    if (keys == 0) return;
    if (direct()) {
      loops.weighted_rows(weights, score_stride(), count, head.v + all.begin * head.v_stride,
                          head.v_stride, keys, sizes.v_head, out, out_stride);
      return;
    }
    GemmBlock<T> g = matrix_block<T>(&weights, count, keys, score_stride(),
                                     head.v + all.begin * gemm.panel_width, out, sizes.v_head);
    g.b_panel_stride = gemm.panel_width * sizes.keys;
    g.c_stride = out_stride;
    multiply(g);
  }

  // Turns scores into weights that are not divided yet, zero where the query sees nothing.
  T weigh(T* row, const T* bias, Visibility::Range range, Visibility::Range all, T sink) const {
    const int64_t n = range.end - range.begin;
    if (cap != 0) loops.cap_row(row + range.begin, n, cap);
    const T* addend = bias != nullptr ? bias + range.begin : nullptr;
    const T sum = n == 0 ? T(0) : loops.exp_row(row + range.begin, addend, n, sink);
    if (range.begin > all.begin) std::fill(row + all.begin, row + range.begin, T(0));
    std::fill(row + std::max(range.end, all.begin), row + all.end, T(0));
    return sum;
  }

  // The same over all keys, writing the scores of the stage that is asked for.
  T weigh_and_show(T* row, const T* bias, Visibility::Range range, T sink, S* to) const {
    const int64_t n = sizes.keys;
    const auto show = [&](Shown stage, T factor) {
      if (stage != shown) return;
      for (int64_t j = 0; j < n; ++j) to[j] = static_cast<S>(row[j] * factor);
    };
    show(Shown::raw, 1);
    if (cap != 0) loops.cap_row(row, n, cap);
    show(Shown::capped, 1);
    for (int64_t j = 0; j < n; ++j) {
      if (j < range.begin || j >= range.end) {
        row[j] = -std::numeric_limits<T>::infinity();
      } else if (bias != nullptr) {
        row[j] += bias[j];
      }
    }
    show(Shown::masked, 1);
    const T all_weights = loops.exp_row(row, nullptr, n, sink);
    const T sum = range.end == range.begin ? T(0) : all_weights;
    show(Shown::weights, sum == 0 ? T(0) : 1 / sum);
    return sum;
  }

  void run(RunContext& c) const {
    const int64_t threads = c.threads();
    const int64_t per_item = heads_per_item() * tiles();
    const auto work = [&](int64_t item, int64_t index, const Head& head, T* space) {
      const int64_t first = index % tiles() * tile_rows();
      tile(item, index / tiles(), first, std::min(tile_rows(), rows() - first), head, space);
    };
    const double cost = static_cast<double>(sizes.group() * sizes.queries) / 8 *
                        static_cast<double>(sizes.keys) *
                        static_cast<double>(sizes.head + sizes.v_head + 16);
    if (items() >= threads || direct()) {
      const int64_t parts = std::min(threads, items());
      T* space = c.workspace<T>(parts * (head_size() + tile_size()));
      c.parallel_for(parts, cost * static_cast<double>(items()) / static_cast<double>(parts),
                     [&](int64_t begin, int64_t end) {
                       for (int64_t part = begin; part < end; ++part) {
                         T* own = space + part * (head_size() + tile_size());
                         for (int64_t i = items() * part / parts; i < items() * (part + 1) / parts;
                              ++i) {
                           const Head head = prepare(i, own);
                           for (int64_t t = 0; t < per_item; ++t)
                             work(i, t, head, own + head_size());
                         }
                       }
                     });
      return;
    }
    T* heads = c.workspace<T>(items() * head_size());
    c.parallel_for(items(),
                   static_cast<double>(sizes.keys) * static_cast<double>(sizes.head + sizes.v_head),
                   [&](int64_t begin, int64_t end) {
                     for (int64_t i = begin; i < end; ++i) prepare(i, heads + i * head_size());
                   });
    const int64_t total = items() * per_item;
    const int64_t parts = std::min(threads, total);
    T* space = c.workspace<T>(parts * tile_size());
    c.parallel_for(parts, cost * static_cast<double>(items()) / static_cast<double>(parts),
                   [&](int64_t begin, int64_t end) {
                     for (int64_t part = begin; part < end; ++part) {
                       for (int64_t i = total * part / parts; i < total * (part + 1) / parts; ++i) {
                         const int64_t item = i / per_item;
                         work(item, i % per_item, prepared(heads + item * head_size()),
                              space + part * tile_size());
                       }
                     }
                   });
  }
};

}  // namespace bascule::attention
