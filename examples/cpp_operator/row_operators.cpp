// SPDX-License-Identifier: Apache-2.0
// Two operators of domain "example.rows" that work on the rows of a tensor, its last axis.
#include <bascule/operator.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace {

using bascule::Call;
using bascule::Dim;
using bascule::DType;
using bascule::Tensor;
using bascule::Types;

// y = x / max(|x|, epsilon) for each row, in the element type of x; sums are made in double.
template <class T>
void scale_rows(const Tensor& x, std::span<T> y, double epsilon, Call& call) {
  const std::span<const T> from = x.elements<T>();
  const auto n = static_cast<size_t>(x.dim(-1));
  const int64_t rows = n == 0 ? 0 : x.size() / x.dim(-1);
  call.parallel_for(rows, 4.0 * static_cast<double>(n), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const std::span<const T> row = from.subspan(static_cast<size_t>(r) * n, n);
      double squares = 0;
      for (const T each : row) squares += double{each} * double{each};
      const double scale = 1 / std::max(std::sqrt(squares), epsilon);
      for (size_t i = 0; i < n; ++i) {
        y[static_cast<size_t>(r) * n + i] = static_cast<T>(double{row[i]} * scale);
      }
    }
  });
}

void normalize(Call& call) {
  const Tensor x = call.input(0);
  if (x.rank() == 0) throw bascule::Error("x is a single number, which has no rows");
  const auto epsilon = double{call.attribute<float>("epsilon")};
  bascule::dispatch<float, double>(x.dtype(), [&]<class T>(T) {
    scale_rows<T>(x, call.output<T>(0, x.shape()), epsilon, call);
  });
}

// The k largest elements of each row and their positions, the largest first; NaN counts as small.
class LargestInRows {
 public:
  explicit LargestInRows(const bascule::Node& node) : k_(node.attribute<int64_t>("k")) {
    if (k_ < 1) throw bascule::Error("k is " + std::to_string(k_) + "; it counts from 1");
  }

  void run(Call& call) const {
    const Tensor x = call.input(0);
    bascule::Shape shape(x.shape().begin(), x.shape().end());
    if (shape.empty() || shape.back() < k_) {
      throw bascule::Error("rows are shorter than k = " + std::to_string(k_));
    }
    const auto n = static_cast<size_t>(shape.back()), k = static_cast<size_t>(k_);
    const std::span<const float> from = x.elements<float>();
    shape.back() = k_;
    const std::span<float> values = call.output<float>(0, shape);
    const std::span<int64_t> places = call.output<int64_t>(1, shape);
    const std::span<int64_t> order = call.workspace<int64_t>(static_cast<int64_t>(n));
    for (size_t r = 0; r < values.size() / k; ++r) {
      const auto key = [&](int64_t i) {
        const float value = from[r * n + static_cast<size_t>(i)];
        return std::isnan(value) ? -INFINITY : value;
      };
      std::iota(order.begin(), order.end(), int64_t{0});
      std::stable_sort(order.begin(), order.end(),
                       [&](int64_t a, int64_t b) { return key(a) > key(b); });
      for (size_t i = 0; i < k; ++i) {
        places[r * k + i] = order[i];
        values[r * k + i] = from[r * n + static_cast<size_t>(order[i])];
      }
    }
  }

  static void types(Types& types) {
    std::vector<Dim> shape = types.shape(0);
    if (!shape.empty()) shape.back() = types.attribute<int64_t>("k");
    types.set_output(0, types.dtype(0), shape);
    if (types.output_count() > 1) types.set_output(1, DType::int64, shape);
  }

 private:
  int64_t k_;
};

}  // namespace

BASCULE_OPERATORS(library) {
  library.set_version("1.0");
  library.add("example.rows", "Normalize", 1, normalize)
      .doc("Rows of length 1.")
      .input("x", {DType::float32, DType::float64})
      .output("y", bascule::same_as(0))
      .attribute("epsilon", 1e-12f)
      .types([](Types& types) { types.set_output_as_input(0, 0); });
  library.add<LargestInRows>("example.rows", "Largest", 1)
      .doc("The largest elements of each row.")
      .input("x", DType::float32)
      .output("values", DType::float32)
      .optional_output("places", DType::int64)
      .required_attribute<int64_t>("k")
      .types(LargestInRows::types);
}
