// SPDX-License-Identifier: Apache-2.0
#include "core/narrow_float.h"

#include <cmath>
#include <limits>

namespace bascule {

Float16::Float16(float value) {
  const uint32_t word = std::bit_cast<uint32_t>(value);
  const uint32_t sign = (word >> 16) & 0x8000u;
  const uint32_t magnitude = word & 0x7fffffffu;
  uint32_t result;
  if (magnitude > 0x7f800000u) {
    result = 0x7e00u | ((magnitude >> 13) & 0x3ffu);
  } else if (magnitude >= 0x477ff000u) {  // rounds to 65536 or more
    result = 0x7c00u;
  } else if (magnitude < 0x38800000u) {  // subnormal: let the adder round
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    result = std::bit_cast<uint32_t>(shifted) - 0x3f000000u;
  } else {
    result = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1)) >> 13;
  }
  bits = static_cast<uint16_t>(sign | result);
}

Float16::operator float() const {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16;
  const uint32_t magnitude = bits & 0x7fffu;
  uint32_t word;
  if (magnitude >= 0x7c00u) {
    word = 0x7f800000u | ((magnitude & 0x3ffu) << 13);
  } else if (magnitude >= 0x400u) {
    word = (magnitude << 13) + 0x38000000u;
  } else {
    word = std::bit_cast<uint32_t>(static_cast<float>(magnitude) * 0x1p-24f);
  }
  return std::bit_cast<float>(sign | word);
}

uint8_t encode_narrow(float value, const NarrowFormat& format, Overflow overflow) {
  const int total = format.exponent_bits + format.mantissa_bits;
  const uint8_t sign = static_cast<uint8_t>(std::signbit(value) ? 1u << total : 0u);
  const int mantissa = format.mantissa_bits;
  const uint8_t magnitude_mask = static_cast<uint8_t>((1u << total) - 1);
  // The largest finite pattern, and what stands for "not a number".
  uint8_t largest = magnitude_mask;
  if (format.has_infinity) {
    largest = static_cast<uint8_t>(magnitude_mask - (1u << mantissa));
  } else if (format.has_nan && !format.negative_zero_is_nan) {
    largest = static_cast<uint8_t>(magnitude_mask - 1);
  }
  const uint8_t nan = format.negative_zero_is_nan ? static_cast<uint8_t>(1u << total)
                                                  : static_cast<uint8_t>(sign | magnitude_mask);
  if (std::isnan(value)) {
    return format.has_nan ? nan : static_cast<uint8_t>(1u << total);
  }
  const auto beyond = [&]() -> uint8_t {
    if (overflow == Overflow::saturate || !format.has_nan) {
      return static_cast<uint8_t>(sign | largest);
    }
    if (format.has_infinity) return static_cast<uint8_t>(sign | (largest + 1));
    return nan;
  };
  if (std::isinf(value)) return beyond();
  const float magnitude = std::fabs(value);
  if (magnitude == 0) return format.negative_zero_is_nan ? 0 : sign;
  int exponent;
  std::frexp(magnitude, &exponent);
  exponent -= 1;
  const int smallest = 1 - format.bias;
  const int scale = (exponent < smallest ? smallest : exponent) - mantissa;
  // nearbyint rounds ties to even in the default rounding mode.
  const float steps = std::nearbyint(std::ldexp(magnitude, -scale));
  int units = static_cast<int>(steps);
  int pattern;
  if (exponent < smallest) {
    pattern = units;  // may carry into the smallest normal number, which is what it should be
  } else {
    pattern = ((exponent + format.bias) << mantissa) + (units - (1 << mantissa));
  }
  if (pattern > largest) return beyond();
  if (pattern == 0 && format.negative_zero_is_nan) return 0;
  return static_cast<uint8_t>(sign | pattern);
}

float decode_narrow(uint8_t bits, const NarrowFormat& format) {
  const int mantissa_bits = format.mantissa_bits;
  const int total = format.exponent_bits + mantissa_bits;
  const bool negative = (bits >> total) & 1;
  const int magnitude = bits & ((1 << total) - 1);
  const int exponent = magnitude >> mantissa_bits;
  const int mantissa = magnitude & ((1 << mantissa_bits) - 1);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  if (format.negative_zero_is_nan && negative && magnitude == 0) return nan;
  if (format.has_infinity && exponent == (1 << format.exponent_bits) - 1) {
    if (mantissa) return nan;
    return negative ? -std::numeric_limits<float>::infinity()
                    : std::numeric_limits<float>::infinity();
  }
  if (!format.has_infinity && format.has_nan && !format.negative_zero_is_nan &&
      magnitude == (1 << total) - 1) {
    return nan;
  }
  const float value =
      exponent == 0 ? std::ldexp(static_cast<float>(mantissa), 1 - format.bias - mantissa_bits)
                    : std::ldexp(static_cast<float>(mantissa + (1 << mantissa_bits)),
                                 exponent - format.bias - mantissa_bits);
  return negative ? -value : value;
}

Float8E8M0::Float8E8M0(float value) {
  if (std::isnan(value) || std::isinf(value) || value < 0) {
    bits = 0xff;
    return;
  }
  if (value == 0) {
    bits = 0;
    return;
  }
  int exponent;
  const float fraction = std::frexp(value, &exponent);  // in [0.5, 1)
  int power = exponent - 1 + 127;
  if (fraction > 0.75f || (fraction == 0.75f && (power & 1))) power += 1;
  bits = static_cast<uint8_t>(power < 0 ? 0 : power > 254 ? 254 : power);
}

Float8E8M0::operator float() const {
  if (bits == 0xff) return std::numeric_limits<float>::quiet_NaN();
  return std::ldexp(1.0f, static_cast<int>(bits) - 127);
}

}  // namespace bascule
