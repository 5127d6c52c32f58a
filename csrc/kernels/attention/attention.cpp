// SPDX-License-Identifier: Apache-2.0
// Attention: softmax(scale * Q K' + mask) V for every head, with grouped heads, a cache, causal and
// window masks.
//
// Work is done per key/value head. Its keys and values are packed into panels once; then tiles of
// query rows are multiplied with the keys into a strip of scores, turned into weights in one pass,
// multiplied with the values, and divided by the sums of the weights. A few queries (decoding) read
// keys and values where they are. 16-bit floats are widened a head or a tile at a time.
#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "kernels/attention/attention_rows.h"
#include "kernels/gemm/convert.h"
#include "kernels/gemm/gemm.h"
#include "runtime/kernel.h"

namespace bascule {
namespace {

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

Strides strides_4d(int64_t heads, int64_t rows, int64_t size) {
  return {heads * rows * size, rows * size, size};
}
Strides strides_3d(int64_t heads, int64_t rows, int64_t size) {
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
      if (shown == Shown::nothing) {
        sums[r] = weigh(row, bias, range, all);
      } else {
        S* to =
            scores + ((b * sizes.q_heads + head_of(r)) * sizes.queries + query_of(r)) * sizes.keys;
        sums[r] = weigh_and_show(row, bias, range, to);
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
  T weigh(T* row, const T* bias, Visibility::Range range, Visibility::Range all) const {
    const int64_t n = range.end - range.begin;
    if (cap != 0) loops.cap_row(row + range.begin, n, cap);
    const T sum =
        loops.exp_row(row + range.begin, bias != nullptr ? bias + range.begin : nullptr, n);
    if (range.begin > all.begin) std::fill(row + all.begin, row + range.begin, T(0));
    std::fill(row + std::max(range.end, all.begin), row + all.end, T(0));
    return sum;
  }

  // The same over all keys, writing the scores of the stage that is asked for.
  T weigh_and_show(T* row, const T* bias, Visibility::Range range, S* to) const {
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
    const T sum = loops.exp_row(row, nullptr, n);
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

// [batch, heads, past + rows, size] from a past of [batch, heads, past, size] and new rows.
void join_past(RunContext& c, const Tensor* past, const Tensor& rows, const Strides& strides,
               Tensor& present) {
  const int64_t item = item_size(present.dtype());
  const int64_t heads = present.dim(1);
  const int64_t length = present.dim(2);
  const int64_t size = present.dim(3) * item;
  const int64_t before = past != nullptr ? past->dim(2) : 0;
  c.parallel_for(present.dim(0) * heads, static_cast<double>(length * size) / 16,
                 [&](int64_t begin, int64_t end) {
                   for (int64_t i = begin; i < end; ++i) {
                     std::byte* to = present.raw() + i * length * size;
                     if (past != nullptr) {
                       std::copy_n(past->raw() + i * before * size, before * size, to);
                     }
                     const std::byte* from =
                         rows.raw() + (i / heads * strides.batch + i % heads * strides.head) * item;
                     for (int64_t r = before; r < length; ++r) {
                       std::copy_n(from + (r - before) * strides.row * item, size, to + r * size);
                     }
                   }
                 });
}

class Attention final : public Kernel {
 public:
  static Capability capability(const NodeSpec& node) {
    for (size_t i : {1u, 2u, 4u, 5u}) {
      if (node.has_input(i) && node.dtype(i) != node.dtype(0)) {
        return reject("input " + std::to_string(i) + " is of another type than Q");
      }
    }
    return require_dtype(node, 0, FloatTypes{});
  }

  explicit Attention(const NodeSpec& node)
      : q_heads_(node.get_int("q_num_heads", 0)),
        kv_heads_(node.get_int("kv_num_heads", 0)),
        causal_(node.get_int("is_causal", 0) != 0),
        left_(node.get_int("left_window_size", -1)),
        right_(node.get_int("right_window_size", -1)),
        cap_(node.get_float("softcap", 0)),
        mode_(node.get_int("qk_matmul_output_mode", 0)) {
    if (node.has("scale")) scale_ = node.get_float("scale", 1);
    if (mode_ < 0 || mode_ > 3) {
      invalid("attribute 'qk_matmul_output_mode' is " + std::to_string(mode_));
    }
  }

  void run(RunContext& c) const override {
    const Tensor& q = c.input(0);
    const Tensor& k = c.input(1);
    const Tensor& v = c.input(2);
    const bool flat = q.rank() == 3;
    Sizes s = find_sizes(q, k, v);
    const auto strides = flat ? strides_3d : strides_4d;
    const int64_t new_keys = s.keys;
    const bool has_past = c.has_input(4);
    if (has_past != c.has_input(5)) fail("past_key and past_value are used together or not at all");
    if (has_past) {
      s.past = c.input(4).rank() == 4 ? c.input(4).dim(2) : 0;
      check_past(c.input(4), {s.batch, s.kv_heads, s.past, s.head}, "past_key");
      check_past(c.input(5), {s.batch, s.kv_heads, s.past, s.v_head}, "past_value");
      s.keys += s.past;
    }

    Operands o{k.raw(), v.raw(), strides(s.kv_heads, new_keys, s.head),
               strides(s.kv_heads, new_keys, s.v_head)};
    Visibility visible{causal_, left_, right_, has_past, nullptr, s.keys};
    if (c.has_input(6)) visible.lengths = read_lengths(c.input(6), s);
    if (c.has_input(3)) check_mask(c.input(3), s);

    Tensor& y = c.output(0, q.dtype(),
                         flat ? Shape{s.batch, s.queries, s.q_heads * s.v_head}
                              : Shape{s.batch, s.q_heads, s.queries, s.v_head});
    if (has_past || c.wants_output(1)) {
      Tensor& present = c.output(1, k.dtype(), {s.batch, s.kv_heads, s.keys, s.head});
      join_past(c, has_past ? &c.input(4) : nullptr, k, o.k_strides, present);
      o.k = present.raw();
      o.k_strides = strides_4d(s.kv_heads, s.keys, s.head);
    }
    if (has_past || c.wants_output(2)) {
      Tensor& present = c.output(2, v.dtype(), {s.batch, s.kv_heads, s.keys, s.v_head});
      join_past(c, has_past ? &c.input(5) : nullptr, v, o.v_strides, present);
      o.v = present.raw();
      o.v_strides = strides_4d(s.kv_heads, s.keys, s.v_head);
    }
    std::byte* scores = nullptr;
    if (c.wants_output(3)) {
      scores = c.output(3, q.dtype(), {s.batch, s.q_heads, s.queries, s.keys}).raw();
    }
    if (s.batch * s.q_heads * s.queries == 0) return;
    visit(FloatTypes{}, q.dtype(), [&](auto tag) {
      using S = typename decltype(tag)::type;
      using T = Compute<S>;
      Job<S> job{.sizes = s,
                 .visible = visible,
                 .shown = scores == nullptr ? Shown::nothing : static_cast<Shown>(mode_ + 1),
                 .scale = static_cast<T>(
                     scale_ ? static_cast<double>(*scale_)
                            : 1 / std::sqrt(static_cast<double>(std::max<int64_t>(s.head, 1)))),
                 .cap = static_cast<T>(cap_),
                 .q = q.data<S>(),
                 .k = reinterpret_cast<const S*>(o.k),
                 .v = reinterpret_cast<const S*>(o.v),
                 .y = y.data<S>(),
                 .q_strides = strides(s.q_heads, s.queries, s.head),
                 .k_strides = o.k_strides,
                 .v_strides = o.v_strides,
                 .y_strides = strides(s.q_heads, s.queries, s.v_head),
                 .mask = nullptr,
                 .mask_strides = {},
                 .scores = reinterpret_cast<S*>(scores)};
      if (c.has_input(3)) use_mask(c, c.input(3), job);
      job.run(c);
    });
  }

 private:
  struct Operands {
    const std::byte* k;
    const std::byte* v;
    Strides k_strides;
    Strides v_strides;
  };

  Sizes find_sizes(const Tensor& q, const Tensor& k, const Tensor& v) const {
    const int rank = q.rank();
    if ((rank != 3 && rank != 4) || k.rank() != rank || v.rank() != rank) {
      fail("Q, K and V have shapes " + q.shape().text() + ", " + k.shape().text() + " and " +
           v.shape().text() + ", expected all of 3 or all of 4 axes");
    }
    Sizes s{};
    s.batch = q.dim(0);
    s.queries = q.dim(rank - 2);
    s.keys = k.dim(rank - 2);
    if (rank == 4) {
      s.q_heads = q.dim(1);
      s.kv_heads = k.dim(1);
      s.head = q.dim(3);
      s.v_head = v.dim(3);
    } else {
      s.q_heads = q_heads_;
      s.kv_heads = kv_heads_;
      if (q_heads_ < 1 || kv_heads_ < 1 || q.dim(2) % q_heads_ != 0 || v.dim(2) % kv_heads_ != 0) {
        fail(
            "Q, K and V of three axes need attributes 'q_num_heads' and 'kv_num_heads' that "
            "divide their last axes; got " +
            std::to_string(q_heads_) + " and " + std::to_string(kv_heads_));
      }
      s.head = q.dim(2) / q_heads_;
      s.v_head = v.dim(2) / kv_heads_;
    }
    if (s.kv_heads < 1 || s.q_heads % s.kv_heads != 0) {
      fail("the number of query heads (" + std::to_string(s.q_heads) +
           ") is not a multiple of the number of key heads (" + std::to_string(s.kv_heads) + ")");
    }
    const Shape expected_k = rank == 4 ? Shape{s.batch, s.kv_heads, s.keys, s.head}
                                       : Shape{s.batch, s.keys, s.kv_heads * s.head};
    const Shape expected_v = rank == 4 ? Shape{s.batch, s.kv_heads, s.keys, s.v_head}
                                       : Shape{s.batch, s.keys, s.kv_heads * s.v_head};
    if (k.shape() != expected_k) {
      fail("K has shape " + k.shape().text() + ", expected " + expected_k.text());
    }
    if (v.shape() != expected_v) {
      fail("V has shape " + v.shape().text() + ", expected " + expected_v.text());
    }
    return s;
  }

  static void check_past(const Tensor& past, const Shape& expected, const char* name) {
    if (past.shape() != expected) {
      fail(std::string(name) + " has shape " + past.shape().text() + ", expected " +
           expected.text());
    }
  }

  static const int64_t* read_lengths(const Tensor& lengths, const Sizes& s) {
    if (lengths.size() != s.batch) {
      fail("nonpad_kv_seqlen has " + std::to_string(lengths.size()) + " elements, expected " +
           std::to_string(s.batch));
    }
    for (int64_t length : lengths.elements<int64_t>()) {
      if (length < 0 || length > s.keys) {
        invalid("nonpad_kv_seqlen holds " + std::to_string(length) + ", and there are " +
                std::to_string(s.keys) + " keys");
      }
    }
    return lengths.data<int64_t>();
  }

  static void check_mask(const Tensor& mask, const Sizes& s) {
    const int64_t limits[] = {s.batch, s.q_heads, s.queries, s.keys};
    const int rank = mask.rank();
    bool fits = rank >= 1 && rank <= 4 && mask.dim(rank - 1) <= s.keys;
    for (int i = 0; fits && i < rank - 1; ++i) {
      const int64_t dim = mask.dim(i);
      fits = dim == 1 || dim == limits[4 - rank + i];
    }
    if (!fits) {
      fail("attn_mask has shape " + mask.shape().text() + ", which does not broadcast to " +
           Shape{s.batch, s.q_heads, s.queries, s.keys}.text());
    }
  }

  // The mask as numbers to add.
  template <class S>
  static void use_mask(RunContext& c, const Tensor& mask, Job<S>& job) {
    using T = Compute<S>;
    const int rank = mask.rank();
    const Shape strides = mask.shape().strides();
    const auto stride = [&](int from_end) {
      const int axis = rank - from_end;
      return axis < 0 || mask.dim(axis) == 1 ? 0 : strides[axis];
    };
    job.mask_strides = {stride(4), stride(3), stride(2)};
    job.visible.mask_keys = mask.dim(rank - 1);
    if (mask.dtype() == dtype_of<T>) {
      job.mask = mask.data<T>();
      return;
    }
    T* to = c.workspace<T>(mask.size());
    job.mask = to;
    if (mask.dtype() == DType::boolean) {
      const bool* from = mask.data<bool>();
      for (int64_t i = 0; i < mask.size(); ++i) {
        to[i] = from[i] ? T(0) : -std::numeric_limits<T>::infinity();
      }
      return;
    }
    visit(NumericTypes{}, mask.dtype(), [&](auto tag) {
      using M = typename decltype(tag)::type;
      for (int64_t i = 0; i < mask.size(); ++i) {
        to[i] = static_cast<T>(static_cast<Compute<M>>(mask.data<M>()[i]));
      }
    });
  }

  int64_t q_heads_;
  int64_t kv_heads_;
  bool causal_;
  int64_t left_;
  int64_t right_;
  float cap_;
  int64_t mode_;
  std::optional<float> scale_;
};
BASCULE_KERNEL("Attention", Attention);

}  // namespace
}  // namespace bascule
