// SPDX-License-Identifier: Apache-2.0
#include "kernels/text/letter_case.h"

#include <cstdint>

namespace bascule {

namespace {

// Upper-case letters first ... last whose lower case is `distance` further; with `step` 2 upper and
// lower case alternate.
struct Letters {
  uint32_t first, last, step, distance;
};
constexpr Letters table[] = {
    {'A', 'Z', 1, 32},     {0xc0, 0xd6, 1, 32},    {0xd8, 0xde, 1, 32},    {0x100, 0x12e, 2, 1},
    {0x132, 0x136, 2, 1},  {0x139, 0x147, 2, 1},   {0x14a, 0x176, 2, 1},   {0x179, 0x17d, 2, 1},
    {0x1cd, 0x1db, 2, 1},  {0x1de, 0x1ee, 2, 1},   {0x1f8, 0x21e, 2, 1},   {0x222, 0x232, 2, 1},
    {0x386, 0x386, 1, 38}, {0x388, 0x38a, 1, 37},  {0x38c, 0x38c, 1, 64},  {0x38e, 0x38f, 1, 63},
    {0x391, 0x3a1, 1, 32}, {0x3a3, 0x3ab, 1, 32},  {0x400, 0x40f, 1, 80},  {0x410, 0x42f, 1, 32},
    {0x460, 0x480, 2, 1},  {0x48a, 0x4be, 2, 1},   {0x4c1, 0x4cd, 2, 1},   {0x4d0, 0x52e, 2, 1},
    {0x531, 0x556, 1, 48}, {0x1e00, 0x1e94, 2, 1}, {0x1ea0, 0x1efe, 2, 1},
};

uint32_t lower(uint32_t letter) {
  for (const Letters& row : table) {
    if (letter >= row.first && letter <= row.last && (letter - row.first) % row.step == 0) {
      return letter + row.distance;
    }
  }
  return letter;
}

uint32_t upper(uint32_t letter) {
  if (letter == 0xff) return 0x178;
  if (letter == 0x3c2) return 0x3a3;  // final sigma
  for (const Letters& row : table) {
    const uint32_t capital = letter - row.distance;
    if (letter >= row.first + row.distance && capital <= row.last &&
        (capital - row.first) % row.step == 0) {
      return capital;
    }
  }
  return letter;
}

template <class Change>
std::string change_case(const std::string& text, Change change) {
  std::string result;
  result.reserve(text.size());
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  for (size_t i = 0; i < text.size(); ++i) {
    const uint8_t head = byte(i);
    const size_t more = head >= 0xc2 && head <= 0xdf ? 1 : head >= 0xe0 && head <= 0xef ? 2 : 0;
    uint32_t letter = more == 1 ? head & 0x1fu : more == 2 ? head & 0x0fu : head;
    bool whole = head < 0x80 || more > 0;
    for (size_t k = 1; k <= more && whole; ++k) {
      whole = i + k < text.size() && (byte(i + k) & 0xc0) == 0x80;
      if (whole) letter = (letter << 6) | (byte(i + k) & 0x3fu);
    }
    if (!whole) {
      result += text[i];
      continue;
    }
    const uint32_t changed = change(letter);
    i += more;
    if (changed < 0x80) {
      result += static_cast<char>(changed);
    } else if (changed < 0x800) {
      result += static_cast<char>(0xc0 | (changed >> 6));
      result += static_cast<char>(0x80 | (changed & 0x3f));
    } else {
      result += static_cast<char>(0xe0 | (changed >> 12));
      result += static_cast<char>(0x80 | ((changed >> 6) & 0x3f));
      result += static_cast<char>(0x80 | (changed & 0x3f));
    }
  }
  return result;
}

}  // namespace

std::string to_lower(const std::string& text) { return change_case(text, lower); }
std::string to_upper(const std::string& text) { return change_case(text, upper); }

}  // namespace bascule
