// SPDX-License-Identifier: Apache-2.0
// RotaryEmbedding: pairs of elements of every head are turned by an angle that depends on the
// position. A pair is (i, i + half) or, interleaved, (2i, 2i + 1).
#include <algorithm>

#include "runtime/kernel.h"

namespace bascule {
namespace {

// One head at one position; x and y may be the same memory.
template <class T>
void rotate(const T* x, const T* cosine, const T* sine, int64_t half, bool interleaved, T* y) {
  using U = Compute<T>;
  const int64_t step = interleaved ? 2 : 1;
  const int64_t other = interleaved ? 1 : half;
  for (int64_t i = 0; i < half; ++i) {
    const U first = static_cast<U>(x[i * step]);
    const U second = static_cast<U>(x[i * step + other]);
    const U c = static_cast<U>(cosine[i]);
    const U s = static_cast<U>(sine[i]);
    y[i * step] = static_cast<T>(c * first - s * second);
    y[i * step + other] = static_cast<T>(s * first + c * second);
  }
}

class RotaryEmbedding final : public Kernel {
 public:
  static Capability capability(const NodeSpec& node) {
    if (node.dtype(1) != node.dtype(0) || node.dtype(2) != node.dtype(0)) {
      return reject("the caches are of another type than the input");
    }
    return require_dtype(node, 0, FloatTypes{});
  }

  explicit RotaryEmbedding(const NodeSpec& node)
      : interleaved_(node.get_int("interleaved", 0) != 0),
        heads_(node.get_int("num_heads", 0)),
        dim_(node.get_int("rotary_embedding_dim", 0)) {}

  void run(RunContext& c) const override {
    const Tensor& x = c.input(0);
    const Tensor& cosine = c.input(1);
    const Tensor& sine = c.input(2);
    const Form form = find_form(x);
    const int64_t half = form.rotated / 2;
    const bool has_ids = c.has_input(3);
    const Shape& cache = cosine.shape();
    if (sine.shape() != cache) {
      fail("sin_cache has shape " + sine.shape().text() + ", expected that of cos_cache, " +
           cache.text());
    }
    const bool fits = has_ids ? cache.rank() == 2
                              : cache.rank() == 3 && cache[1] == form.length &&
                                    (cache[0] == form.batch || cache[0] == 1);
    if (!fits || cache.back() != half) {
      const Shape expected = has_ids ? Shape{-1, half} : Shape{form.batch, form.length, half};
      fail("cos_cache has shape " + cache.text() + ", expected " + expected.text());
    }
    const Tensor* ids = has_ids ? &c.input(3) : nullptr;
    if (has_ids) check_ids(*ids, form, cache[0]);

    Tensor& y = c.output(0, x.dtype(), x.shape());
    const auto row_of = [&](int64_t b, int64_t position) {
      if (!has_ids) return cache[0] == 1 ? position : b * form.length + position;
      return ids->data<int64_t>()[(ids->dim(0) == 1 ? 0 : b) * form.length + position];
    };
    visit(FloatTypes{}, x.dtype(), [&](auto tag) {
      using T = typename decltype(tag)::type;
      const int64_t rows = form.batch * form.heads * form.length;
      c.parallel_for(rows, static_cast<double>(form.size), [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          // Rows lie in the order of the input: (batch, head, position) or (batch, position, head).
          const int64_t inner = form.flat ? i / form.heads : i;
          const int64_t position = inner % form.length;
          const int64_t b = i / (form.heads * form.length);
          const int64_t at = row_of(b, position) * half;
          const T* from = x.data<T>() + i * form.size;
          T* to = y.data<T>() + i * form.size;
          rotate(from, cosine.data<T>() + at, sine.data<T>() + at, half, interleaved_, to);
          if (from != to) {
            std::copy(from + form.rotated, from + form.size, to + form.rotated);
          }
        }
      });
    });
  }

 private:
  struct Form {
    bool flat;  // [batch, length, heads * size], else [batch, heads, length, size]
    int64_t batch;
    int64_t heads;
    int64_t length;
    int64_t size;
    int64_t rotated;
  };

  Form find_form(const Tensor& x) const {
    Form form{};
    form.flat = x.rank() == 3;
    if (form.flat) {
      if (heads_ < 1 || x.dim(2) % heads_ != 0) {
        fail("an input of three axes needs attribute 'num_heads' that divides its last axis; got " +
             std::to_string(heads_) + " and shape " + x.shape().text());
      }
      form = {true, x.dim(0), heads_, x.dim(1), x.dim(2) / heads_, 0};
    } else if (x.rank() == 4) {
      form = {false, x.dim(0), x.dim(1), x.dim(2), x.dim(3), 0};
    } else {
      fail("the input has shape " + x.shape().text() + ", expected 3 or 4 axes");
    }
    form.rotated = dim_ == 0 ? form.size : dim_;
    if (form.rotated < 0 || form.rotated > form.size || form.rotated % 2 != 0) {
      fail("rotated are " + std::to_string(form.rotated) + " of " + std::to_string(form.size) +
           " elements of a head, expected an even number of them");
    }
    return form;
  }

  static void check_ids(const Tensor& ids, const Form& form, int64_t positions) {
    if (ids.rank() != 2 || ids.dim(1) != form.length ||
        (ids.dim(0) != form.batch && ids.dim(0) != 1)) {
      fail("position_ids has shape " + ids.shape().text() + ", expected " +
           Shape{form.batch, form.length}.text());
    }
    for (int64_t id : ids.elements<int64_t>()) {
      if (id < 0 || id >= positions) {
        invalid("position " + std::to_string(id) + " is out of range for a cache of " +
                std::to_string(positions));
      }
    }
  }

  bool interleaved_;
  int64_t heads_;
  int64_t dim_;
};
BASCULE_KERNEL("RotaryEmbedding", RotaryEmbedding, InPlace{0, 0});

}  // namespace
}  // namespace bascule
