// SPDX-License-Identifier: Apache-2.0
#include "kernels/gemm/product.h"

#include <algorithm>

#include "kernels/gemm/convert.h"
#include "kernels/gemm/half_product.h"
#include "kernels/gemm/prepack_floats.h"

namespace bascule {

namespace {

// Offset of matrix `index` of a batch in an operand with these strides.
int64_t batch_offset(const Shape& batch, const Shape& strides, int64_t index) {
  int64_t offset = 0;
  for (int axis = batch.rank() - 1; axis >= 0; --axis) {
    offset += index % batch[axis] * strides[axis];
    index /= batch[axis];
  }
  return offset;
}

bool is_shared(const Shape& batch, const Shape& strides) {
  for (int axis = 0; axis < batch.rank(); ++axis) {
    if (batch[axis] > 1 && strides[axis] != 0) return false;
  }
  return true;
}

// Up to this many rows B is read where it is: packing would read it once more and write it.
constexpr int64_t direct_rows = 8;

template <class T>
struct TypedProduct {
  const Product& p;
  const T* a;
  const T* b;
  const T* bias;
  const T* residual;
  T* y;

  bool direct() const { return p.m <= direct_rows && !p.transpose_b; }

  // Panels of B that must be packed at run time, as elements: all of them, or in direct use the
  // last if it is not whole.
  int64_t pack_size() const {
    if (p.packed != nullptr) return 0;
    if (!direct()) return packed_size<T>(p.k, p.n);
    return p.n % gemm_functions<T>().panel_width == 0 ? 0 : packed_size<T>(p.k, 1);
  }

  GemmBlock<T> block(const T* const* rows, int64_t index, const T* panels) const {
    GemmBlock<T> g = matrix_block<T>(rows, p.m, p.k, p.k, panels, y + index * p.m * p.n, p.n);
    g.epilogue.alpha = static_cast<T>(p.alpha);
    g.epilogue.bias = bias;
    g.epilogue.residual = residual != nullptr ? residual + index * p.m * p.n : nullptr;
    set_activation(g.epilogue, p.activation);
    g.by_parts = p.by_parts && p.packed != nullptr;
    return g;
  }

  const T* packed_panels(int64_t index) const {
    const int64_t offset = batch_offset(p.batch, p.b_strides, index);
    const int64_t item = p.k * p.n == 0 ? 0 : offset / (p.k * p.n);
    return p.packed->panels.template data<T>() + item * packed_size<T>(p.k, p.n);
  }

  // One matrix of the batch. `all` says how to run a block and `pack` how to pack.
  template <class Run, class Pack>
  void one(int64_t index, T* packed, Run&& all, Pack&& pack) const {
    const T* rows = a + batch_offset(p.batch, p.a_strides, index);
    if (p.packed != nullptr) {
      all(block(&rows, index, packed_panels(index)));
      return;
    }
    const T* from = b + batch_offset(p.batch, p.b_strides, index);
    const int64_t row_stride = p.transpose_b ? 1 : p.n;
    const int64_t column_stride = p.transpose_b ? p.k : 1;
    if (!direct()) {
      pack(from, row_stride, column_stride, p.k, p.n, packed);
      all(block(&rows, index, packed));
      return;
    }
    const int64_t width = gemm_functions<T>().panel_width;
    const int64_t whole = p.n / width * width;
    GemmBlock<T> g = block(&rows, index, from);
    g.b_stride = p.n;
    g.b_panel_stride = width;
    g.columns = whole;
    all(g);
    if (whole == p.n) return;
    pack(from + whole, row_stride, column_stride, p.k, p.n - whole, packed);
    g = block(&rows, index, packed);
    g.columns = p.n - whole;
    g.c += whole;
    if (g.epilogue.bias != nullptr) g.epilogue.bias += whole;
    if (g.epilogue.residual != nullptr) g.epilogue.residual += whole;
    all(g);
  }

  void run(RunContext& c, int64_t count) const {
    const int64_t size = pack_size();
    const int threads = c.threads();
    if (count >= 2 * threads || (count > 1 && count % threads == 0)) {
      run_batch(c, count, size, threads);
      return;
    }
    T* packed = size > 0 ? c.workspace<T>(size) : nullptr;
    for (int64_t i = 0; i < count; ++i) {
      one(
          i, packed, [&](const GemmBlock<T>& g) { multiply(c, g, p.cut); },
          [&](auto... arguments) { pack_panels(c, arguments...); });
    }
  }

  // Whole matrices to each thread.
  void run_batch(RunContext& c, int64_t count, int64_t size, int64_t parts) const {
    const T* rows = a;
    const bool wants = wants_scratch(block(&rows, 0, nullptr));
    const int64_t stride = round_up(size + (wants ? gemm_scratch : 0), 16);
    T* space = stride > 0 ? c.workspace<T>(parts * stride) : nullptr;
    const double work = static_cast<double>(p.m * p.n) * static_cast<double>(p.k + 8) / 8;
    c.parallel_for(parts, work * static_cast<double>(count) / static_cast<double>(parts),
                   [&](int64_t begin, int64_t end) {
                     for (int64_t part = begin; part < end; ++part) {
                       T* packed = space != nullptr ? space + part * stride : nullptr;
                       T* scratch = wants ? packed + size : nullptr;
                       for (int64_t i = count * part / parts; i < count * (part + 1) / parts; ++i) {
                         one(
                             i, packed,
                             [&](GemmBlock<T> g) {
                               g.scratch = scratch;
                               multiply(g);
                             },
                             [](auto... arguments) { pack_panels(arguments...); });
                       }
                     }
                   });
  }
};

// [k, m] -> [m, k] for the matrices that A holds (not those it is broadcast to).
template <class T>
const T* transpose_rows(RunContext& c, Product& p, const T* a, int64_t count) {
  T* to = c.workspace<T>(count * p.m * p.k);
  const int64_t m = p.m;
  const int64_t k = p.k;
  constexpr int64_t step = 16;
  c.parallel_for(count * m, static_cast<double>(k), [&](int64_t begin, int64_t end) {
    for (int64_t r0 = begin; r0 < end;) {
      const int64_t item = r0 / m;
      const int64_t r1 = std::min({r0 + step, end, (item + 1) * m});
      const T* from = a + item * m * k - item * m;
      for (int64_t i = 0; i < k; ++i) {
        for (int64_t r = r0; r < r1; ++r) to[r * k + i] = from[i * m + r];
      }
      r0 = r1;
    }
  });
  p.transpose_a = false;
  return to;
}

// Matrices in an operand with these strides: the batch without what is broadcast.
int64_t held(const Shape& batch, const Shape& strides) {
  int64_t count = 1;
  for (int axis = 0; axis < batch.rank(); ++axis) {
    if (strides[axis] != 0) count *= batch[axis];
  }
  return count;
}

template <class T>
void run_typed(RunContext& c, Product p, const T* a, const T* b, const T* bias, const T* residual,
               T* y) {
  int64_t count = p.batch.size();
  if (count * p.m * p.n == 0) return;
  if (p.transpose_a) a = transpose_rows(c, p, a, held(p.batch, p.a_strides));
  // One B for the whole batch: the batch is more rows. (A then has the batch of Y.)
  if (count > 1 && is_shared(p.batch, p.b_strides) && held(p.batch, p.a_strides) == count) {
    p.m *= count;
    count = 1;
    p.batch = Shape{};
    p.a_strides = p.b_strides = Shape{};
  }
  PackedOperand panels;
  if (count > 1 && p.packed == nullptr && is_shared(p.batch, p.b_strides)) {
    T* packed = c.workspace<T>(packed_size<T>(p.k, p.n));
    pack_panels(c, b, p.transpose_b ? 1 : p.n, p.transpose_b ? p.k : 1, p.k, p.n, packed);
    panels.panels = Tensor(dtype_of<T>, Shape{packed_size<T>(p.k, p.n)}, packed);
    panels.count = 1;
    p.packed = &panels;
  }
  TypedProduct<T>{p, a, b, bias, residual, y}.run(c, count);
}

// 16-bit floats whose B was packed as such.
void run_half(RunContext& c, Product p) {
  const auto halves = [](const std::byte* data) { return reinterpret_cast<const uint16_t*>(data); };
  int64_t count = p.batch.size();
  if (count * p.m * p.n == 0) return;
  const uint16_t* a = halves(p.a);
  if (p.transpose_a) a = transpose_rows(c, p, a, held(p.batch, p.a_strides));
  // One B for the whole batch: the batch is more rows. (A then has the batch of Y.)
  if (is_shared(p.batch, p.b_strides) && held(p.batch, p.a_strides) == count) {
    p.m *= count;
    count = 1;
    p.batch = Shape{};
    p.a_strides = p.b_strides = Shape{};
  }
  HalfBlock g{};
  g.a_stride = g.k = p.k;
  g.rows = p.m;
  g.c_stride = g.columns = p.n;
  const int64_t size = half_packed_size(p.dtype, p.k, p.n);
  g.b_panel_stride = half_packed_size(p.dtype, p.k, 1);
  g.epilogue.alpha = p.alpha;
  if (p.bias != nullptr) {
    float* bias = c.workspace<float>(p.n);
    widen_row(p.dtype, p.bias, bias, p.n);
    g.epilogue.bias = bias;
  }
  set_activation(g.epilogue, p.activation);
  for (int64_t i = 0; i < count; ++i) {
    const int64_t item = p.k * p.n == 0 ? 0 : batch_offset(p.batch, p.b_strides, i) / (p.k * p.n);
    g.a = a + batch_offset(p.batch, p.a_strides, i);
    g.b = halves(p.packed->panels.raw()) + item * size;
    g.c = reinterpret_cast<uint16_t*>(p.y) + i * p.m * p.n;
    g.residual = p.residual != nullptr ? halves(p.residual) + i * p.m * p.n : nullptr;
    multiply_half(c, p.dtype, g, p.cut, p.float16_sums, p.by_parts && !p.float16_sums);
  }
}

// 16-bit floats: everything is widened, and the result rounded once.
void run_narrow(RunContext& c, const Product& p) {
  if (p.packed != nullptr) return run_half(c, p);
  const auto widened = [&](const std::byte* from, int64_t n) -> const float* {
    if (from == nullptr) return nullptr;
    float* to = c.workspace<float>(n);
    widen(c, p.dtype, from, to, n);
    return to;
  };
  const int64_t size = p.batch.size() * p.m * p.n;
  float* y = c.workspace<float>(size);
  run_typed<float>(c, p, widened(p.a, held(p.batch, p.a_strides) * p.m * p.k),
                   widened(p.b, held(p.batch, p.b_strides) * p.k * p.n), widened(p.bias, p.n),
                   widened(p.residual, size), y);
  narrow(c, p.dtype, y, p.y, size);
}

// Integers: plain loops, sums modulo 2^bits.
template <class T>
void run_integer(RunContext& c, const Product& p) {
  using U = std::make_unsigned_t<T>;
  const auto* a = reinterpret_cast<const U*>(p.a);
  const auto* b = reinterpret_cast<const U*>(p.b);
  const auto* bias = reinterpret_cast<const U*>(p.bias);
  const auto* residual = reinterpret_cast<const U*>(p.residual);
  auto* y = reinterpret_cast<U*>(p.y);
  const int64_t a_row = p.transpose_a ? 1 : p.k;
  const int64_t a_column = p.transpose_a ? p.m : 1;
  const int64_t n = p.n;
  c.parallel_for(p.batch.size() * p.m, static_cast<double>(p.k * n),
                 [&](int64_t begin, int64_t end) {
                   for (int64_t i = begin; i < end; ++i) {
                     const int64_t item = i / p.m;
                     const U* row = a + batch_offset(p.batch, p.a_strides, item) + i % p.m * a_row;
                     const U* matrix = b + batch_offset(p.batch, p.b_strides, item);
                     U* to = y + i * n;
                     std::fill_n(to, n, U{0});
                     if (p.transpose_b) {
                       for (int64_t j = 0; j < n; ++j) {
                         for (int64_t k = 0; k < p.k; ++k)
                           to[j] += row[k * a_column] * matrix[j * p.k + k];
                       }
                     } else {
                       for (int64_t k = 0; k < p.k; ++k) {
                         const U value = row[k * a_column];
                         for (int64_t j = 0; j < n; ++j) to[j] += value * matrix[k * n + j];
                       }
                     }
                     if (p.alpha != 1) {
                       for (int64_t j = 0; j < n; ++j) {
                         to[j] = static_cast<U>(scaled_integer(p.alpha, static_cast<T>(to[j])));
                       }
                     }
                     for (int64_t j = 0; bias != nullptr && j < n; ++j) to[j] += bias[j];
                     for (int64_t j = 0; residual != nullptr && j < n; ++j)
                       to[j] += residual[i * n + j];
                   }
                 });
}

}  // namespace

PackedOperand PackedOperand::pack(const NodeSpec& node, std::initializer_list<size_t> inputs,
                                  const Tensor& b, bool transposed) {
  PackedOperand result;
  const Shape& shape = b.shape();
  const int rank = shape.rank();
  if (rank == 0) return result;
  const int64_t rows = rank == 1 ? shape[0] : shape[rank - 2];
  const int64_t columns = rank == 1 ? 1 : shape[rank - 1];
  result.k = transposed ? columns : rows;
  result.n = transposed ? rows : columns;
  const int64_t count = rank <= 2 ? 1 : shape.product(0, rank - 2);
  const int64_t row_stride = transposed ? 1 : result.n;
  const int64_t column_stride = transposed ? result.k : 1;
  const auto pack = [&]<class T>(Tag<T>) {
    const int64_t size = packed_size<T>(result.k, result.n);
    result.panels =
        prepack_floats<T>(node, inputs, transposed ? "transposed B" : "B", count * size, b,
                          [&](const T* from, T* to) {
                            for (int64_t i = 0; i < count; ++i) {
                              pack_panels<T>(from + i * rows * columns, row_stride, column_stride,
                                             result.k, result.n, to + i * size);
                            }
                          });
    result.count = count;
  };
  const auto pack_halves = [&] {
    const int64_t size = half_packed_size(b.dtype(), result.k, result.n);
    const auto fill = [&](Tensor& to) {
      const auto* from = reinterpret_cast<const uint16_t*>(b.raw());
      for (int64_t i = 0; i < count; ++i) {
        pack_half_panels(b.dtype(), from + i * rows * columns, row_stride, column_stride, result.k,
                         result.n, reinterpret_cast<uint16_t*>(to.raw()) + i * size);
      }
    };
    result.panels = prepack(node, inputs, transposed ? "transposed B" : "B", b.dtype(),
                            Shape{count * size}, fill);
    result.count = count;
  };
  switch (b.dtype()) {
    case DType::float64:
      pack(Tag<double>{});
      break;
    case DType::float32:
      pack(Tag<float>{});
      break;
    case DType::float16:
    case DType::bfloat16:
      pack_halves();
      break;
    default:
      break;
  }
  return result;
}

bool has_activation(DType dtype, const Activation& activation) {
  switch (activation.kind) {
    case ActivationKind::none:
      return true;
    case ActivationKind::relu:
    case ActivationKind::clip:
      return contains(FloatTypes{}, dtype);
    default:
      return dtype == DType::float32 || dtype == DType::float16 || dtype == DType::bfloat16;
  }
}

void run_product(RunContext& c, const Product& p) {
  if (p.dtype == DType::float16 || p.dtype == DType::bfloat16) return run_narrow(c, p);
  visit(ProductTypes{}, p.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    if constexpr (std::is_floating_point_v<T>) {
      const auto typed = [](const std::byte* data) { return reinterpret_cast<const T*>(data); };
      run_typed<T>(c, p, typed(p.a), typed(p.b), typed(p.bias), typed(p.residual),
                   reinterpret_cast<T*>(p.y));
    } else if constexpr (std::is_integral_v<T>) {
      run_integer<T>(c, p);
    }
  });
}

}  // namespace bascule
