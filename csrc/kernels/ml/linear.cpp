// SPDX-License-Identifier: Apache-2.0
// LinearRegressor and LinearClassifier: Y = X W' + b, with one row of coefficients W and one
// intercept per target or class. Float32 inputs are computed in float32, all others in float64; the
// results are float32.
#include <algorithm>
#include <vector>

#include "kernels/gemm/product.h"
#include "kernels/ml/labels.h"
#include "kernels/ml/post_transform.h"
#include "kernels/ml/rows.h"
#include "kernels/work_view.h"
#include "runtime/kernel.h"

namespace bascule {
namespace {

Tensor tensor_of(const std::vector<float>& values, DType dtype) {
  Tensor tensor = Tensor::allocate(dtype, Shape{static_cast<int64_t>(values.size())});
  visit_work_type(dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    std::copy(values.begin(), values.end(), tensor.data<T>());
  });
  return tensor;
}

// The coefficients and intercepts of `outputs` linear functions.
class LinearFunctions {
 public:
  LinearFunctions(const NodeSpec& node, int64_t outputs)
      : dtype_(node.dtype(0) == DType::float32 ? DType::float32 : DType::float64),
        coefficients_(tensor_of(node.get_floats("coefficients"), dtype_)),
        intercepts_(tensor_of(node.get_floats("intercepts"), dtype_)) {
    if (coefficients_.size() == 0) fail("coefficients is missing or empty");
    if (outputs < 1 || outputs > coefficients_.size()) {
      fail("coefficients has " + std::to_string(coefficients_.size()) + " elements, too few for " +
           std::to_string(outputs) + " targets or classes");
    }
    if (intercepts_.size() != 0 && intercepts_.size() != outputs) {
      fail("intercepts has " + std::to_string(intercepts_.size()) + " elements, expected " +
           std::to_string(outputs));
    }
    if (coefficients_.size() % outputs != 0) return;
    const Shape shape{outputs, coefficients_.size() / outputs};
    packed_ = PackedOperand::pack(node, {}, coefficients_.reshaped(shape), true);
  }

  DType dtype() const { return dtype_; }
  int64_t coefficients() const { return coefficients_.size(); }

  void check(const Rows& x, int64_t outputs) const {
    if (x.columns <= coefficients_.size() / outputs) return;
    invalid("input has " + std::to_string(x.columns) + " columns, and coefficients has " +
            std::to_string(coefficients_.size()) + " elements: too few for " +
            std::to_string(outputs) + " targets or classes");
  }

  // y [x.count, outputs]
  template <class T>
  void run(RunContext& c, const T* values, const Rows& x, int64_t outputs, T* y) const {
    Product p;
    p.dtype = dtype_;
    p.m = x.count;
    p.k = x.columns;
    p.n = outputs;
    p.a = reinterpret_cast<const std::byte*>(values);
    p.b = coefficients_.raw();
    p.transpose_b = true;
    if (packed_.k == p.k && packed_.n == p.n) p.packed = &packed_;
    if (intercepts_.size() != 0) p.bias = intercepts_.raw();
    p.y = reinterpret_cast<std::byte*>(y);
    run_product(c, p);
  }

 private:
  DType dtype_;
  Tensor coefficients_;
  Tensor intercepts_;
  PackedOperand packed_;
};

class LinearRegressor final : public Kernel {
 public:
  static Capability capability(const NodeSpec& node) {
    return require_dtype(node, 0, FeatureTypes{});
  }
  explicit LinearRegressor(const NodeSpec& node)
      : targets_(node.get_int("targets", 1)),
        transform_(parse_post_transform(node)),
        functions_(node, targets_) {}

  void run(RunContext& c) const override {
    const Tensor& input = c.input(0);
    const Rows x = rows_of(input);
    functions_.check(x, targets_);
    visit_work_type(functions_.dtype(), [&](auto tag) {
      using T = typename decltype(tag)::type;
      const T* values = work_view<T>(c, input);
      Tensor& y = c.output(0, DType::float32, {x.count, targets_});
      T* scores = work_target<T>(c, y);
      functions_.run(c, values, x, targets_, scores);
      if (transform_ != PostTransform::none) {
        c.parallel_for(x.count, 20.0 * static_cast<double>(targets_),
                       [&](int64_t begin, int64_t end) {
                         for (int64_t i = begin; i < end; ++i) {
                           transform_scores(transform_, scores + i * targets_, targets_);
                         }
                       });
      }
      store_work<T>(c, scores, y);
    });
  }

 private:
  int64_t targets_;
  PostTransform transform_;
  LinearFunctions functions_;
};
BASCULE_KERNEL_IN("ai.onnx.ml", "LinearRegressor", LinearRegressor);

// One function per class, and the class with the largest score wins. Or one for two classes, whose
// score s becomes (-s, s); or one for one class, which is taken where s >= 0.
class LinearClassifier final : public Kernel {
 public:
  static Capability capability(const NodeSpec& node) {
    return require_dtype(node, 0, FeatureTypes{});
  }
  explicit LinearClassifier(const NodeSpec& node)
      : labels_(node, "classlabels_ints", "classlabels_strings"),
        transform_(parse_post_transform(node)),
        intercepts_(static_cast<int64_t>(node.get_floats("intercepts").size())),
        functions_(node, intercepts_ != 0 ? intercepts_ : labels_.count()) {
    if (intercepts_ != 0 && intercepts_ != labels_.count() && !is_pair(intercepts_)) {
      fail("intercepts has " + std::to_string(intercepts_) + " elements for " +
           std::to_string(labels_.count()) + " class labels");
    }
  }

  void run(RunContext& c) const override {
    const Tensor& input = c.input(0);
    const Rows x = rows_of(input);
    int64_t outputs = intercepts_ != 0 ? intercepts_ : labels_.count();
    // Without intercepts the number of columns tells one function from two.
    if (intercepts_ == 0 && is_pair(1) && x.columns == functions_.coefficients()) outputs = 1;
    functions_.check(x, outputs);
    visit_work_type(functions_.dtype(), [&](auto tag) {
      using T = typename decltype(tag)::type;
      const T* values = work_view<T>(c, input);
      Tensor& labels = c.output(0, labels_.dtype(), {x.count});
      Tensor& y = c.output(1, DType::float32, {x.count, labels_.count()});
      T* scores = work_target<T>(c, y);
      T* raw = is_pair(outputs) ? c.workspace<T>(x.count) : scores;
      functions_.run(c, values, x, outputs, raw);
      c.parallel_for(x.count, 20.0 * static_cast<double>(labels_.count()),
                     [&](int64_t begin, int64_t end) {
                       for (int64_t i = begin; i < end; ++i) {
                         finish(i, raw + i * outputs, outputs, scores, labels);
                       }
                     });
      store_work<T>(c, scores, y);
    });
  }

 private:
  bool is_pair(int64_t outputs) const { return outputs == 1 && labels_.count() == 2; }

  template <class T>
  void finish(int64_t i, const T* raw, int64_t outputs, T* scores, Tensor& labels) const {
    T* row = scores + i * labels_.count();
    if (is_pair(outputs)) {
      labels_.write(labels, i, raw[0] > 0 ? 1 : 0);
      row[1] = raw[0];
      row[0] = -raw[0];
    } else if (outputs == 1) {
      labels_.write(labels, i, raw[0] >= 0 ? 0 : -1);
    } else {
      labels_.write(labels, i, std::max_element(raw, raw + outputs) - raw);
    }
    transform_scores(transform_, row, labels_.count());
  }

  Labels labels_;
  PostTransform transform_;
  int64_t intercepts_;
  LinearFunctions functions_;
};
BASCULE_KERNEL_IN("ai.onnx.ml", "LinearClassifier", LinearClassifier);

}  // namespace
}  // namespace bascule
