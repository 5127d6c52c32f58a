// SPDX-License-Identifier: Apache-2.0
// Operators that choose elements by their value or place: NonZero, Compress, Trilu, OneHot.
#include <cmath>
#include <complex>

#include "kernels/move/packed_bytes.h"
#include "kernels/move/strided_copy.h"
#include "runtime/kernel.h"

namespace bascule {
namespace {

using TestedTypes =
    Types<float, double, Float16, BFloat16, int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t,
          uint32_t, uint64_t, bool, std::complex<float>, std::complex<double>, std::string>;

// Strings count as zero when they are empty.
template <class T>
bool is_set(const T& value) {
  if constexpr (std::is_same_v<T, std::string>) {
    return !value.empty();
  } else {
    return static_cast<Compute<T>>(value) != Compute<T>(0);
  }
}

struct NonZero final : Kernel {
  static Capability capability(const NodeSpec& node) {
    return require_dtype(node, 0, TestedTypes{});
  }
  void run(RunContext& c) const override {
    const Tensor& x = c.input(0);
    visit(TestedTypes{}, x.dtype(), [&](auto tag) {
      using T = typename decltype(tag)::type;
      const T* data = x.data<T>();
      int64_t count = 0;
      for (int64_t i = 0; i < x.size(); ++i) count += is_set(data[i]);
      const int rank = x.rank();
      int64_t* y = c.output(0, DType::int64, {rank, count}).data<int64_t>();
      const Shape strides = x.shape().strides();
      int64_t found = 0;
      for (int64_t i = 0; i < x.size() && found < count; ++i) {
        if (!is_set(data[i])) continue;
        int64_t rest = i;
        for (int axis = 0; axis < rank; ++axis) {
          y[axis * count + found] = rest / strides[axis];
          rest %= strides[axis];
        }
        ++found;
      }
    });
  }
};
BASCULE_KERNEL("NonZero", NonZero);

struct Compress final : Kernel {
  explicit Compress(const NodeSpec& node)
      : flat(!node.has("axis")), axis(node.get_int("axis", 0)) {}
  void run(RunContext& c) const override {
    const Tensor& input = c.input(0);
    const Tensor& condition = c.input(1);
    if (condition.dtype() != DType::boolean || condition.rank() != 1) {
      invalid("Compress: the condition must be a list of bool");
    }
    const int at = flat ? 0 : input.shape().axis(axis);
    const Shape view = flat ? Shape{input.size()} : input.shape();
    const int64_t size = view[at];
    const int64_t outer = view.product(0, at), inner = view.product(at + 1, view.rank());
    const bool* keep = condition.data<bool>();
    const int64_t tested = std::min(size, condition.size());
    Shape shape = view;
    shape[at] = 0;
    for (int64_t i = 0; i < tested; ++i) shape[at] += keep[i];
    const Tensor x = unpacked(c, input);
    MovedOutput y(c, 0, input.dtype(), shape);
    visit_size(x.dtype(), [&](auto tag) {
      using T = typename decltype(tag)::type;
      T* out = reinterpret_cast<T*>(y.data());
      for (int64_t o = 0; o < outer; ++o) {
        for (int64_t i = 0; i < tested; ++i) {
          if (!keep[i]) continue;
          out = std::copy_n(x.data<T>() + (o * size + i) * inner, inner, out);
        }
      }
    });
  }
  bool flat;
  int64_t axis;
};
BASCULE_KERNEL("Compress", Compress);

struct Trilu final : Kernel {
  static Capability capability(const NodeSpec& node) {
    if (!is_packed(node.dtype(0))) return accept;
    return reject(std::string("dtype ") + name_of(node.dtype(0)) + " is not supported");
  }
  explicit Trilu(const NodeSpec& node) : upper(node.get_int("upper", 1) != 0) {}
  void run(RunContext& c) const override {
    const Tensor& x = c.input(0);
    if (x.rank() < 2) invalid("Trilu: expected a matrix, got shape " + x.shape().text());
    const int64_t rows = x.dim(x.rank() - 2), columns = x.dim(x.rank() - 1);
    int64_t k = c.has_input(1) ? c.input(1).to_int() : 0;
    k = std::clamp(k, -rows - 1, columns + 1);
    Tensor& output = c.output(0, x.dtype(), x.shape());
    visit_size(x.dtype(), [&](auto tag) {
      using T = typename decltype(tag)::type;
      const int64_t count = columns == 0 ? 0 : x.size() / columns;
      c.parallel_for(count, static_cast<double>(columns), [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) {
          const T* from = x.data<T>() + r * columns;
          T* to = output.data<T>() + r * columns;
          // Upper keeps columns from row + k on, lower those up to it.
          const int64_t cut = std::clamp<int64_t>(r % rows + k + (upper ? 0 : 1), 0, columns);
          const int64_t first = upper ? cut : 0, last = upper ? columns : cut;
          std::fill(to, to + first, T{});
          if (to != from) std::copy(from + first, from + last, to + first);
          std::fill(to + last, to + columns, T{});
        }
      });
    });
  }
  bool upper;
};
BASCULE_KERNEL("Trilu", Trilu, InPlace{0, 0});

struct OneHot final : Kernel {
  static Capability capability(const NodeSpec& node) {
    for (const size_t i : {size_t{0}, size_t{1}}) {
      const Capability answer = require_dtype(node, i, NumericTypes{});
      if (!answer.accepted()) return answer;
    }
    return accept;
  }
  explicit OneHot(const NodeSpec& node) : axis(node.get_int("axis", -1)) {}
  void run(RunContext& c) const override {
    const Tensor& indices = c.input(0);
    const Tensor& values = c.input(2);
    const double wanted = c.input(1).to_double();
    if (!(wanted >= 0 && wanted < 0x1p56)) invalid("OneHot: depth must not be negative");
    const auto depth = static_cast<int64_t>(wanted);
    if (values.size() != 2) invalid("OneHot: values must be [off, on]");
    Shape shape = indices.shape();
    const int at = Shape::filled(shape.rank() + 1, 1).axis(axis);
    const int64_t inner = shape.product(at, shape.rank());
    shape.insert(at, depth);
    const Tensor pair = unpacked(c, values);
    MovedOutput y(c, 0, values.dtype(), shape);
    fill_run(c, pair.dtype(), pair.raw(), y.data(), shape.size());
    if (depth == 0 || indices.size() == 0) return;
    int64_t* place = c.workspace<int64_t>(indices.size());
    read_indices(indices, depth, place);
    visit_size(pair.dtype(), [&](auto tag) {
      using T = typename decltype(tag)::type;
      T* out = reinterpret_cast<T*>(y.data());
      for (int64_t i = 0; i < indices.size(); ++i) {
        if (place[i] < 0) continue;
        out[(i / inner * depth + place[i]) * inner + i % inner] = pair.data<T>()[1];
      }
    });
  }

 private:
  // Indices in [-depth, depth) as [0, depth), the others as -1.
  static void read_indices(const Tensor& indices, int64_t depth, int64_t* place) {
    visit(NumericTypes{}, indices.dtype(), [&](auto tag) {
      using T = typename decltype(tag)::type;
      const T* from = indices.data<T>();
      for (int64_t i = 0; i < indices.size(); ++i) {
        const auto value = static_cast<Compute<T>>(from[i]);
        int64_t index = 0;
        if constexpr (std::is_floating_point_v<Compute<T>>) {
          index = std::abs(value) < 0x1p62 ? static_cast<int64_t>(value) : depth;
        } else if constexpr (std::is_unsigned_v<Compute<T>>) {
          index = static_cast<int64_t>(std::min<uint64_t>(value, static_cast<uint64_t>(depth)));
        } else {
          index = value;
        }
        if (index < 0 && index >= -depth) index += depth;
        place[i] = index >= 0 && index < depth ? index : -1;
      }
    });
  }
  int64_t axis;
};
BASCULE_KERNEL("OneHot", OneHot);

}  // namespace
}  // namespace bascule
