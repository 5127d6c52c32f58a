// SPDX-License-Identifier: Apache-2.0
// Attention: softmax(scale * Q K' + mask) V for every head, with grouped heads, a cache, causal and
// window masks. The fused operator of the same name takes queries of three axes with a cache of
// four, a sink: one more score for each head, of a key without a value, and caches to which the new
// keys and values go as UpdateCache has it.
#include <cmath>
#include <optional>

#include "kernels/attention/attention_job.h"
#include "kernels/attention/cache_checks.h"
#include "kernels/work_view.h"
#include "runtime/kernel.h"

namespace bascule {
namespace {

using namespace attention;

class Attention final : public Kernel {
 public:
  static Capability capability(const NodeSpec& node) {
    for (size_t i : {1u, 2u, 4u, 5u, 7u}) {
      if (node.has_input(i) && node.dtype(i) != node.dtype(0)) {
        return reject("input " + std::to_string(i) + " is of another type than Q");
      }
    }
    for (size_t i : {8u, 9u}) {
      const Capability typed = require_dtype(node, i, Types<int64_t>{});
      if (!typed.accepted()) return typed;
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
        takes_cache_(node.domain == "bascule"),
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
    const auto key_strides = k.rank() == 3 ? strides_3d : strides_4d;
    const int64_t new_keys = s.keys;
    const bool has_past = c.has_input(4);
    const bool updates = c.has_input(8);
    if (has_past != c.has_input(5)) fail("past_key and past_value are used together or not at all");
    if (updates && !has_past) fail("starts are used with past_key and past_value");
    if (has_past) {
      const int64_t before = c.input(4).rank() == 4 ? c.input(4).dim(2) : 0;
      check_past(c.input(4), {s.batch, s.kv_heads, before, s.head}, "past_key");
      check_past(c.input(5), {s.batch, s.kv_heads, before, s.v_head}, "past_value");
      if (updates) {
        s.keys = std::max(before, length_of(c.input(9)));
        check_starts(c.input(8), s.batch, s.keys - new_keys);
      } else {
        s.past = before;
        s.keys += s.past;
      }
    }

    Operands o{k.raw(), v.raw(), key_strides(s.kv_heads, new_keys, s.head),
               key_strides(s.kv_heads, new_keys, s.v_head)};
    Visibility visible{causal_, left_, right_, has_past && !updates, nullptr, s.keys};
    if (c.has_input(6)) visible.lengths = read_lengths(c.input(6), s);
    if (c.has_input(3)) check_mask(c.input(3), s);
    if (c.has_input(7) && !(c.input(7).shape() == Shape{s.q_heads})) {
      fail("the sink has shape " + c.input(7).shape().text() + ", expected " +
           Shape{s.q_heads}.text());
    }

    Tensor& y = c.output(0, q.dtype(),
                         flat ? Shape{s.batch, s.queries, s.q_heads * s.v_head}
                              : Shape{s.batch, s.q_heads, s.queries, s.v_head});
    Presents presents;
    const int64_t* starts = updates ? c.input(8).data<int64_t>() : nullptr;
    if (has_past || c.wants_output(1)) {
      Tensor& present = c.output(1, k.dtype(), {s.batch, s.kv_heads, s.keys, s.head});
      presents.add(has_past ? &c.input(4) : nullptr, k, new_keys, o.k_strides, starts, present);
      o.k = present.raw();
      o.k_strides = strides_4d(s.kv_heads, s.keys, s.head);
    }
    if (has_past || c.wants_output(2)) {
      Tensor& present = c.output(2, v.dtype(), {s.batch, s.kv_heads, s.keys, s.v_head});
      presents.add(has_past ? &c.input(5) : nullptr, v, new_keys, o.v_strides, starts, present);
      o.v = present.raw();
      o.v_strides = strides_4d(s.kv_heads, s.keys, s.v_head);
    }
    std::byte* scores = nullptr;
    if (c.wants_output(3)) {
      scores = c.output(3, q.dtype(), {s.batch, s.q_heads, s.queries, s.keys}).raw();
    }
    if (s.batch * s.q_heads * s.queries == 0) return presents.make(c);
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
                 .sinks = c.has_input(7) ? work_view<T>(c, c.input(7)) : nullptr,
                 .scores_shown = reinterpret_cast<S*>(scores),
                 .presents = presents};
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
    const int k_rank = k.rank();
    const bool fits = rank == k_rank || (takes_cache_ && rank == 3 && k_rank == 4);
    if ((rank != 3 && rank != 4) || !fits || v.rank() != k_rank) {
      fail("Q, K and V have shapes " + q.shape().text() + ", " + k.shape().text() + " and " +
           v.shape().text() + ", expected all of 3 or all of 4 axes");
    }
    Sizes s{};
    s.batch = q.dim(0);
    s.queries = q.dim(rank - 2);
    s.keys = k.dim(k_rank - 2);
    s.q_heads = rank == 4 ? q.dim(1) : q_heads_;
    s.kv_heads = k_rank == 4 ? k.dim(1) : kv_heads_;
    if ((rank == 3 && !divides(q_heads_, q.dim(2))) ||
        (k_rank == 3 && !divides(kv_heads_, v.dim(2)))) {
      fail(
          "Q, K and V of three axes need attributes 'q_num_heads' and 'kv_num_heads' that "
          "divide their last axes; got " +
          std::to_string(q_heads_) + " and " + std::to_string(kv_heads_));
    }
    s.head = rank == 4 ? q.dim(3) : q.dim(2) / q_heads_;
    s.v_head = k_rank == 4 ? v.dim(3) : v.dim(2) / kv_heads_;
    if (s.kv_heads < 1 || s.q_heads % s.kv_heads != 0) {
      fail("the number of query heads (" + std::to_string(s.q_heads) +
           ") is not a multiple of the number of key heads (" + std::to_string(s.kv_heads) + ")");
    }
    const Shape expected_k = k_rank == 4 ? Shape{s.batch, s.kv_heads, s.keys, s.head}
                                         : Shape{s.batch, s.keys, s.kv_heads * s.head};
    const Shape expected_v = k_rank == 4 ? Shape{s.batch, s.kv_heads, s.keys, s.v_head}
                                         : Shape{s.batch, s.keys, s.kv_heads * s.v_head};
    if (k.shape() != expected_k) {
      fail("K has shape " + k.shape().text() + ", expected " + expected_k.text());
    }
    if (v.shape() != expected_v) {
      fail("V has shape " + v.shape().text() + ", expected " + expected_v.text());
    }
    return s;
  }

  static bool divides(int64_t heads, int64_t size) { return heads >= 1 && size % heads == 0; }

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
  bool takes_cache_;
  int64_t mode_;
  std::optional<float> scale_;
};
BASCULE_KERNEL("Attention", Attention);
// Only caches that keep their length are written in place: the memory has to be of one size.
BASCULE_KERNEL_IN("bascule", "Attention", Attention, InPlace{4, 1}, InPlace{5, 2});

}  // namespace
}  // namespace bascule
