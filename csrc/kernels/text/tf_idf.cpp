// SPDX-License-Identifier: Apache-2.0
// TfIdfVectorizer: how often each n-gram of a pool occurs in a row, perhaps weighted. The pool is a
// tree whose edges are tokens; strings are numbered first.
#include <algorithm>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "runtime/kernel.h"

namespace bascule {
namespace {

enum class Weighting : uint8_t { tf, idf, tf_idf };

// No tensor has more.
constexpr int64_t most_elements = int64_t{1} << 48;

class TfIdf final : public Kernel {
 public:
  static Capability capability(const NodeSpec& node) {
    return require_dtype(node, 0, Types<std::string, int32_t, int64_t>{});
  }

  explicit TfIdf(const NodeSpec& node)
      : shortest_(node.get_int("min_gram_length", 1)),
        longest_(node.get_int("max_gram_length", 1)),
        skips_(node.get_int("max_skip_count", 0)),
        weights_(node.get_floats("weights")) {
    const std::string mode = node.get_string("mode", "TF");
    if (mode != "TF" && mode != "IDF" && mode != "TFIDF") fail("mode '" + mode + "' is not known");
    weighting_ = mode == "TF" ? Weighting::tf : mode == "IDF" ? Weighting::idf : Weighting::tf_idf;
    if (shortest_ < 1 || longest_ < shortest_ || skips_ < 0) {
      fail("n-grams of " + std::to_string(shortest_) + " to " + std::to_string(longest_) +
           " tokens with " + std::to_string(skips_) + " skips");
    }
    std::vector<int64_t> pool = node.get_ints("pool_int64s");
    for (const std::string& token : node.get_strings("pool_strings")) {
      pool.push_back(numbers_.emplace(token, static_cast<int64_t>(numbers_.size())).first->second);
    }
    add_pool(pool, node.get_ints("ngram_counts"), node.get_ints("ngram_indexes"));
    if (!weights_.empty() && static_cast<int64_t>(weights_.size()) < size_) {
      fail("weights has " + std::to_string(weights_.size()) + " elements, expected " +
           std::to_string(size_));
    }
  }

  void run(RunContext& c) const override {
    const Tensor& x = c.input(0);
    if (x.rank() > 2) invalid("input has shape " + x.shape().text() + ", expected one or two axes");
    const int64_t columns = x.rank() == 0 ? 1 : x.shape().back();
    const int64_t rows = x.rank() == 2 ? x.dim(0) : 1;
    int64_t* tokens = c.workspace<int64_t>(x.size());
    number_tokens(x, tokens);
    const Shape shape = x.rank() == 2 ? Shape{rows, size_} : Shape{size_};
    float* y = c.output(0, DType::float32, shape).data<float>();
    for (int64_t row = 0; row < rows; ++row) {
      float* counts = y + row * size_;
      std::fill_n(counts, size_, 0.0f);
      count(tokens + row * columns, columns, counts);
      for (int64_t i = 0; weighting_ != Weighting::tf && i < size_; ++i) {
        if (weighting_ == Weighting::idf) counts[i] = counts[i] > 0 ? 1.0f : 0.0f;
        if (!weights_.empty()) counts[i] *= weights_[static_cast<size_t>(i)];
      }
    }
  }

 private:
  struct Node {
    std::unordered_map<int64_t, size_t> next;
    int64_t index = -1;  // in the output, where an n-gram ends
  };

  void add_pool(const std::vector<int64_t>& pool, const std::vector<int64_t>& starts,
                const std::vector<int64_t>& indexes) {
    size_t gram = 0;
    const auto total = static_cast<int64_t>(pool.size());
    for (size_t k = 0; k < starts.size(); ++k) {
      const int64_t begin = starts[k], end = k + 1 < starts.size() ? starts[k + 1] : total;
      const auto length = static_cast<int64_t>(k) + 1;
      if (begin < 0 || end < begin || end > total || (end - begin) % length != 0) {
        fail("ngram_counts does not cut the pool of " + std::to_string(total) + " tokens");
      }
      for (int64_t at = begin; at < end; at += length, ++gram) {
        if (gram >= indexes.size() || indexes[gram] < 0) {
          fail("ngram_indexes has no index for n-gram " + std::to_string(gram));
        }
        if (length < shortest_ || length > longest_) continue;
        size_t place = 0;
        for (int64_t i = 0; i < length; ++i) {
          const auto [found, added] =
              nodes_[place].next.emplace(pool[static_cast<size_t>(at + i)], nodes_.size());
          place = found->second;
          if (added) nodes_.emplace_back();
        }
        nodes_[place].index = indexes[gram];
      }
    }
    for (const int64_t index : indexes) {
      if (index >= most_elements) fail("ngram_indexes holds " + std::to_string(index));
      size_ = std::max(size_, index + 1);
    }
  }

  void number_tokens(const Tensor& x, int64_t* tokens) const {
    for (int64_t i = 0; i < x.size(); ++i) {
      if (x.dtype() == DType::string) {
        const auto found = numbers_.find(x.data<std::string>()[i]);
        tokens[i] = found != numbers_.end() ? found->second : -1;
      } else {
        tokens[i] = x.dtype() == DType::int32 ? static_cast<int64_t>(x.data<int32_t>()[i])
                                              : x.data<int64_t>()[i];
      }
    }
  }

  void count(const int64_t* tokens, int64_t n, float* counts) const {
    for (int64_t distance = 1; distance <= std::min(skips_, n) + 1; ++distance) {
      for (int64_t start = 0; start < n; ++start) {
        size_t place = 0;
        for (int64_t at = start, length = 1; at < n && length <= longest_;
             at += distance, ++length) {
          const auto found = nodes_[place].next.find(tokens[at]);
          if (found == nodes_[place].next.end()) break;
          place = found->second;
          // Skips mean nothing to single tokens, which count once.
          if (nodes_[place].index >= 0 && (length > 1 || distance == 1)) {
            counts[nodes_[place].index] += 1;
          }
        }
      }
    }
  }

  int64_t shortest_;
  int64_t longest_;
  int64_t skips_;
  Weighting weighting_;
  std::vector<float> weights_;
  std::map<std::string, int64_t> numbers_;
  std::vector<Node> nodes_{1};
  int64_t size_ = 0;
};
BASCULE_KERNEL("TfIdfVectorizer", TfIdf);

}  // namespace
}  // namespace bascule
