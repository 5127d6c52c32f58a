// SPDX-License-Identifier: Apache-2.0
// 16-bit and 8-bit floating-point storage types. Conversions to float are exact; conversions from
// float round to nearest, ties to even, as the ONNX Cast operator asks.
#pragma once

#include <bit>
#include <cstdint>

namespace bascule {

// IEEE 754 binary16.
struct Float16 {
  uint16_t bits = 0;
  Float16() = default;
  explicit Float16(float value);
  operator float() const;  // NOLINT: exact, so implicit
};

// The upper half of a binary32.
struct BFloat16 {
  uint16_t bits = 0;
  BFloat16() = default;
  explicit BFloat16(float value) {
    const uint32_t word = std::bit_cast<uint32_t>(value);
    if ((word & 0x7fffffffu) > 0x7f800000u) {
      bits = static_cast<uint16_t>((word >> 16) | 0x40);
    } else {
      bits = static_cast<uint16_t>((word + 0x7fffu + ((word >> 16) & 1)) >> 16);
    }
  }
  operator float() const { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }
};

// What happens to values beyond the largest finite one.
enum class Overflow { saturate, to_special };

// The 8-bit (and narrower) formats of the ONNX standard, described by parameters. A format without
// infinity overflows to NaN (or saturates); FNUZ formats have one zero and one NaN, 0x80.
struct NarrowFormat {
  int exponent_bits;
  int mantissa_bits;
  int bias;
  bool has_infinity;  // all-ones exponent is Inf and NaN, as in IEEE 754
  bool negative_zero_is_nan;
  bool has_nan;  // otherwise every pattern is a number
};

uint8_t encode_narrow(float value, const NarrowFormat& format, Overflow overflow);
float decode_narrow(uint8_t bits, const NarrowFormat& format);

inline constexpr NarrowFormat format_e4m3fn{4, 3, 7, false, false, true};
inline constexpr NarrowFormat format_e4m3fnuz{4, 3, 8, false, true, true};
inline constexpr NarrowFormat format_e5m2{5, 2, 15, true, false, true};
inline constexpr NarrowFormat format_e5m2fnuz{5, 2, 16, false, true, true};
inline constexpr NarrowFormat format_e2m1{2, 1, 1, false, false, false};
inline constexpr NarrowFormat format_e2m3{2, 3, 1, false, false, false};
inline constexpr NarrowFormat format_e3m2{3, 2, 3, false, false, false};

template <const NarrowFormat& format>
struct Float8 {
  uint8_t bits = 0;
  Float8() = default;
  explicit Float8(float value, Overflow overflow = Overflow::saturate)
      : bits(encode_narrow(value, format, overflow)) {}
  operator float() const { return decode_narrow(bits, format); }
};
using Float8E4M3FN = Float8<format_e4m3fn>;
using Float8E4M3FNUZ = Float8<format_e4m3fnuz>;
using Float8E5M2 = Float8<format_e5m2>;
using Float8E5M2FNUZ = Float8<format_e5m2fnuz>;

// A power of two: no sign, no mantissa, bias 127, 0xff is NaN.
struct Float8E8M0 {
  uint8_t bits = 0;
  Float8E8M0() = default;
  explicit Float8E8M0(float value);
  operator float() const;
};

template <class T>
concept NarrowFloat = requires(T value) {
  { value.bits };
  { static_cast<float>(value) };
};

}  // namespace bascule
