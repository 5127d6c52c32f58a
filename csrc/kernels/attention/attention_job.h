// SPDX-License-Identifier: Apache-2.0
// The work of attention: softmax(scale * Q K' + mask) V for every head.
//
// Work is done per key/value head. Its keys and values are packed into panels once; then each tile
// of query rows passes over the keys in blocks: the scores of a block are turned into weights while
// they are in the first cache and multiplied with the values, and at the end the result is divided
// by the sums of the weights. A few queries (decoding) read keys and values where they are. 16-bit
// floats are widened a head or a tile at a time.
#pragma once

#include <algorithm>
#include <limits>

#include "kernels/attention/attention_rows.h"
#include "kernels/attention/presents.h"
#include "kernels/gemm/convert.h"
#include "kernels/gemm/gemm.h"
#include "kernels/move/transpose_tile.h"
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
  S* scores_shown;
  Presents presents;

  const GemmFunctions<T>& gemm = gemm_functions<T>();
  const AttentionFunctions<T>& loops = attention_functions<T>();

  // With one query each, the query heads that share a key head are rows of one tile.
  bool stacked() const { return sizes.queries == 1; }
  int64_t rows() const { return stacked() ? sizes.group() : sizes.queries; }
  int64_t heads_per_item() const { return stacked() ? 1 : sizes.group(); }
  // Up to this many rows packing costs more than it saves.
  static constexpr int64_t direct_rows = 8;
  bool direct() const { return rows() <= direct_rows && heads_per_item() == 1; }

  // A block of scores stays in the second cache, the rows of it that a product reads in the first.
  static constexpr int64_t most_block_keys = 256;
  // Tall tiles read the keys less often; short ones work on fewer pairs that a causal mask hides.
  int64_t tile_rows() const {
    return std::min({rows(), (visible.causal ? 2 : 8) * gemm.tile_rows, attention_tile_rows});
  }
  int64_t tiles() const { return (rows() + tile_rows() - 1) / tile_rows(); }
  int64_t items() const { return sizes.batch * sizes.kv_heads; }
  // All keys at once where each is read once only, or where all scores are shown.
  bool one_block() const { return direct() || shown != Shown::nothing; }
  // Blocks are even, and begin with a panel.
  int64_t block_keys() const {
    if (one_block()) return std::max<int64_t>(sizes.keys, 1);
    const int64_t blocks = (sizes.keys + most_block_keys - 1) / most_block_keys;
    return round_up((sizes.keys + blocks - 1) / std::max<int64_t>(blocks, 1), gemm.panel_width);
  }
  int64_t score_stride() const { return round_up(block_keys(), 16); }

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
  // Values that one tile reads are left where they are if they come in whole panels.
  bool values_in_place() const {
    return !narrow && tiles() * heads_per_item() == 1 && sizes.v_head % gemm.panel_width == 0;
  }
  int64_t packed_v_size() const {
    return direct() || values_in_place() ? 0
                                         : round_up(packed_size<T>(sizes.keys, sizes.v_head), 16);
  }
  int64_t head_size() const { return wide_size() + packed_k_size() + packed_v_size(); }
  int64_t q_tile_size() const { return round_up(tile_rows() * sizes.head, 16); }
  int64_t y_tile_size() const { return round_up(tile_rows() * sizes.v_head, 16); }
  int64_t tile_size() const { return q_tile_size() + y_tile_size() + tile_rows() * score_stride(); }

  // Rows of `size` elements as T, one after the other.
  static void widen(const S* from, int64_t stride, int64_t rows, int64_t size, T* to) {
    widen_rows(dtype_of<S>, reinterpret_cast<const std::byte*>(from), stride, to, size, rows, size);
  }

  // Whether keys and values are read where they were before they went to the presents.
  bool reads_past() const {
    return direct() && shown == Shown::nothing && presents.cover(visible.lengths);
  }

  // Keys or values of one head, one in a row, as the tiles read them: those from `fresh_from` on
  // may lie somewhere else.
  struct Rows {
    const T* data;
    int64_t stride;
    int64_t fresh_from = std::numeric_limits<int64_t>::max();
    const T* fresh = nullptr;
    int64_t fresh_stride = 0;
  };
  struct Head {
    Rows k;
    Rows v;
  };

  // Those of cache i where they were.
  Rows past_rows(int i, int64_t item, int64_t size, T* space) const {
    const auto* past = reinterpret_cast<const S*>(presents.past_of(i, item));
    const auto* fresh = reinterpret_cast<const S*>(presents.rows_of(i, item));
    const int64_t stride = presents.row_stride(i) / static_cast<int64_t>(sizeof(S));
    const int64_t start = presents.start_of(item);
    if constexpr (narrow) {
      widen(past, size, start, size, space);
      widen(fresh, stride, presents.row_count(), size, space + start * size);
      return {space, size};
    } else {
      return {past, size, start, fresh, stride};
    }
  }

  Head prepare(int64_t item, bool from_past, T* space) const {
    T* wide_v = space + sizes.keys * sizes.head;
    if (from_past) {
      return {past_rows(0, item, sizes.head, space), past_rows(1, item, sizes.v_head, wide_v)};
    }
    const int64_t b = item / sizes.kv_heads;
    const int64_t h = item % sizes.kv_heads;
    const S* from_k = k + b * k_strides.batch + h * k_strides.head;
    const S* from_v = v + b * v_strides.batch + h * v_strides.head;
    T* packed_k = space + wide_size();
    T* packed_v = packed_k + packed_k_size();
    Head head;
    if constexpr (narrow) {
      widen(from_k, k_strides.row, sizes.keys, sizes.head, space);
      head = {{space, sizes.head}, {wide_v, sizes.v_head}};
      if (direct()) {
        widen(from_v, v_strides.row, sizes.keys, sizes.v_head, wide_v);
        return head;
      }
    } else {
      head = {{from_k, k_strides.row}, {from_v, v_strides.row}};
      if (direct()) return head;
    }
    pack_keys(head.k, packed_k);
    if constexpr (narrow) {
      widen(from_v, v_strides.row, sizes.keys, sizes.v_head, space);
      head.v.data = space;
    }
    head.k.data = packed_k;
    if (values_in_place()) return head;
    pack_panels<T>(head.v.data, head.v.stride, 1, sizes.keys, sizes.v_head, packed_v);
    head.v.data = packed_v;
    return head;
  }
  // The keys as columns of panels.
  void pack_keys(const Rows& k, T* to) const {
    constexpr auto item = static_cast<int64_t>(sizeof(T));
    const int64_t width = gemm.panel_width;
    for (int64_t j = 0; j < sizes.keys; j += width, to += width * sizes.head) {
      const int64_t columns = std::min(width, sizes.keys - j);
      transpose_tile<T>(reinterpret_cast<const std::byte*>(k.data + j * k.stride), k.stride * item,
                        reinterpret_cast<std::byte*>(to), width * item, columns, sizes.head);
      if (columns == width) continue;
      for (int64_t i = 0; i < sizes.head; ++i) {
        std::fill(to + i * width + columns, to + (i + 1) * width, T(0));
      }
    }
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

    Visibility::Range ranges[attention_tile_rows];
    Visibility::Range all{sizes.keys, 0};
    for (int64_t r = 0; r < count; ++r) {
      ranges[r] = visible.range(sizes, b, query_of(r));
      if (ranges[r].end == 0) continue;
      all.begin = std::min(all.begin, ranges[r].begin);
      all.end = std::max(all.end, ranges[r].end);
    }
    if (shown != Shown::nothing) all = {0, sizes.keys};
    all.begin = std::min(all.begin, all.end) / gemm.panel_width * gemm.panel_width;

    T* q_tile = space;
    T* y_tile = q_tile + q_tile_size();
    T* scores = y_tile + y_tile_size();
    const S* q_from = q + b * q_strides.batch + h * q_strides.head + first * q_row;
    scale_queries(q_from, q_row, count, q_tile);

    T tops[attention_tile_rows];
    alignas(64) T sums[attention_tile_rows * attention_sum_lanes] = {};
    for (int64_t r = 0; r < count; ++r) {
      constexpr T nothing = -std::numeric_limits<T>::infinity();
      tops[r] = sinks == nullptr ? nothing : sinks[head_of(r)];
      if (tops[r] != nothing) sums[r * attention_sum_lanes] = 1;
    }

    WeightBlock<T> weights{scores, score_stride(), count,        0,           nullptr, 0, tops,
                           sums,   nullptr,        sizes.v_head, sizes.v_head};
    const T* mask_tile = nullptr;
    if (mask != nullptr) {
      mask_tile = mask + b * mask_strides.batch + head_of(0) * mask_strides.head +
                  query_of(0) * mask_strides.row;
      weights.mask_stride = stacked() ? mask_strides.head : mask_strides.row;
    }
    S* shown_rows =
        scores_shown == nullptr
            ? nullptr
            : scores_shown +
                  ((b * sizes.q_heads + head_of(0)) * sizes.queries + query_of(0)) * sizes.keys;
    const int64_t block_length = block_keys();
    for (int64_t begin = all.begin; begin < all.end;) {
      const int64_t end = std::min(all.end, (begin / block_length + 1) * block_length);
      const Visibility::Range block{begin, end};
      weights.keys = end - begin;
      weights.mask = mask_tile == nullptr ? nullptr : mask_tile + begin;
      const bool whole = sees_all(ranges, block, count);
      if (whole && in_one_step()) {
        loops.score(q_tile, head.k.data + begin * sizes.head, sizes.head, weights);
      } else {
        multiply_keys(head, q_tile, count, block, scores);
        show(Shown::raw, weights, shown_rows);
        for (int64_t r = 0; r < count && cap != 0; ++r) {
          loops.cap_row(scores + r * weights.stride, weights.keys, cap);
        }
        show(Shown::capped, weights, shown_rows);
        if (!whole || shown != Shown::nothing) hide(ranges, block, weights);
        show(Shown::masked, weights, shown_rows);
        loops.weigh(weights);
        show(Shown::weights, weights, shown_rows);
      }
      multiply_values(head, scores, count, block, y_tile, weights.y != nullptr);
      weights.y = y_tile;
      begin = end;
    }
    finish(weights, y + b * y_strides.batch + h * y_strides.head + first * y_row, y_row, y_tile);
  }

  void scale_queries(const S* from, int64_t stride, int64_t count, T* to) const {
    if constexpr (narrow) {
      widen(from, stride, count, sizes.head, to);
      loops.scale_rows(to, count, sizes.head, sizes.head, scale, to);
    } else {
      loops.scale_rows(from, count, sizes.head, stride, scale, to);
    }
  }

  // body(rows, stride, first, number) for the rows of a block, from its `first` on, that lie
  // together.
  template <class Body>
  static void by_place(const Rows& rows, Visibility::Range block, const Body& body) {
    const int64_t border = std::clamp(rows.fresh_from, block.begin, block.end);
    if (border > block.begin) {
      body(rows.data + block.begin * rows.stride, rows.stride, int64_t{0}, border - block.begin);
    }
    if (border < block.end) {
      body(rows.fresh + (border - rows.fresh_from) * rows.fresh_stride, rows.fresh_stride,
           border - block.begin, block.end - border);
    }
  }

  void multiply_keys(const Head& head, const T* const q_tile, int64_t count,
                     Visibility::Range block, T* scores) const {
    const int64_t columns = block.end - block.begin;
    if (direct()) {
      by_place(head.k, block, [&](const T* rows, int64_t stride, int64_t first, int64_t number) {
        loops.dot_rows(q_tile, sizes.head, count, rows, stride, number, sizes.head, scores + first,
                       score_stride());
      });
      return;
    }
    GemmBlock<T> g = matrix_block<T>(&q_tile, count, sizes.head, sizes.head,
                                     head.k.data + block.begin * sizes.head, scores, columns);
    g.c_stride = score_stride();
    multiply(g);
  }

  void multiply_values(const Head& head, const T* weights, int64_t count, Visibility::Range block,
                       T* out, bool accumulate) const {
    const int64_t keys = block.end - block.begin;
    if (direct()) {
      by_place(head.v, block, [&](const T* rows, int64_t stride, int64_t first, int64_t number) {
        loops.weighted_rows(weights + first, score_stride(), count, rows, stride, number,
                            sizes.v_head, out, sizes.v_head, first > 0);
      });
      return;
    }
    GemmBlock<T> g =
        matrix_block<T>(&weights, count, keys, score_stride(), head.v.data, out, sizes.v_head);
    g.b_stride = values_in_place() ? head.v.stride : gemm.panel_width;
    g.b_panel_stride = values_in_place() ? gemm.panel_width : gemm.panel_width * sizes.keys;
    g.b += block.begin * g.b_stride;
    g.accumulate = accumulate;
    multiply(g);
  }

  // The scores of a stage, all keys of them in the block.
  void show(Shown stage, const WeightBlock<T>& block, S* to) const {
    if (stage != shown) return;
    for (int64_t r = 0; r < block.rows; ++r) {
      const T sum = sum_of(block, r);
      const T factor = stage != Shown::weights ? T(1) : sum == 0 ? T(0) : 1 / sum;
      for (int64_t j = 0; j < block.keys; ++j) {
        to[r * sizes.keys + j] = static_cast<S>(block.x[r * block.stride + j] * factor);
      }
    }
  }

  // Whether scores become weights in the step that makes them, where all rows see all keys.
  bool in_one_step() const {
    return loops.score != nullptr && loops.key_panel == gemm.panel_width && !direct() && cap == 0 &&
           shown == Shown::nothing;
  }

  static bool sees_all(const Visibility::Range* ranges, Visibility::Range keys, int64_t rows) {
    bool whole = true;
    for (int64_t r = 0; r < rows; ++r) {
      whole &= ranges[r].begin <= keys.begin && ranges[r].end >= keys.end;
    }
    return whole;
  }

  // Adds the mask to what each row sees of the block, and hides the rest.
  void hide(const Visibility::Range* ranges, Visibility::Range keys, WeightBlock<T>& block) const {
    for (int64_t r = 0; r < block.rows; ++r) {
      T* row = block.x + r * block.stride;
      const int64_t begin = std::clamp<int64_t>(ranges[r].begin - keys.begin, 0, block.keys);
      const int64_t end = std::clamp(ranges[r].end - keys.begin, begin, block.keys);
      constexpr T nothing = -std::numeric_limits<T>::infinity();
      std::fill(row, row + begin, nothing);
      if (block.mask != nullptr) {
        const T* addend = block.mask + r * block.mask_stride;
        for (int64_t j = begin; j < end; ++j) row[j] += addend[j];
      }
      std::fill(row + end, row + block.keys, nothing);
    }
    block.mask = nullptr;
  }

  static T sum_of(const WeightBlock<T>& block, int64_t r) {
    const T* parts = block.sums + r * attention_sum_lanes;
    T sum = 0;
    for (int64_t i = 0; i < attention_sum_lanes; ++i) sum += parts[i];
    return sum;
  }

  // The weighted sums divided by the sums of the weights; zero where a row saw nothing.
  void finish(const WeightBlock<T>& block, S* to, int64_t stride, T* y_tile) const {
    if (block.y == nullptr) {
      for (int64_t r = 0; r < block.rows; ++r) std::fill_n(to + r * stride, sizes.v_head, S(0));
    } else if constexpr (narrow) {
      loops.divide(block, y_tile, sizes.v_head);
      narrow_rows(dtype_of<S>, y_tile, sizes.v_head, reinterpret_cast<std::byte*>(to), stride,
                  block.rows, sizes.v_head);
    } else {
      loops.divide(block, to, stride);
    }
  }

  void run(RunContext& c) const {
    const int64_t threads = c.threads();
    const int64_t per_item = heads_per_item() * tiles();
    const double cost =
        presents.bytes_per_head() / 16 + static_cast<double>(sizes.group() * sizes.queries) / 8 *
                                             static_cast<double>(sizes.keys) *
                                             static_cast<double>(sizes.head + sizes.v_head + 16);
    // Parts may begin and end inside a head, which then is prepared by both sides. What is read
    // once is made where it is read.
    const bool make_here = direct(), from_past = reads_past();
    if (!make_here) presents.make(c);
    const int64_t total = items() * per_item;
    const int64_t parts = std::min(threads, total);
    const int64_t space_size = head_size() + tile_size();
    T* space = c.workspace<T>(parts * space_size);
    c.parallel_for(parts, cost * static_cast<double>(items()) / static_cast<double>(parts),
                   [&](int64_t begin, int64_t end) {
                     for (int64_t part = begin; part < end; ++part) {
                       T* own = space + part * space_size;
                       Head head{};
                       int64_t prepared = -1;
                       for (int64_t i = total * part / parts; i < total * (part + 1) / parts; ++i) {
                         const int64_t item = i / per_item;
                         if (make_here) presents.make(item);
                         if (item != prepared) head = prepare(item, from_past, own);
                         prepared = item;
                         const int64_t index = i % per_item;
                         const int64_t first = index % tiles() * tile_rows();
                         tile(item, index / tiles(), first, std::min(tile_rows(), rows() - first),
                              head, own + head_size());
                       }
                     }
                   });
  }
};

}  // namespace bascule::attention
