// SPDX-License-Identifier: Apache-2.0
// Pow: base and exponent may be of different types, the result has the base's. Integer powers of
// integers are exact (and wrap around); everything else is computed in float32 or float64.
#include <cmath>
#include <limits>

#include "kernels/cast_tile.h"
#include "kernels/elementwise/elementwise.h"

namespace bascule {
namespace {

// The exponents of everyday models are worth a multiplication. The rule depends on the two numbers
// alone, so a result does not depend on what it is computed with.
template <class T>
T power(T x, T exponent) {
  if (exponent == T(2)) return x * x;
  if (exponent == T(3)) return x * x * x;
  if (exponent == T(0.5) && x >= 0) return std::sqrt(x + T(0));
  return std::pow(x, exponent);
}

template <class T>
void power_of_floats(const TileOp&, const void* a, const void* b, const void*, void* y, int64_t n) {
  const T* x = static_cast<const T*>(a);
  const T* exponent = static_cast<const T*>(b);
  T* out = static_cast<T*>(y);
  for (int64_t i = 0; i < n; ++i) out[i] = power(x[i], exponent[i]);
}

template <class T>
void power_of_one(const TileOp&, const void* a, const void* b, const void*, void* y, int64_t n) {
  const T* x = static_cast<const T*>(a);
  const T exponent = *static_cast<const T*>(b);
  T* out = static_cast<T*>(y);
  const auto loop = [&](auto function) {
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) out[i] = function(x[i]);
  };
  if (exponent == T(2)) return loop([](T v) { return v * v; });
  if (exponent == T(3)) return loop([](T v) { return v * v * v; });
  loop([=](T v) { return power(v, exponent); });
}

// The exponent is an int64, or the bits of a uint64.
template <class T, bool exponent_is_signed>
T integer_power(T base, int64_t exponent) {
  if (exponent_is_signed && exponent < 0) {
    if (base == 1) return 1;
    if (base == T(-1)) return exponent % 2 == 0 ? T(1) : T(-1);
    return 0;
  }
  uint64_t result = 1, factor = static_cast<uint64_t>(base);
  for (uint64_t left = static_cast<uint64_t>(exponent); left != 0; left >>= 1) {
    if (left & 1) result *= factor;
    factor *= factor;
  }
  return static_cast<T>(result);
}

// op.nested converts exponents of other types; their size in bytes is in op.alpha.
template <class T, bool exponent_is_signed>
void power_of_integers(const TileOp& op, const void* a, const void* b, const void*, void* y,
                       int64_t n) {
  const T* x = static_cast<const T*>(a);
  T* out = static_cast<T*>(y);
  int64_t exponent[tile_size];
  const int64_t size = static_cast<int64_t>(op.alpha);  // bytes of an exponent
  for (int64_t i = 0; i < n; i += tile_size) {
    const int64_t count = n - i < tile_size ? n - i : tile_size;
    const void* from = static_cast<const std::byte*>(b) + i * size;
    op.nested->run(*op.nested, from, nullptr, nullptr, exponent, count);
    for (int64_t j = 0; j < count; ++j) {
      out[i + j] = integer_power<T, exponent_is_signed>(x[i + j], exponent[j]);
    }
  }
}

template <class T>
void power_of_mixed(const TileOp& op, const void* a, const void* b, const void*, void* y,
                    int64_t n) {
  const T* x = static_cast<const T*>(a);
  T* out = static_cast<T*>(y);
  double exponent[tile_size];
  const int64_t size = static_cast<int64_t>(op.alpha);
  for (int64_t i = 0; i < n; i += tile_size) {
    const int64_t count = n - i < tile_size ? n - i : tile_size;
    const void* from = static_cast<const std::byte*>(b) + i * size;
    op.nested->run(*op.nested, from, nullptr, nullptr, exponent, count);
    for (int64_t j = 0; j < count; ++j) {
      const double result = power(static_cast<double>(x[i + j]), exponent[j]);
      if constexpr (std::is_integral_v<T>) {
        out[i + j] = result >= -0x1p63 && result < 0x1p63
                         ? static_cast<T>(static_cast<int64_t>(result))
                         : std::numeric_limits<T>::min();
      } else {
        out[i + j] = T(static_cast<Compute<T>>(result));
      }
    }
  }
}

// Conversions for operations to point at: they live as long as the process.
const TileOp& exponent_cast(DType from, DType to) {
  struct Casts {
    TileOp to_double[dtype_count], to_int64[dtype_count];
  };
  static const Casts casts = [] {
    Casts made;
    for (int i = 0; i < dtype_count; ++i) {
      made.to_double[i] = cast_tile(static_cast<DType>(i), DType::float64, {});
      made.to_int64[i] = cast_tile(static_cast<DType>(i), DType::int64, {});
    }
    return made;
  }();
  return (to == DType::int64 ? casts.to_int64 : casts.to_double)[static_cast<int>(from)];
}

std::string resolve_power(const NodeSpec& node, ElementwiseOp& op) {
  const DType base = node.dtype(0), exponent = node.dtype(1);
  op.output = base;
  op.tile.operands = 2;
  op.cost = 16;
  if (!contains(NumericTypes{}, exponent)) {
    return std::string("exponent type ") + name_of(exponent) + " is not supported";
  }
  const auto same = [&](auto tag) {
    using T = typename decltype(tag)::type;
    op.tile.run = power_of_floats<T>;
    op.tile.run_b_single = power_of_one<T>;
  };
  if (base == exponent && visit(Types<float, double>{}, base, same)) return "";
  if (base == exponent && contains(Types<Float16, BFloat16>{}, base)) {
    op.tile.run = power_of_floats<float>;
    widen_operation(op.tile, base);
    return "";
  }
  op.tile.alpha = static_cast<float>(item_size(exponent));
  const bool whole = contains(IntegerTypes{}, exponent);
  visit(Types<int32_t, int64_t, float, double, Float16, BFloat16>{}, base, [&](auto tag) {
    using T = typename decltype(tag)::type;
    op.tile.run = power_of_mixed<T>;
    op.tile.nested = &exponent_cast(exponent, DType::float64);
    if constexpr (std::is_integral_v<T>) {
      if (whole) {
        op.tile.run =
            exponent == DType::uint64 ? power_of_integers<T, false> : power_of_integers<T, true>;
        op.tile.nested = &exponent_cast(exponent, DType::int64);
      }
    }
  });
  return require_function(op, base);
}

BASCULE_ELEMENTWISE("Pow", resolve_power, InPlace{0, 0});

}  // namespace
}  // namespace bascule
