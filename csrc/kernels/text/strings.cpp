// SPDX-License-Identifier: Apache-2.0
// StringConcat, StringSplit and StringNormalizer, on UTF-8 text.
#include <algorithm>
#include <set>
#include <string_view>
#include <vector>

#include "kernels/text/letter_case.h"
#include "runtime/kernel.h"

namespace bascule {
namespace {

// The index of output element `i` in an input that is broadcast to `shape`.
int64_t broadcast_index(const Shape& input, const Shape& shape, int64_t i) {
  int64_t result = 0, stride = 1;
  for (int axis = shape.rank() - 1, own = input.rank() - 1; own >= 0; --axis, --own) {
    if (input[own] != 1) result += i % shape[axis] * stride;
    stride *= input[own];
    i /= shape[axis];
  }
  return result;
}

struct StringConcat final : Kernel {
  void run(RunContext& c) const override {
    const Tensor& a = c.input(0);
    const Tensor& b = c.input(1);
    const Shape shape = broadcast(a.shape(), b.shape());
    Tensor& y = c.output(0, DType::string, shape);
    for (int64_t i = 0; i < y.size(); ++i) {
      y.data<std::string>()[i] = a.data<std::string>()[broadcast_index(a.shape(), shape, i)] +
                                 b.data<std::string>()[broadcast_index(b.shape(), shape, i)];
    }
  }
};
BASCULE_KERNEL("StringConcat", StringConcat);

// Splits as Python's str.split does.
struct StringSplit final : Kernel {
  explicit StringSplit(const NodeSpec& node)
      : delimiter(node.get_string("delimiter", "")),
        most(node.has("maxsplit") ? node.get_int("maxsplit", 0) : -1) {}
  void run(RunContext& c) const override {
    const Tensor& x = c.input(0);
    std::vector<std::vector<std::string_view>> parts;
    int64_t longest = 0;
    for (const std::string& text : x.elements<std::string>()) {
      parts.push_back(delimiter.empty() ? at_spaces(text) : at_delimiters(text));
      longest = std::max(longest, static_cast<int64_t>(parts.back().size()));
    }
    Shape shape = x.shape();
    shape.push_back(longest);
    Tensor& y = c.output(0, DType::string, shape);
    Tensor& counts = c.output(1, DType::int64, x.shape());
    for (size_t i = 0; i < parts.size(); ++i) {
      const auto row = static_cast<int64_t>(i);
      std::copy(parts[i].begin(), parts[i].end(), y.data<std::string>() + row * longest);
      counts.data<int64_t>()[row] = static_cast<int64_t>(parts[i].size());
    }
  }

 private:
  bool full(const std::vector<std::string_view>& parts) const {
    return most >= 0 && static_cast<int64_t>(parts.size()) == most;
  }
  std::vector<std::string_view> at_delimiters(std::string_view text) const {
    std::vector<std::string_view> parts;
    if (text.empty()) return parts;
    for (size_t end; !full(parts) && (end = text.find(delimiter)) != std::string_view::npos;) {
      parts.push_back(text.substr(0, end));
      text.remove_prefix(end + delimiter.size());
    }
    parts.push_back(text);
    return parts;
  }
  std::vector<std::string_view> at_spaces(std::string_view text) const {
    static constexpr std::string_view spaces = " \t\n\r\v\f";
    std::vector<std::string_view> parts;
    for (;;) {
      const size_t first = text.find_first_not_of(spaces);
      if (first == std::string_view::npos) return parts;
      text.remove_prefix(first);
      const size_t end = full(parts) ? std::string_view::npos : text.find_first_of(spaces);
      parts.push_back(text.substr(0, end));
      if (end == std::string_view::npos) return parts;
      text.remove_prefix(end);
    }
  }
  std::string delimiter;
  int64_t most;
};
BASCULE_KERNEL("StringSplit", StringSplit);

struct StringNormalizer final : Kernel {
  explicit StringNormalizer(const NodeSpec& node)
      : case_sensitive(node.get_int("is_case_sensitive", 0) != 0) {
    const std::string action = node.get_string("case_change_action", "NONE");
    if (action == "LOWER") {
      change = to_lower;
    } else if (action == "UPPER") {
      change = to_upper;
    } else if (action != "NONE") {
      invalid("case_change_action '" + action + "' is not one of LOWER, UPPER, NONE");
    }
    for (const std::string& word : node.get_strings("stopwords")) {
      stopwords.insert(case_sensitive ? word : to_lower(word));
    }
  }
  void run(RunContext& c) const override {
    const Tensor& x = c.input(0);
    if (x.rank() != 1 && !(x.rank() == 2 && x.dim(0) == 1)) {
      invalid("StringNormalizer: expected [C] or [1, C], got shape " + x.shape().text());
    }
    std::vector<std::string> kept;
    for (const std::string& text : x.elements<std::string>()) {
      if (stopwords.count(case_sensitive ? text : to_lower(text)) > 0) continue;
      kept.push_back(change != nullptr ? change(text) : text);
    }
    // A list without elements is one empty string.
    if (kept.empty()) kept.emplace_back();
    Shape shape = x.shape();
    shape[shape.rank() - 1] = static_cast<int64_t>(kept.size());
    Tensor& y = c.output(0, DType::string, shape);
    std::move(kept.begin(), kept.end(), y.data<std::string>());
  }
  bool case_sensitive;
  std::string (*change)(const std::string&) = nullptr;
  std::set<std::string> stopwords;
};
BASCULE_KERNEL("StringNormalizer", StringNormalizer);

}  // namespace
}  // namespace bascule
