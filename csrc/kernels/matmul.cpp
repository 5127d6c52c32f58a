// SPDX-License-Identifier: Apache-2.0
// MatMul with NumPy's rules, as in the standard and in domain `bascule`:
// Y = activation(alpha * A' B' + bias + residual).
#include <algorithm>
#include <cstddef>
#include <span>

#include "kernels/activation.h"
#include "kernels/gemm/product.h"
#include "runtime/alternatives.h"
#include "runtime/kernel.h"
#include "runtime/read_ahead.h"

namespace bascule {

namespace {

// Elements from one matrix to the next along each axis of `batch`; 0 where `shape` is broadcast.
Shape batch_strides(const Shape& batch, const Shape& shape) {
  Shape strides = Shape::filled(batch.rank(), 0);
  const int own = shape.rank() - 2;
  int64_t stride = shape[own] * shape[own + 1];
  for (int axis = own - 1; axis >= 0; --axis) {
    if (shape[axis] != 1) strides[batch.rank() - own + axis] = stride;
    stride *= shape[axis];
  }
  return strides;
}

// Cuts of a product, of which the one that is the best by counting may not be the fastest.
constexpr std::pair<const char*, GemmCut> cuts[] = {{"rows", GemmCut::rows},
                                                    {"columns", GemmCut::columns}};

std::vector<std::string> cut_alternatives(const NodeSpec& node, int threads) {
  std::vector<std::string> names;
  if (threads < 2 || !contains(FloatTypes{}, node.dtype(0))) return names;
  for (const auto& [name, cut] : cuts) names.emplace_back(name);
  return names;
}

GemmCut chosen_cut(const NodeSpec& node) {
  const std::string chosen = chosen_alternative(node);
  for (const auto& [name, cut] : cuts) {
    if (chosen == name) return cut;
  }
  return GemmCut::best;
}

class MatMul final : public Kernel, public ReadsAhead {
 public:
  static Capability capability(const NodeSpec& node) {
    if (const Capability typed = require_dtype(node, 0, ProductTypes{}); !typed.accepted()) {
      return typed;
    }
    if (!has_activation(node.dtype(0), parse_activation(node))) {
      return reject("activation '" + node.get_string("activation", "") +
                    "' is not supported for type " + name_of(node.dtype(0)));
    }
    return accept;
  }

  explicit MatMul(const NodeSpec& node)
      : transpose_a_(node.get_int("transA", 0) != 0),
        transpose_b_(node.get_int("transB", 0) != 0),
        alpha_(node.get_float("alpha", 1)),
        activation_(parse_activation(node)),
        cut_(chosen_cut(node)),
        float16_sums_(sums_in_float16(node)) {
    const Tensor* b = node.constant(1);
    if (b == nullptr || b->rank() == 0) return;
    packed_ = PackedOperand::pack(node, {1}, *b, transpose_b_ && b->rank() > 1);
    if (!packed_.present()) return;
    packed_shape_ = b->shape();
    has_one_row_ = is_one_row(node.inputs[0]);
    by_parts_ = !transpose_a_ && is_by_parts(node, packed_.k, packed_.n);
    node.release_constant(1);
  }

  std::span<const std::byte> streamed() const override {
    if (!has_one_row_) return {};
    return {static_cast<const std::byte*>(packed_.panels.raw()),
            static_cast<size_t>(packed_.panels.size() * item_size(packed_.panels.dtype()))};
  }

  void run(RunContext& c) const override {
    const Tensor& a = c.input(0);
    const Tensor* b = packed_.present() ? nullptr : &c.input(1);
    Shape a_shape = a.shape();
    Shape b_shape = b != nullptr ? b->shape() : packed_shape_;
    if (a_shape.rank() == 0 || b_shape.rank() == 0) fail("a scalar is not a matrix");
    const bool a_vector = a_shape.rank() == 1;
    const bool b_vector = b_shape.rank() == 1;
    Product p;
    p.dtype = a.dtype();
    p.transpose_a = transpose_a_ && !a_vector;
    p.transpose_b = transpose_b_ && !b_vector;
    if (a_vector) a_shape.insert(0, 1);
    if (b_vector) b_shape.push_back(1);
    const int a_rank = a_shape.rank();
    const int b_rank = b_shape.rank();
    p.m = a_shape[a_rank - (p.transpose_a ? 1 : 2)];
    p.k = a_shape[a_rank - (p.transpose_a ? 2 : 1)];
    p.n = b_shape[b_rank - (p.transpose_b ? 2 : 1)];
    const int64_t b_rows = b_shape[b_rank - (p.transpose_b ? 1 : 2)];
    if (p.k != b_rows) {
      fail("matrix sizes do not fit: " + a.shape().text() + " has " + std::to_string(p.k) +
           " columns and " + (b != nullptr ? b->shape() : packed_shape_).text() + " has " +
           std::to_string(b_rows) + " rows");
    }
    p.batch = broadcast(Shape(a_shape.begin(), a_shape.end() - 2),
                        Shape(b_shape.begin(), b_shape.end() - 2));
    p.a_strides = batch_strides(p.batch, a_shape);
    p.b_strides = batch_strides(p.batch, b_shape);
    Shape y_shape = p.batch;
    if (!a_vector) y_shape.push_back(p.m);
    if (!b_vector) y_shape.push_back(p.n);

    p.a = a.raw();
    p.b = b != nullptr ? b->raw() : nullptr;
    p.packed = b != nullptr ? nullptr : &packed_;
    p.alpha = alpha_;
    p.activation = activation_;
    p.cut = cut_;
    p.float16_sums = float16_sums_;
    p.by_parts = by_parts_;
    if (c.has_input(2)) {
      const Tensor& bias = c.input(2);
      if (bias.shape() != Shape{p.n}) {
        fail("bias has shape " + bias.shape().text() + ", expected " + Shape{p.n}.text());
      }
      p.bias = bias.raw();
    }
    if (c.has_input(3)) {
      const Tensor& residual = c.input(3);
      if (residual.shape() != y_shape) {
        fail("residual has shape " + residual.shape().text() + ", expected " + y_shape.text());
      }
      p.residual = residual.raw();
    }
    p.y = c.output(0, p.dtype, y_shape).raw();
    run_product(c, p);
  }

 private:
  static bool is_one_row(const ValueSpec& a) {
    return a.shape && !a.shape->empty() &&
           std::all_of(a.shape->begin(), a.shape->end() - 1,
                       [](int64_t size) { return size == 1; });
  }

  bool transpose_a_;
  bool transpose_b_;
  bool has_one_row_ = false;
  float alpha_;
  Activation activation_;
  GemmCut cut_;
  bool float16_sums_;
  bool by_parts_ = false;
  PackedOperand packed_;
  Shape packed_shape_;
};
BASCULE_KERNEL("MatMul", MatMul);
BASCULE_KERNEL_IN("bascule", "MatMul", MatMul);
BASCULE_ALTERNATIVES("", "MatMul", &cut_alternatives);
BASCULE_ALTERNATIVES("bascule", "MatMul", &cut_alternatives);

// beta * C, broadcast to [m, n] with these strides.
template <class T>
void scale_into(RunContext& c, const Tensor& from, float beta, int64_t row_stride,
                int64_t column_stride, int64_t m, int64_t n, T* to) {
  using U = Compute<T>;
  const T* data = from.data<T>();
  c.parallel_for(m, static_cast<double>(n), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      for (int64_t j = 0; j < n; ++j) {
        const U value = static_cast<U>(data[i * row_stride + j * column_stride]);
        if constexpr (std::is_integral_v<T>) {
          to[i * n + j] = scaled_integer<T>(beta, value);
        } else {
          to[i * n + j] = static_cast<T>(static_cast<U>(beta) * value);
        }
      }
    }
  });
}

// Y = alpha * A' B' + beta * C.
class Gemm final : public Kernel {
 public:
  static Capability capability(const NodeSpec& node) {
    return require_dtype(node, 0, ProductTypes{});
  }

  explicit Gemm(const NodeSpec& node)
      : transpose_a_(node.get_int("transA", 0) != 0),
        transpose_b_(node.get_int("transB", 0) != 0),
        alpha_(node.get_float("alpha", 1)),
        beta_(node.get_float("beta", 1)),
        cut_(chosen_cut(node)),
        float16_sums_(sums_in_float16(node)) {
    const Tensor* b = node.constant(1);
    if (b == nullptr || b->rank() != 2) return;
    packed_ = PackedOperand::pack(node, {1}, *b, transpose_b_);
    if (!packed_.present()) return;
    by_parts_ = !transpose_a_ && is_by_parts(node, packed_.k, packed_.n);
    node.release_constant(1);
  }

  void run(RunContext& c) const override {
    const Tensor& a = c.input(0);
    if (a.rank() != 2) fail("A has shape " + a.shape().text() + ", expected two axes");
    Product p;
    p.dtype = a.dtype();
    p.transpose_a = transpose_a_;
    p.transpose_b = transpose_b_;
    p.m = a.dim(transpose_a_ ? 1 : 0);
    p.k = a.dim(transpose_a_ ? 0 : 1);
    int64_t b_rows = packed_.k;
    p.n = packed_.n;
    if (packed_.present()) {
      p.packed = &packed_;
    } else {
      const Tensor& b = c.input(1);
      if (b.rank() != 2) fail("B has shape " + b.shape().text() + ", expected two axes");
      b_rows = b.dim(transpose_b_ ? 1 : 0);
      p.n = b.dim(transpose_b_ ? 0 : 1);
      p.b = b.raw();
    }
    if (p.k != b_rows) {
      fail("matrix sizes do not fit: A' has " + std::to_string(p.k) + " columns and B' has " +
           std::to_string(b_rows) + " rows");
    }
    p.a = a.raw();
    p.alpha = alpha_;
    p.cut = cut_;
    p.float16_sums = float16_sums_;
    p.by_parts = by_parts_;
    if (c.has_input(2) && beta_ != 0) add(c, p);
    p.y = c.output(0, p.dtype, {p.m, p.n}).raw();
    run_product(c, p);
  }

 private:
  // C as the bias or the residual of the product.
  void add(RunContext& c, Product& p) const {
    const Tensor& addend = c.input(2);
    const Shape& shape = addend.shape();
    const int64_t columns = shape.rank() > 0 ? shape.back() : 1;
    const int64_t rows = shape.rank() > 1 ? shape[0] : 1;
    if (shape.rank() > 2 || (columns != p.n && columns != 1) || (rows != p.m && rows != 1)) {
      fail("C has shape " + shape.text() + ", which does not broadcast to " +
           Shape{p.m, p.n}.text());
    }
    const bool is_row = rows == 1;
    const std::byte*& place = is_row ? p.bias : p.residual;
    if (beta_ == 1 && columns == p.n) {
      place = addend.raw();
      return;
    }
    const int64_t m = is_row ? 1 : p.m;
    auto* to = static_cast<std::byte*>(c.workspace(m * p.n * item_size(p.dtype)));
    visit(ProductTypes{}, p.dtype, [&](auto tag) {
      using T = typename decltype(tag)::type;
      scale_into<T>(c, addend, beta_, is_row ? 0 : columns, columns == 1 ? 0 : 1, m, p.n,
                    reinterpret_cast<T*>(to));
    });
    place = to;
  }

  bool transpose_a_;
  bool transpose_b_;
  float alpha_;
  float beta_;
  GemmCut cut_;
  bool float16_sums_;
  bool by_parts_ = false;
  PackedOperand packed_;
};
BASCULE_KERNEL("Gemm", Gemm);
BASCULE_ALTERNATIVES("", "Gemm", &cut_alternatives);

}  // namespace
}  // namespace bascule
