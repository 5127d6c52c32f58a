// SPDX-License-Identifier: Apache-2.0
// ReduceSum, Mean, Max, Min, Prod, L1, L2, SumSquare, LogSum and LogSumExp over any set of axes.
//
// Neighbouring axes that are all kept, or all reduced, are one. If the last one is reduced, outputs
// are folds of rows; else rows of outputs are folds of columns, vectors wide. Each output is folded
// in one order that depends on the sizes of the reduced axes alone.
#include <algorithm>

#include "kernels/reduce_scalar.h"
#include "kernels/work_view.h"
#include "runtime/kernel.h"

namespace bascule {

BASCULE_PER_ISA(ReduceLoops<float> reduce_loops());

namespace {

// Neighbours that are folded as one; the folds of longer rows are joined in order, so that several
// threads can work on one output.
constexpr int64_t row_block = 1 << 16;
constexpr int64_t column_group = 256;

// The axes as kept and reduced loops, outermost first.
struct Loops {
  struct Axis {
    int64_t size, stride;
  };
  Axis kept[Shape::max_rank], reduced[Shape::max_rank + 1];
  int kept_rank = 0, reduced_rank = 0;
  int64_t outputs = 1, folded = 1;
  bool last_is_reduced = true;

  Loops(const Shape& shape, const bool* is_reduced) {
    int64_t stride = 1;
    int previous = -1;  // 1: reduced, 0: kept
    for (int axis = shape.rank() - 1; axis >= 0; --axis) {
      const int64_t size = shape[axis];
      const bool fold = is_reduced[axis];
      (fold ? folded : outputs) *= size;
      if (size != 1) {
        if (previous < 0) last_is_reduced = fold;
        Axis* axes = fold ? reduced : kept;
        int& rank = fold ? reduced_rank : kept_rank;
        if (previous == static_cast<int>(fold)) {
          axes[rank - 1].size *= size;
        } else {
          axes[rank++] = {size, stride};
        }
        previous = static_cast<int>(fold);
      }
      stride *= size;
    }
    if (reduced_rank == 0) {  // folds of one element
      reduced[reduced_rank++] = {1, 1};
      last_is_reduced = true;
    }
    std::reverse(kept, kept + kept_rank);
    std::reverse(reduced, reduced + reduced_rank);
  }
};

// Where index k of the loops axes[0..rank) is.
int64_t offset_of(const Loops::Axis* axes, int rank, int64_t k) {
  int64_t offset = 0;
  for (int i = rank - 1; i >= 0; --i) {
    offset += k % axes[i].size * axes[i].stride;
    k /= axes[i].size;
  }
  return offset;
}

int64_t size_of(const Loops::Axis* axes, int rank) {
  int64_t size = 1;
  for (int i = 0; i < rank; ++i) size *= axes[i].size;
  return size;
}

template <class T>
ReduceLoops<T> loops_of() {
  if constexpr (std::is_same_v<T, float>) {
    return BASCULE_PICK(reduce_loops)();
  } else {
    return scalar_reduce_loops<T>();
  }
}

// How partial results of a fold are joined.
Fold joining(Fold fold) {
  const bool joins_itself = fold == Fold::product || fold == Fold::max || fold == Fold::min;
  return joins_itself ? fold : Fold::sum;
}

template <class T>
void fold_rows(RunContext& c, const Loops& loops, Fold fold, const T* x, const T* shift, T* out) {
  const ReduceLoops<T> on = loops_of<T>();
  const int outer_rank = loops.reduced_rank - 1;
  const int64_t outer = size_of(loops.reduced, outer_rank);
  const int64_t n = loops.reduced[outer_rank].size;
  const int64_t blocks = (n + row_block - 1) / row_block;
  const int64_t pieces = outer * blocks;
  if (pieces == 1) {  // the rows lie one behind the other
    const double cost = static_cast<double>(n) * (fold == Fold::sum_exp ? 2 : 0.5);
    return c.parallel_for(loops.outputs, cost + 2, [&](int64_t begin, int64_t end) {
      on.rows(fold, x + begin * n, end - begin, n, shift != nullptr ? shift + begin : nullptr,
              out + begin);
    });
  }
  T* partial = c.workspace<T>(loops.outputs * pieces);
  const double cost =
      static_cast<double>(std::min(n, row_block)) * (fold == Fold::sum_exp ? 2 : 0.5);
  c.parallel_for(loops.outputs * pieces, cost + 8, [&](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k) {
      const int64_t output = k / pieces, piece = k % pieces, first = piece % blocks * row_block;
      const int64_t at = offset_of(loops.kept, loops.kept_rank, output) +
                         offset_of(loops.reduced, outer_rank, piece / blocks) + first;
      partial[k] = on.row(fold, x + at, std::min(row_block, n - first),
                          shift != nullptr ? shift[output] : T{0});
    }
  });
  c.parallel_for(loops.outputs, static_cast<double>(pieces), [&](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k) {
      T total = partial[k * pieces];
      for (int64_t i = 1; i < pieces; ++i) {
        total = fold_one(joining(fold), total, partial[k * pieces + i], T{0});
      }
      out[k] = total;
    }
  });
}

// Rows whose fold is a step of its own in ReduceLoops<float>::columns.
constexpr int64_t column_rows = 256;

template <class T>
class FoldColumns {
 public:
  FoldColumns(const Loops& loops, Fold fold, const T* x, const T* shift, T* out)
      : loops_(loops),
        fold_(fold),
        x_(x),
        shift_(shift),
        out_(out),
        columns_(loops.kept[loops.kept_rank - 1].size),
        outer_rank_(loops.reduced_rank - 1),
        rows_(loops.reduced[outer_rank_]),
        groups_((columns_ + column_group - 1) / column_group) {}

  void run(RunContext& c) const {
    const int64_t tasks = loops_.outputs / columns_ * groups_;
    if constexpr (std::is_same_v<T, float>) {
      if (tasks < c.threads() && rows_.size >= 4 * column_rows) return run_pieces(c, tasks);
    }
    const double cost = static_cast<double>(loops_.folded) * column_group / 2;
    c.parallel_for(tasks, cost, [&](int64_t begin, int64_t end) {
      for (int64_t k = begin; k < end; ++k) {
        const Group group = group_of(k);
        std::fill_n(out_ + group.output, group.width, neutral_value<T>(fold_));
        for (int64_t i = 0; i < size_of(loops_.reduced, outer_rank_); ++i) {
          fold(group, i, 0, rows_.size, out_ + group.output);
        }
      }
    });
  }

 private:
  // Some neighbouring columns.
  struct Group {
    int64_t at, width, output;
  };
  Group group_of(int64_t k) const {
    const int64_t first = k % groups_ * column_group;
    return {offset_of(loops_.kept, loops_.kept_rank - 1, k / groups_) + first,
            std::min(column_group, columns_ - first), k / groups_ * columns_ + first};
  }

  void fold(const Group& group, int64_t outer, int64_t row, int64_t rows, T* total) const {
    on_.columns(fold_,
                x_ + group.at + offset_of(loops_.reduced, outer_rank_, outer) + row * rows_.stride,
                rows, rows_.stride, group.width,
                shift_ != nullptr ? shift_ + group.output : nullptr, total);
  }

  // Few groups of long columns: threads take pieces of them, which are joined in the order, and
  // with the bits, of a single fold.
  void run_pieces(RunContext& c, int64_t tasks) const {
    const int64_t outer = size_of(loops_.reduced, outer_rank_);
    const int64_t blocks = (rows_.size + column_rows - 1) / column_rows;
    const int64_t pieces = outer * blocks;
    const int64_t most = std::min(column_group, columns_);
    T* partial = c.workspace<T>(tasks * pieces * most);
    const double cost = static_cast<double>(column_rows * most) / 2;
    c.parallel_for(tasks * pieces, cost, [&](int64_t begin, int64_t end) {
      for (int64_t k = begin; k < end; ++k) {
        const Group group = group_of(k / pieces);
        T* total = partial + k * most;
        std::fill_n(total, group.width, neutral_value<T>(fold_));
        const int64_t row = k % blocks * column_rows;
        fold(group, k % pieces / blocks, row, std::min(column_rows, rows_.size - row), total);
      }
    });
    for (int64_t k = 0; k < tasks; ++k) {
      const Group group = group_of(k);
      T* total = out_ + group.output;
      std::copy_n(partial + k * pieces * most, group.width, total);
      for (int64_t i = k * pieces + 1; i < (k + 1) * pieces; ++i) {
        for (int64_t j = 0; j < group.width; ++j) {
          total[j] = fold_one(joining(fold_), total[j], partial[i * most + j], T{0});
        }
      }
    }
  }

  const Loops& loops_;
  Fold fold_;
  const T* x_;
  const T* shift_;
  T* out_;
  int64_t columns_;
  int outer_rank_;
  Loops::Axis rows_;
  int64_t groups_;
  ReduceLoops<T> on_ = loops_of<T>();
};

template <class T>
void fold_all(RunContext& c, const Loops& loops, Fold fold, const T* x, const T* shift, T* out) {
  if (loops.last_is_reduced) {
    fold_rows(c, loops, fold, x, shift, out);
  } else {
    FoldColumns<T>(loops, fold, x, shift, out).run(c);
  }
}

// What happens to the folded values.
enum class Finish : uint8_t { nothing, divide, root, logarithm, shifted_logarithm };

struct Operator {
  const char* op_type;
  Fold fold;
  Finish finish;
};
constexpr Operator operators[] = {
    {"ReduceSum", Fold::sum, Finish::nothing},
    {"ReduceMean", Fold::sum, Finish::divide},
    {"ReduceMax", Fold::max, Finish::nothing},
    {"ReduceMin", Fold::min, Finish::nothing},
    {"ReduceProd", Fold::product, Finish::nothing},
    {"ReduceL1", Fold::sum_abs, Finish::nothing},
    {"ReduceL2", Fold::sum_squares, Finish::root},
    {"ReduceSumSquare", Fold::sum_squares, Finish::nothing},
    {"ReduceLogSum", Fold::sum, Finish::logarithm},
    {"ReduceLogSumExp", Fold::sum_exp, Finish::shifted_logarithm},
};

Operator operator_of(const NodeSpec& node) {
  for (const Operator& one : operators) {
    if (node.op_type == one.op_type) return one;
  }
  fail("no reduction is called " + node.op_type);
}

template <class T>
T finished(Finish finish, T value, int64_t count, T shift) {
  if constexpr (std::is_integral_v<T>) {
    if (finish == Finish::divide) return count == 0 ? T{0} : value / static_cast<T>(count);
    if (finish == Finish::root) return static_cast<T>(std::sqrt(static_cast<double>(value)));
    return value;
  } else {
    switch (finish) {
      case Finish::nothing:
        return value;
      case Finish::divide:
        return value / static_cast<T>(count);
      case Finish::root:
        return std::sqrt(value);
      case Finish::logarithm:
        return std::log(value);
      case Finish::shifted_logarithm:
        return std::log(value) + shift;
    }
    return value;
  }
}

using ReducedTypes = Types<float, double, Float16, BFloat16, int8_t, uint8_t, int16_t, uint16_t,
                           int32_t, uint32_t, int64_t, uint64_t, bool>;

class Reduce final : public Kernel {
 public:
  static Capability capability(const NodeSpec& node) {
    const Finish finish = operator_of(node).finish;
    if (finish == Finish::logarithm || finish == Finish::shifted_logarithm) {
      return require_dtype(node, 0, FloatTypes{});
    }
    return require_dtype(node, 0, ReducedTypes{});
  }

  explicit Reduce(const NodeSpec& node)
      : operator_(operator_of(node)),
        keeps_axes_(node.get_int("keepdims", 1) != 0),
        no_axes_is_none_(node.get_int("noop_with_empty_axes", 0) != 0) {}

  void run(RunContext& c) const override {
    const Tensor& x = c.input(0);
    const Shape& shape = x.shape();
    bool reduced[Shape::max_rank] = {};
    read_axes(c, shape, reduced);
    Shape kept;
    for (int axis = 0; axis < shape.rank(); ++axis) {
      if (!reduced[axis]) {
        kept.push_back(shape[axis]);
      } else if (keeps_axes_) {
        kept.push_back(1);
      }
    }
    const Loops loops(shape, reduced);
    if (loops.folded == 0) return of_nothing(c, x.dtype(), kept);
    switch (x.dtype()) {
      case DType::float64:
        return compute<double>(c, x, kept, loops);
      case DType::float32:
      case DType::float16:
      case DType::bfloat16:
        return compute<float>(c, x, kept, loops);
      case DType::uint64:
        return compute<uint64_t>(c, x, kept, loops);
      case DType::int32:
        // The low bits of a sum are those of a wider one; what is divided or rooted is not.
        if (operator_.finish == Finish::nothing) return compute<int32_t>(c, x, kept, loops);
        [[fallthrough]];
      default:
        return compute<int64_t>(c, x, kept, loops);
    }
  }

 private:
  void read_axes(const RunContext& c, const Shape& shape, bool* reduced) const {
    const int64_t count = c.has_input(1) ? c.input(1).size() : 0;
    if (count == 0) {
      for (int axis = 0; axis < shape.rank(); ++axis) reduced[axis] = !no_axes_is_none_;
      return;
    }
    if (c.input(1).dtype() != DType::int64) fail("axes are not int64");
    for (int64_t i = 0; i < count; ++i) reduced[shape.axis(c.input(1).data<int64_t>()[i])] = true;
  }

  // Every output is a fold of no elements.
  void of_nothing(RunContext& c, DType dtype, const Shape& shape) const {
    Tensor& y = c.output(0, dtype, shape);
    visit(ReducedTypes{}, dtype, [&](auto tag) {
      using T = typename decltype(tag)::type;
      using Wide = Compute<T>;
      Wide value = neutral_value<Wide>(operator_.fold);
      if constexpr (!std::is_same_v<T, bool>) {
        value = finished<Wide>(operator_.finish, value, 0, 0);
      }
      std::fill_n(y.data<T>(), y.size(), static_cast<T>(value));
    });
  }

  template <class T>
  void compute(RunContext& c, const Tensor& input, const Shape& shape, const Loops& loops) const {
    const T* x = work_view<T>(c, input);
    T* shift = nullptr;
    const bool shifts = operator_.finish == Finish::shifted_logarithm;
    if (shifts) shift = c.workspace<T>(loops.outputs);
    Tensor& y = c.output(0, input.dtype(), shape);
    T* out = work_target<T>(c, y);
    if (loops.outputs == 0) return;
    if (shifts) {
      fold_all<T>(c, loops, Fold::max, x, nullptr, shift);
      // Infinities would give NaN; without a shift they come out right.
      for (int64_t k = 0; k < loops.outputs; ++k) {
        if (!(std::fabs(static_cast<double>(shift[k])) <= std::numeric_limits<double>::max())) {
          shift[k] = 0;
        }
      }
    }
    fold_all<T>(c, loops, operator_.fold, x, shift, out);
    if (operator_.finish == Finish::divide) {  // on its own this loop runs on vectors
      for (int64_t k = 0; k < loops.outputs; ++k) {
        out[k] = finished(Finish::divide, out[k], loops.folded, T{0});
      }
    } else if (operator_.finish != Finish::nothing) {
      for (int64_t k = 0; k < loops.outputs; ++k) {
        out[k] = finished(operator_.finish, out[k], loops.folded, shifts ? shift[k] : T{0});
      }
    }
    store_work<T>(c, out, y);
  }

  Operator operator_;
  bool keeps_axes_;
  bool no_axes_is_none_;
};
BASCULE_KERNEL("ReduceSum", Reduce);
BASCULE_KERNEL("ReduceMean", Reduce);
BASCULE_KERNEL("ReduceMax", Reduce);
BASCULE_KERNEL("ReduceMin", Reduce);
BASCULE_KERNEL("ReduceProd", Reduce);
BASCULE_KERNEL("ReduceL1", Reduce);
BASCULE_KERNEL("ReduceL2", Reduce);
BASCULE_KERNEL("ReduceSumSquare", Reduce);
BASCULE_KERNEL("ReduceLogSum", Reduce);
BASCULE_KERNEL("ReduceLogSumExp", Reduce);

}  // namespace
}  // namespace bascule
