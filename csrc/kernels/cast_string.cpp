// SPDX-License-Identifier: Apache-2.0
#include "kernels/cast_string.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <string_view>
#include <type_traits>

#include "core/error.h"

namespace bascule {
namespace {

using TextTypes =
    Types<float, double, int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t,
          Float16, BFloat16, Float8E4M3FN, Float8E4M3FNUZ, Float8E5M2, Float8E5M2FNUZ, Float8E8M0>;
using ParsedTypes =
    Types<float, double, int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t>;

template <class T>
std::string text_of(T value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[64];
  const T magnitude = std::fabs(value);
  const bool plain = magnitude == 0 || (magnitude >= T(1e-4) && magnitude < T(1e16));
  const auto format = plain ? std::chars_format::fixed : std::chars_format::scientific;
  std::string text(buffer, std::to_chars(buffer, buffer + sizeof(buffer), value, format).ptr);
  if (plain && text.find('.') == std::string::npos) text += ".0";
  return text;
}

// The fewest digits that tell a narrow float from its neighbours are not more than what a few
// decimal places give: tried one by one. is_same(float) says whether a number rounds to the float.
template <class IsSame>
std::string narrow_text(float wide, IsSame&& is_same) {
  if (!std::isfinite(wide) || wide == 0) return text_of(wide);
  char buffer[64];
  for (int digits = 0; digits < 9; ++digits) {
    const auto end =
        std::to_chars(buffer, buffer + sizeof(buffer), wide, std::chars_format::scientific, digits)
            .ptr;
    float back = 0;
    std::from_chars(buffer, end, back);
    if (is_same(back)) return text_of(back);
  }
  return text_of(wide);
}

// The number of a packed type that is next to x; x itself beyond the largest.
float decode_nearest(float x, const NarrowFormat& format) {
  const float nearest = decode_narrow(encode_narrow(x, format, Overflow::saturate), format);
  const int total = format.exponent_bits + format.mantissa_bits;
  const float largest = decode_narrow(static_cast<uint8_t>((1 << total) - 1), format);
  return std::fabs(x) > largest ? x : nearest;
}

[[noreturn]] void not_a_number(const std::string& text) {
  invalid("the string '" + text.substr(0, 40) + "' is not a number");
}

template <class T>
bool parse(std::string_view text, T& value) {
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  if (result.ptr != text.data() + text.size()) return false;
  if (result.ec == std::errc::result_out_of_range) {
    if constexpr (std::is_floating_point_v<T>) {
      // Too small or too large: the exponent's sign says which.
      const size_t e = text.find_first_of("eE");
      const bool small = e != std::string_view::npos && e + 1 < text.size() && text[e + 1] == '-';
      value = small ? T{0} : std::numeric_limits<T>::infinity();
      if (text.front() == '-') value = -value;
      return true;
    }
  }
  return result.ec == std::errc{};
}

std::string_view stripped(const std::string& text) {
  std::string_view view = text;
  const auto blank = [](char c) { return c == ' ' || (c >= '\t' && c <= '\r'); };
  while (!view.empty() && blank(view.front())) view.remove_prefix(1);
  while (!view.empty() && blank(view.back())) view.remove_suffix(1);
  if (view.size() > 1 && view.front() == '+' && view[1] != '-') view.remove_prefix(1);
  return view;
}

template <class T>
T number_of(const std::string& text) {
  const std::string_view view = stripped(text);
  if constexpr (std::is_integral_v<T>) {
    T whole;
    if (parse(view, whole)) return whole;
    double value;
    if (!parse(view, value) || !(value >= -0x1p63 && value < 0x1p63)) not_a_number(text);
    return static_cast<T>(static_cast<int64_t>(value));
  } else {
    T value;
    if (!parse(view, value)) not_a_number(text);
    return value;
  }
}

bool truth_of(const std::string& text) {
  std::string lower(stripped(text));
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  if (lower == "true") return true;
  if (lower == "false") return false;
  return number_of<double>(text) != 0;
}

}  // namespace

void cast_to_strings(const Tensor& from, const NarrowFormat* format, Tensor& to) {
  std::string* out = to.data<std::string>();
  const int64_t count = from.size();
  if (from.dtype() == DType::boolean) {
    for (int64_t i = 0; i < count; ++i) out[i] = from.data<bool>()[i] ? "True" : "False";
    return;
  }
  visit(TextTypes{}, from.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    for (int64_t i = 0; i < count; ++i) {
      const T value = from.data<T>()[i];
      if constexpr (std::is_integral_v<T>) {
        out[i] = std::to_string(value);
      } else if constexpr (NarrowFloat<T>) {
        out[i] = narrow_text(value, [&](float x) { return T(x).bits == value.bits; });
      } else if (std::is_same_v<T, float> && format != nullptr) {
        const float wide = static_cast<float>(value);
        out[i] = narrow_text(wide, [&](float x) { return decode_nearest(x, *format) == wide; });
      } else {
        out[i] = text_of(value);
      }
    }
  });
}

void cast_from_strings(const Tensor& from, Tensor& to) {
  const std::string* text = from.data<std::string>();
  const int64_t count = from.size();
  if (to.dtype() == DType::boolean) {
    for (int64_t i = 0; i < count; ++i) to.data<bool>()[i] = truth_of(text[i]);
    return;
  }
  visit(ParsedTypes{}, to.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    for (int64_t i = 0; i < count; ++i) to.data<T>()[i] = number_of<T>(text[i]);
  });
}

}  // namespace bascule
