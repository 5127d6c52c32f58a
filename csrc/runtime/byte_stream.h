// SPDX-License-Identifier: Apache-2.0
// Numbers and texts in a row of bytes, little-endian as the machines that run this are. The reader
// trusts nothing.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "core/error.h"

namespace bascule {

class ByteWriter {
 public:
  template <class T>
  void number(T value) {
    static_assert(std::is_arithmetic_v<T>);
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof(T));
  }
  void count(size_t value) { number(static_cast<uint64_t>(value)); }
  void text(std::string_view value) {
    count(value.size());
    bytes_.append(value);
  }
  template <class T>
  void numbers(std::span<const T> values) {
    count(values.size());
    bytes_.append(reinterpret_cast<const char*>(values.data()), values.size_bytes());
  }
  void raw(std::string_view bytes) { bytes_.append(bytes); }
  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

class ByteReader {
 public:
  explicit ByteReader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  template <class T>
  T number() {
    T value;
    std::memcpy(&value, take(sizeof(T)), sizeof(T));
    return value;
  }
  // How many items of at least `item` bytes each follow.
  size_t count(size_t item = 1) {
    const auto value = number<uint64_t>();
    if (value > bytes_.size() / item) damaged();
    return static_cast<size_t>(value);
  }
  std::string text() {
    const size_t size = count();
    return {reinterpret_cast<const char*>(take(size)), size};
  }
  template <class T>
  std::vector<T> numbers() {
    std::vector<T> values(count(sizeof(T)));
    const std::byte* from = take(values.size() * sizeof(T));
    if (!values.empty()) std::memcpy(values.data(), from, values.size() * sizeof(T));
    return values;
  }
  bool at_end() const { return bytes_.empty(); }

  [[noreturn]] static void damaged() { fail("the plan file is damaged"); }

 private:
  const std::byte* take(size_t size) {
    if (size > bytes_.size()) damaged();
    const std::byte* from = bytes_.data();
    bytes_ = bytes_.subspan(size);
    return from;
  }

  std::span<const std::byte> bytes_;
};

}  // namespace bascule
