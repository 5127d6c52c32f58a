// SPDX-License-Identifier: Apache-2.0
// Einsum: operands are contracted one after the other, each pair as a batch of matrix products.
//
// Every index of the equation is a label; an ellipsis stands for labels of its own, aligned at the
// right. Types narrower than 32 bits are computed in float32 or int32.
#include <algorithm>
#include <array>
#include <cctype>
#include <string>
#include <vector>

#include "kernels/gemm/product.h"
#include "kernels/move/strided_copy.h"
#include "kernels/work_view.h"
#include "kernels/wrapping.h"
#include "runtime/kernel.h"

namespace bascule {
namespace {

// Letters are their own code; axes of an ellipsis, counted from the last, follow.
using Label = int;
constexpr Label ellipsis_labels = 128;
constexpr Label label_count = ellipsis_labels + Shape::max_rank;
constexpr char ellipsis_mark = '.';

// One side of a comma or arrow: letters, and one mark for the ellipsis.
using Term = std::string;

struct Equation {
  std::vector<Term> inputs;
  Term output;
};

Term parse_term(const std::string& text, const std::string& equation) {
  Term term;
  for (size_t i = 0; i < text.size(); ++i) {
    if (std::isalpha(static_cast<unsigned char>(text[i]))) {
      term += text[i];
    } else if (text.compare(i, 3, "...") == 0 && term.find(ellipsis_mark) == Term::npos) {
      term += ellipsis_mark;
      i += 2;
    } else {
      invalid("equation '" + equation + "' is malformed");
    }
  }
  return term;
}

Equation parse_equation(const std::string& given) {
  std::string text = given;
  text.erase(std::remove(text.begin(), text.end(), ' '), text.end());
  Equation equation;
  const size_t arrow = text.find("->");
  std::string left = text.substr(0, arrow);
  for (size_t comma; (comma = left.find(',')) != std::string::npos; left.erase(0, comma + 1)) {
    equation.inputs.push_back(parse_term(left.substr(0, comma), given));
  }
  equation.inputs.push_back(parse_term(left, given));
  std::array<int, ellipsis_labels> uses{};
  for (const Term& term : equation.inputs) {
    for (char label : term) ++uses[static_cast<size_t>(label)];
  }
  if (arrow != std::string::npos) {
    equation.output = parse_term(text.substr(arrow + 2), given);
    for (char label : equation.output) {
      if (uses[static_cast<size_t>(label)] == 0) {
        invalid("equation '" + given + "' has '" + label + "' in its output only");
      }
      if (std::count(equation.output.begin(), equation.output.end(), label) > 1) {
        invalid("equation '" + given + "' has '" + label + "' twice in its output");
      }
    }
    return equation;
  }
  // Without an arrow: the ellipsis, then what occurs once, in the order of letters.
  if (uses[ellipsis_mark] > 0) equation.output += ellipsis_mark;
  for (int label = 'A'; label <= 'z'; ++label) {
    if (uses[static_cast<size_t>(label)] == 1) equation.output += static_cast<char>(label);
  }
  return equation;
}

using Labels = std::vector<Label>;

bool contains(const Labels& labels, Label label) {
  return std::find(labels.begin(), labels.end(), label) != labels.end();
}

// The labels of a term when an ellipsis in it stands for `hidden` axes.
Labels expand(const Term& term, int hidden) {
  Labels labels;
  for (char letter : term) {
    if (letter != ellipsis_mark) {
      labels.push_back(letter);
    } else {
      for (int i = hidden - 1; i >= 0; --i) labels.push_back(ellipsis_labels + i);
    }
  }
  return labels;
}

struct Axis {
  Label label;
  int64_t stride;
};

// A tensor with a label on each axis.
template <class U>
struct Operand {
  const U* data;
  std::vector<Axis> axes;

  Labels labels() const {
    Labels result;
    for (const Axis& axis : axes) result.push_back(axis.label);
    return result;
  }
  int64_t stride(Label label) const {
    for (const Axis& axis : axes) {
      if (axis.label == label) return axis.stride;
    }
    return 0;
  }
};

template <class U>
class Contraction {
 public:
  Contraction(RunContext& c, const std::array<int64_t, label_count>& sizes)
      : c_(c), sizes_(sizes) {}

  int64_t product(const Labels& labels) const {
    Shape shape;
    for (Label label : labels) shape.push_back(size(label));
    return shape.size();
  }

  // Adds a tensor that the result so far is multiplied with. `needed`: labels of later operands
  // and of the output.
  void add(Operand<U> operand, const Labels& needed) {
    if (!started_) {
      result_ = std::move(operand);
      started_ = true;
      return;
    }
    Labels kept = needed;
    const Labels others = operand.labels();
    kept.insert(kept.end(), others.begin(), others.end());
    result_ = sum_away(std::move(result_), kept);
    kept = needed;
    const Labels own = result_.labels();
    kept.insert(kept.end(), own.begin(), own.end());
    operand = sum_away(std::move(operand), kept);
    result_ = multiply(std::move(result_), std::move(operand), needed);
  }

  // The result in this order of axes.
  void finish(const Labels& output, U* y) {
    result_ = sum_away(std::move(result_), output);
    copy(result_, output, y);
  }

 private:
  int64_t size(Label label) const { return sizes_[static_cast<size_t>(label)]; }

  // The order of memory, outermost first.
  bool lies_as(const Operand<U>& operand, const Labels& order) const {
    int64_t stride = 1;
    for (size_t i = order.size(); i-- > 0;) {
      if (size(order[i]) != 1 && operand.stride(order[i]) != stride) return false;
      stride *= size(order[i]);
    }
    return true;
  }

  void copy(const Operand<U>& operand, const Labels& order, U* to) const {
    StridedBox box;
    int64_t stride = product(order);
    if (stride == 0) return;
    for (Label label : order) {
      stride /= size(label);
      box.sizes.push_back(size(label));
      box.from.push_back(operand.stride(label));
      box.to.push_back(stride);
    }
    strided_copy(c_, dtype_of<U>, reinterpret_cast<const std::byte*>(operand.data),
                 reinterpret_cast<std::byte*>(to), box);
  }

  // The operand's elements in this order of memory; copied only if they lie otherwise.
  const U* arranged(const Operand<U>& operand, const Labels& order) const {
    if (lies_as(operand, order)) return operand.data;
    U* to = c_.workspace<U>(product(order));
    copy(operand, order, to);
    return to;
  }

  Operand<U> with_labels(const U* data, const Labels& order) const {
    Operand<U> operand{data, {}};
    int64_t stride = 1;
    for (size_t i = order.size(); i-- > 0;) {
      operand.axes.insert(operand.axes.begin(), {order[i], stride});
      stride *= size(order[i]);
    }
    return operand;
  }

  // Without the labels that are not kept: sums over them.
  Operand<U> sum_away(Operand<U> operand, const Labels& kept) const {
    Labels order;
    Labels summed;
    for (Label label : operand.labels()) {
      (contains(kept, label) ? order : summed).push_back(label);
    }
    if (summed.empty()) return operand;
    const int64_t rows = product(order);
    const int64_t n = product(summed);
    Labels all = order;
    all.insert(all.end(), summed.begin(), summed.end());
    const U* from = arranged(operand, all);
    U* to = c_.workspace<U>(rows);
    c_.parallel_for(rows, static_cast<double>(n), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        U sum = 0;
        for (int64_t i = 0; i < n; ++i) sum = wrapping_add(sum, from[r * n + i]);
        to[r] = sum;
      }
    });
    return with_labels(to, order);
  }

  // A label that only one operand needs is a row or column, one that both have and the rest needs
  // is of the batch, the others are summed over.
  Operand<U> multiply(Operand<U> a, Operand<U> b, const Labels& needed) const {
    // The operand whose rows come first in the output is the left one.
    for (Label label : needed) {
      const bool in_a = contains(a.labels(), label);
      const bool in_b = contains(b.labels(), label);
      if (in_a == in_b) continue;
      if (in_b) std::swap(a, b);
      break;
    }
    Labels batch, m, n, k;
    for (Label label : needed) {
      const bool in_a = contains(a.labels(), label);
      const bool in_b = contains(b.labels(), label);
      Labels& group = in_a && in_b ? batch : in_a ? m : n;
      if ((in_a || in_b) && !contains(group, label)) group.push_back(label);
    }
    for (Label label : a.labels()) {
      if (!contains(needed, label)) k.push_back(label);
    }
    const auto joined = [](std::initializer_list<const Labels*> groups) {
      Labels all;
      for (const Labels* group : groups) all.insert(all.end(), group->begin(), group->end());
      return all;
    };
    Product p;
    p.dtype = dtype_of<U>;
    p.m = product(m);
    p.n = product(n);
    p.k = product(k);
    const int64_t count = product(batch);
    p.transpose_a = lies_as(a, joined({&batch, &k, &m}));
    p.transpose_b = lies_as(b, joined({&batch, &n, &k}));
    const U* left = p.transpose_a ? a.data : arranged(a, joined({&batch, &m, &k}));
    const U* right = p.transpose_b ? b.data : arranged(b, joined({&batch, &k, &n}));
    const Labels order = joined({&batch, &m, &n});
    U* to = c_.workspace<U>(product(order));
    if (p.m * p.n * p.k < least_product) {
      multiply_small(p, count, left, right, to);
    } else {
      p.batch = Shape{count};
      p.a_strides = Shape{p.m * p.k};
      p.b_strides = Shape{p.k * p.n};
      p.a = reinterpret_cast<const std::byte*>(left);
      p.b = reinterpret_cast<const std::byte*>(right);
      p.y = reinterpret_cast<std::byte*>(to);
      run_product(c_, p);
    }
    return with_labels(to, order);
  }

  // Below this many multiplications a matrix product is not worth its set-up.
  static constexpr int64_t least_product = 64;
  void multiply_small(const Product& p, int64_t count, const U* a, const U* b, U* y) const {
    const int64_t a_row = p.transpose_a ? 1 : p.k;
    const int64_t a_column = p.transpose_a ? p.m : 1;
    const int64_t b_row = p.transpose_b ? 1 : p.n;
    const int64_t b_column = p.transpose_b ? p.k : 1;
    c_.parallel_for(count, static_cast<double>(p.m * p.n * p.k), [&](int64_t begin, int64_t end) {
      for (int64_t item = begin; item < end; ++item) {
        const U* left = a + item * p.m * p.k;
        const U* right = b + item * p.k * p.n;
        for (int64_t i = 0; i < p.m; ++i) {
          for (int64_t j = 0; j < p.n; ++j) {
            U sum = 0;
            for (int64_t l = 0; l < p.k; ++l) {
              sum = wrapping_add(sum, wrapping_multiply(left[i * a_row + l * a_column],
                                                        right[l * b_row + j * b_column]));
            }
            y[(item * p.m + i) * p.n + j] = sum;
          }
        }
      }
    });
  }

  RunContext& c_;
  const std::array<int64_t, label_count>& sizes_;
  bool started_ = false;
  Operand<U> result_{};
};

// What elements of type S are computed as.
template <class S>
struct EinsumWork {
  using type = Compute<S>;
};
template <class S>
  requires std::is_integral_v<S>
struct EinsumWork<S> {
  using type = std::conditional_t<sizeof(S) == 8, int64_t, int32_t>;
};

class Einsum final : public Kernel {
 public:
  static Capability capability(const NodeSpec& node) {
    return require_dtype(node, 0, NumericTypes{});
  }

  explicit Einsum(const NodeSpec& node)
      : equation_(parse_equation(node.get_string("equation", ""))) {
    if (equation_.inputs.size() != node.inputs.size()) {
      invalid("attribute 'equation' has " + std::to_string(equation_.inputs.size()) +
              " terms for " + std::to_string(node.inputs.size()) + " inputs");
    }
  }

  void run(RunContext& c) const override {
    const int count = static_cast<int>(equation_.inputs.size());
    std::array<int64_t, label_count> sizes;
    sizes.fill(1);
    std::vector<Labels> terms;
    int most_hidden = 0;
    for (int i = 0; i < count; ++i) {
      const Shape& shape = c.input(i).shape();
      const Term& term = equation_.inputs[static_cast<size_t>(i)];
      const bool open = term.find(ellipsis_mark) != Term::npos;
      const int hidden = shape.rank() - static_cast<int>(term.size()) + (open ? 1 : 0);
      if (hidden < 0 || (hidden > 0 && !open)) {
        fail("input " + std::to_string(i) + " has shape " + shape.text() +
             ", which does not fit its term '" + term + "'");
      }
      most_hidden = std::max(most_hidden, hidden);
      terms.push_back(expand(term, hidden));
      for (int axis = 0; axis < shape.rank(); ++axis) {
        const Label label = terms.back()[static_cast<size_t>(axis)];
        int64_t& size = sizes[static_cast<size_t>(label)];
        if (size == 1) size = shape[axis];
        if (size != shape[axis] && shape[axis] != 1) {
          fail("axis " + std::to_string(axis) + " of input " + std::to_string(i) + " has size " +
               std::to_string(shape[axis]) + ", and another axis of the same label " +
               std::to_string(size));
        }
      }
    }
    const Labels output = expand(equation_.output, most_hidden);
    Shape shape;
    for (Label label : output) shape.push_back(sizes[static_cast<size_t>(label)]);
    Tensor& y = c.output(0, c.input(0).dtype(), shape);
    if (y.size() == 0) return;
    visit(NumericTypes{}, y.dtype(), [&](auto tag) {
      using S = typename decltype(tag)::type;
      run_typed<S>(c, terms, sizes, output, y);
    });
  }

 private:
  template <class S>
  static void run_typed(RunContext& c, const std::vector<Labels>& terms,
                        const std::array<int64_t, label_count>& sizes, const Labels& output,
                        Tensor& y) {
    using U = typename EinsumWork<S>::type;
    constexpr bool viewed = std::is_same_v<S, U> || NarrowFloat<S>;
    Contraction<U> contraction(c, sizes);
    for (size_t i = 0; i < terms.size(); ++i) {
      const Tensor& x = c.input(static_cast<int>(i));
      Operand<U> operand;
      if constexpr (viewed) {
        operand.data = work_view<U>(c, x);
      } else {
        U* wide = c.workspace<U>(x.size());
        for (int64_t j = 0; j < x.size(); ++j) wide[j] = static_cast<U>(x.data<S>()[j]);
        operand.data = wide;
      }
      add_axes(terms[i], x.shape(), operand);
      Labels needed = output;
      for (size_t later = i + 1; later < terms.size(); ++later) {
        needed.insert(needed.end(), terms[later].begin(), terms[later].end());
      }
      contraction.add(std::move(operand), needed);
    }
    if constexpr (viewed) {
      U* result = work_target<U>(c, y);
      contraction.finish(output, result);
      store_work<U>(c, result, y);
    } else {
      U* wide = c.workspace<U>(y.size());
      contraction.finish(output, wide);
      for (int64_t j = 0; j < y.size(); ++j) y.data<S>()[j] = static_cast<S>(wide[j]);
    }
  }

  // A label that occurs twice runs along the diagonal; an axis of size 1 is broadcast.
  template <class U>
  static void add_axes(const Labels& labels, const Shape& shape, Operand<U>& operand) {
    const Shape strides = shape.strides();
    for (int axis = 0; axis < shape.rank(); ++axis) {
      const Label label = labels[static_cast<size_t>(axis)];
      const int64_t stride = shape[axis] == 1 ? 0 : strides[axis];
      const auto known = std::find_if(operand.axes.begin(), operand.axes.end(),
                                      [&](const Axis& one) { return one.label == label; });
      if (known == operand.axes.end()) {
        operand.axes.push_back({label, stride});
      } else {
        known->stride += stride;
      }
    }
  }

  Equation equation_;
};
BASCULE_KERNEL("Einsum", Einsum);

}  // namespace
}  // namespace bascule
