// SPDX-License-Identifier: Apache-2.0
// A conversion is one loop where its source is one of four wide types, else two: widen exactly,
// then store. That is a few dozen loops for all pairs of types.
#include "kernels/cast_tile.h"

#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <type_traits>

#include "kernels/elementwise/elementwise.h"

namespace bascule {
namespace {

constexpr float saturating = 1;  // op.alpha; op.beta is the round mode

// Beyond its range a float becomes the smallest number of the next wider integer type, cut down to
// T: what x86 does, without undefined behaviour.
template <class T, class From>
T to_integer(From value) {
  if constexpr (sizeof(T) < 4 || std::is_same_v<T, int32_t>) {
    const bool fits = value >= From(-2147483648.0) && value < From(2147483648.0);
    return static_cast<T>(fits ? static_cast<int32_t>(value) : std::numeric_limits<int32_t>::min());
  } else {
    if (std::is_same_v<T, uint64_t> && value >= From(0x1p63)) {
      return value < From(0x1p64) ? static_cast<T>(value) : std::numeric_limits<T>::max();
    }
    const bool fits = value >= From(-0x1p63) && value < From(0x1p63);
    return static_cast<T>(fits ? static_cast<int64_t>(value) : std::numeric_limits<int64_t>::min());
  }
}

// The float beside `value` whose last bit is set unless it is exact: narrowing it again rounds the
// same way as narrowing `value` would.
float round_to_odd(double value) {
  const float near = static_cast<float>(value);
  if (static_cast<double>(near) == value || std::isnan(value) || std::isinf(near)) return near;
  uint32_t bits = std::bit_cast<uint32_t>(near);
  if (std::fabs(static_cast<double>(near)) > std::fabs(value)) --bits;
  return std::bit_cast<float>(bits | 1);
}

// Integers lose what a double cannot hold in the same way.
template <class T>
  requires(std::is_integral_v<T>)
float round_to_odd(T value) {
  const bool negative = value < 0;
  const auto wide = static_cast<uint64_t>(value);
  uint64_t magnitude = negative ? 0 - wide : wide;
  const int excess = std::bit_width(magnitude) - 53;
  if (excess > 0) {
    const uint64_t lost = magnitude & ((uint64_t{1} << excess) - 1);
    magnitude = ((magnitude >> excess) | (lost != 0)) << excess;
  }
  const double exact = static_cast<double>(magnitude);
  return round_to_odd(negative ? -exact : exact);
}

Float8E8M0 to_power_of_two(float value, bool saturate, RoundMode mode) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  uint32_t exponent = (bits >> 23) & 0xff;
  uint32_t fraction = bits & 0x7fffff;
  Float8E8M0 result;
  result.bits = 0xff;
  if (exponent == 0xff) return result;
  if (exponent == 0) {
    // Subnormal floats: the smallest power has a fraction of one half. What is below becomes it.
    constexpr uint32_t smallest = 0x400000;
    fraction = fraction > smallest ? (fraction - smallest) * 2 : 0;
  }
  bool up = mode == RoundMode::up && fraction != 0;
  if (mode == RoundMode::nearest) {
    up = fraction > 0x400000 || (fraction == 0x400000 && exponent > 0);
  }
  if (up && !(saturate && exponent == 0xfe)) ++exponent;
  result.bits = static_cast<uint8_t>(exponent);
  return result;
}

template <class From>
float to_be_rounded(From value) {
  if constexpr (std::is_same_v<From, float>) {
    return value;
  } else {
    return round_to_odd(value);
  }
}

template <class To, class From>
To convert(From value, const TileOp& op) {
  if constexpr (std::is_same_v<To, bool>) {
    return value != 0;
  } else if constexpr (std::is_same_v<To, Float8E8M0>) {
    return to_power_of_two(to_be_rounded(value), op.alpha == saturating,
                           static_cast<RoundMode>(op.beta));
  } else if constexpr (NarrowFloat<To>) {
    const float narrow = to_be_rounded(value);
    if constexpr (requires { To(narrow, Overflow::saturate); }) {
      return To(narrow, op.alpha == saturating ? Overflow::saturate : Overflow::to_special);
    } else {
      return To(narrow);
    }
  } else if constexpr (std::is_floating_point_v<From> && std::is_integral_v<To>) {
    return to_integer<To>(value);
  } else {
    return static_cast<To>(value);
  }
}

using TargetTypes = Types<float, double, int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t,
                          uint32_t, uint64_t, bool, Float16, BFloat16, Float8E4M3FN, Float8E4M3FNUZ,
                          Float8E5M2, Float8E5M2FNUZ, Float8E8M0>;

template <class From>
TileFunction store_as(DType to) {
  TileFunction function = nullptr;
  visit(TargetTypes{}, to, [&](auto tag) {
    using To = typename decltype(tag)::type;
    function = map_unary<From, To, convert<To, From>>;
  });
  return function;
}

// 8-bit floats are read from a table of all their values.
template <class T>
float decode(T value, const TileOp&) {
  static const auto table = [] {
    std::array<float, 256> values;
    for (int i = 0; i < 256; ++i) {
      T one;
      one.bits = static_cast<uint8_t>(i);
      values[static_cast<size_t>(i)] = static_cast<float>(one);
    }
    return values;
  }();
  return table[value.bits];
}

template <class From, class To>
To exactly(From value, const TileOp&) {
  return static_cast<To>(value);
}

TileFunction widen_to_float(DType from) {
  TileFunction function = nullptr;
  if (from == DType::float16 || from == DType::bfloat16) return half_functions_of(from).widen;
  visit(Types<Float8E4M3FN, Float8E4M3FNUZ, Float8E5M2, Float8E5M2FNUZ, Float8E8M0>{}, from,
        [&](auto tag) {
          using From = typename decltype(tag)::type;
          function = map_unary<From, float, decode<From>>;
        });
  if (from == DType::boolean) from = DType::uint8;  // 0 and 1
  visit(Types<int8_t, uint8_t, int16_t, uint16_t>{}, from, [&](auto tag) {
    using From = typename decltype(tag)::type;
    function = map_unary<From, float, exactly<From, float>>;
  });
  return function;
}

TileFunction widen_to_int64(DType from) {
  TileFunction function = nullptr;
  visit(Types<int8_t, uint8_t, int16_t, uint16_t, int32_t, uint32_t, bool>{}, from, [&](auto tag) {
    using From = typename decltype(tag)::type;
    function = map_unary<From, int64_t, exactly<From, int64_t>>;
  });
  return function;
}

template <class Middle, int64_t from_size, int64_t to_size>
void two_steps(const TileOp& op, const void* a, const void*, const void*, void* y, int64_t n) {
  Middle middle[tile_size];
  const std::byte* x = static_cast<const std::byte*>(a);
  std::byte* out = static_cast<std::byte*>(y);
  for (int64_t i = 0; i < n; i += tile_size) {
    const int64_t count = n - i < tile_size ? n - i : tile_size;
    op.inner(op, x + i * from_size, nullptr, nullptr, middle, count);
    op.inner_b(op, middle, nullptr, nullptr, out + i * to_size, count);
  }
}

// In place only elements of one size are converted: a step never overtakes what it has to read.
template <class Middle, int64_t from_size>
TileFunction two_steps_to(int64_t to_size) {
  switch (to_size) {
    case 1:
      return two_steps<Middle, from_size, 1>;
    case 2:
      return two_steps<Middle, from_size, 2>;
    case 4:
      return two_steps<Middle, from_size, 4>;
    default:
      return two_steps<Middle, from_size, 8>;
  }
}
template <class Middle>
TileFunction two_steps_of(int64_t from_size, int64_t to_size) {
  switch (from_size) {
    case 1:
      return two_steps_to<Middle, 1>(to_size);
    case 2:
      return two_steps_to<Middle, 2>(to_size);
    default:
      return two_steps_to<Middle, 4>(to_size);
  }
}

template <class T>
void copy_run(const TileOp&, const void* a, const void*, const void*, void* y, int64_t n) {
  if (a != y && n > 0) __builtin_memcpy(y, a, static_cast<size_t>(n) * sizeof(T));
}

}  // namespace

TileOp cast_tile(DType from, DType to, CastOptions options) {
  TileOp op;
  op.operands = 1;
  op.alpha = options.saturate ? saturating : 0;
  op.beta = static_cast<float>(options.round_mode);
  const bool castable = contains(TargetTypes{}, from) && contains(TargetTypes{}, to);
  if (!castable) return op;
  if (from == to) {
    const int64_t size = item_size(from);
    op.run = size == 1   ? copy_run<uint8_t>
             : size == 2 ? copy_run<uint16_t>
             : size == 4 ? copy_run<uint32_t>
                         : copy_run<uint64_t>;
    return op;
  }
  const bool to_half = to == DType::float16 || to == DType::bfloat16;
  const auto store_float = [&] {
    return to_half ? half_functions_of(to).narrow : store_as<float>(to);
  };
  switch (from) {
    case DType::float32:
      op.run = store_float();
      return op;
    case DType::float64:
      op.run =
          to == DType::float32 && options.rounds_again
              ? map_unary<double, float, [](double x, const TileOp&) { return round_to_odd(x); }>
              : store_as<double>(to);
      return op;
    case DType::int64:
      op.run = store_as<int64_t>(to);
      return op;
    case DType::uint64:
      op.run = store_as<uint64_t>(to);
      return op;
    default:
      break;
  }
  if (from == DType::int32 && to == DType::float32) {
    op.run = map_unary<int32_t, float, exactly<int32_t, float>>;
    return op;
  }
  // Small types are exact in float32, which vectorizes; integers among themselves go over int64.
  const bool to_integer = contains(IntegerTypes{}, to);
  const TileFunction to_float = widen_to_float(from), to_int64 = widen_to_int64(from);
  if (to_float != nullptr && (to_int64 == nullptr || !to_integer)) {
    if (to == DType::float32) {
      op.run = to_float;
      return op;
    }
    op.inner = to_float;
    op.inner_b = store_float();
    op.run = two_steps_of<float>(item_size(from), item_size(to));
    return op;
  }
  if (to == DType::int64) {
    op.run = to_int64;
    return op;
  }
  op.inner = to_int64;
  op.inner_b = store_as<int64_t>(to);
  op.run = two_steps_of<int64_t>(item_size(from), item_size(to));
  return op;
}

}  // namespace bascule
