// SPDX-License-Identifier: Apache-2.0
// Operators that prepare tables of features: Binarizer, FeatureVectorizer, Imputer, Normalizer,
// OneHotEncoder and Scaler. The last axis holds the features.
#include <algorithm>
#include <cmath>
#include <unordered_map>
#include <vector>

#include "kernels/ml/labels.h"
#include "kernels/ml/rows.h"
#include "kernels/work_view.h"
#include "runtime/kernel.h"

namespace bascule {
namespace {

int64_t last_axis(const Tensor& x) {
  if (x.rank() == 0) invalid("the input is a scalar, expected at least one axis");
  return x.shape().back();
}

template <class T>
bool is_nan(T value) {
  if constexpr (std::is_floating_point_v<T>) return std::isnan(value);
  return false;
}

// `size` is 1 or that of the last axis.
void check_length(const char* name, size_t size, int64_t columns) {
  if (size == 1 || static_cast<int64_t>(size) == columns) return;
  invalid(std::string(name) + " has " + std::to_string(size) + " elements for " +
          std::to_string(columns) + " features");
}

// 1 where x > threshold, else 0.
class Binarizer final : public Kernel {
 public:
  static Capability capability(const NodeSpec& node) {
    return require_dtype(node, 0, FeatureTypes{});
  }
  explicit Binarizer(const NodeSpec& node) : threshold_(node.get_float("threshold", 0)) {}

  void run(RunContext& c) const override {
    const Tensor x = c.input(0);
    Tensor& y = c.output(0, x.dtype(), x.shape());
    visit(FeatureTypes{}, x.dtype(), [&](auto tag) {
      using T = typename decltype(tag)::type;
      const T* from = x.data<T>();
      T* to = y.data<T>();
      c.parallel_for(x.size(), 1, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) to[i] = static_cast<T>(above(from[i]));
      });
    });
  }

 private:
  template <class T>
  bool above(T x) const {
    if constexpr (std::is_integral_v<T>) {
      // A whole number is above the threshold where it is above the threshold's floor.
      if (threshold_ < -0x1p63f) return true;
      return threshold_ < 0x1p63f && x > static_cast<int64_t>(std::floor(threshold_));
    } else {
      return x > threshold_;
    }
  }
  float threshold_;
};
BASCULE_KERNEL_IN("ai.onnx.ml", "Binarizer", Binarizer, InPlace{0, 0});

// The inputs side by side as float32, each cut or filled with zeros to its inputdimensions.
class FeatureVectorizer final : public Kernel {
 public:
  static Capability capability(const NodeSpec& node) {
    for (size_t i = 0; i < node.inputs.size(); ++i) {
      if (const auto typed = require_dtype(node, i, FeatureTypes{}); !typed.accepted()) {
        return typed;
      }
    }
    return accept;
  }
  explicit FeatureVectorizer(const NodeSpec& node) : widths_(node.get_ints("inputdimensions")) {
    if (!widths_.empty() && widths_.size() != node.inputs.size()) {
      fail("inputdimensions has " + std::to_string(widths_.size()) + " elements for " +
           std::to_string(node.inputs.size()) + " inputs");
    }
    for (const int64_t width : widths_) {
      if (width < 0 || width > (int64_t{1} << 40)) {
        fail("inputdimensions has element " + std::to_string(width));
      }
    }
  }

  void run(RunContext& c) const override {
    std::vector<Rows> parts;
    int64_t total = 0;
    for (int i = 0; i < c.input_count(); ++i) {
      const Rows part = rows_of(c.input(i));
      if (i > 0 && part.count != parts[0].count) {
        invalid("inputs have " + std::to_string(parts[0].count) + " and " +
                std::to_string(part.count) + " rows");
      }
      parts.push_back(part);
      total += width(i, part);
    }
    float* y = c.output(0, DType::float32, {parts[0].count, total}).data<float>();
    int64_t offset = 0;
    for (int i = 0; i < c.input_count(); ++i) {
      const Rows& part = parts[static_cast<size_t>(i)];
      const int64_t columns = width(i, part), copied = std::min(columns, part.columns);
      visit(FeatureTypes{}, c.input(i).dtype(), [&](auto tag) {
        using T = typename decltype(tag)::type;
        const T* x = c.input(i).data<T>();
        for (int64_t r = 0; r < part.count; ++r) {
          const T* from = x + r * part.columns;
          float* to = y + r * total + offset;
          for (int64_t j = 0; j < copied; ++j) to[j] = static_cast<float>(from[j]);
          std::fill(to + copied, to + columns, 0.0f);
        }
      });
      offset += columns;
    }
  }

 private:
  int64_t width(int i, const Rows& part) const {
    return widths_.empty() ? part.columns : widths_[static_cast<size_t>(i)];
  }
  std::vector<int64_t> widths_;
};
BASCULE_KERNEL_IN("ai.onnx.ml", "FeatureVectorizer", FeatureVectorizer);

// Elements equal to one value (NaN equals NaN) become that of their feature.
class Imputer final : public Kernel {
 public:
  static Capability capability(const NodeSpec& node) {
    return require_dtype(node, 0, FeatureTypes{});
  }
  explicit Imputer(const NodeSpec& node)
      : floats_(node.get_floats("imputed_value_floats")),
        integers_(node.get_ints("imputed_value_int64s")),
        replaced_float_(node.get_float("replaced_value_float", 0)),
        replaced_integer_(node.get_int("replaced_value_int64", 0)) {
    const DType dtype = node.dtype(0);
    const bool wants_floats = dtype == DType::float32 || dtype == DType::float64;
    if (floats_.empty() == integers_.empty() || floats_.empty() == wants_floats) {
      fail(std::string("an input of type ") + name_of(dtype) + " needs " +
           (wants_floats ? "imputed_value_floats" : "imputed_value_int64s") + " and no other");
    }
    if (dtype != DType::int32) return;
    for (const int64_t value : integers_) {
      if (value != static_cast<int32_t>(value)) {
        fail("imputed value " + std::to_string(value) + " is no int32");
      }
    }
  }

  void run(RunContext& c) const override {
    const Tensor x = c.input(0);
    const int64_t columns = last_axis(x);
    check_length("imputed_value", std::max(floats_.size(), integers_.size()), columns);
    Tensor& y = c.output(0, x.dtype(), x.shape());
    visit(FeatureTypes{}, x.dtype(), [&](auto tag) {
      using T = typename decltype(tag)::type;
      if constexpr (std::is_integral_v<T>) {
        impute(c, x.data<T>(), y.data<T>(), x.size(), columns, replaced_integer_, integers_);
      } else {
        impute(c, x.data<T>(), y.data<T>(), x.size(), columns, replaced_float_, floats_);
      }
    });
  }

 private:
  template <class T, class V>
  static void impute(RunContext& c, const T* x, T* y, int64_t count, int64_t columns, V replaced,
                     const std::vector<V>& values) {
    const bool replaces_nan = is_nan(replaced);
    const size_t step = values.size() == 1 ? 0 : 1;
    c.parallel_for(columns == 0 ? 0 : count / columns, static_cast<double>(columns),
                   [&](int64_t begin, int64_t end) {
                     for (int64_t at = begin * columns; at < end * columns; at += columns) {
                       for (int64_t j = 0; j < columns; ++j) {
                         const T v = x[at + j];
                         const bool hit = replaces_nan ? is_nan(v) : v == replaced;
                         y[at + j] =
                             hit ? static_cast<T>(values[static_cast<size_t>(j) * step]) : v;
                       }
                     }
                   });
  }

  std::vector<float> floats_;
  std::vector<int64_t> integers_;
  float replaced_float_;
  int64_t replaced_integer_;
};
BASCULE_KERNEL_IN("ai.onnx.ml", "Imputer", Imputer, InPlace{0, 0});

// Rows divided by their largest magnitude, the sum of magnitudes, or the root of the sum of
// squares; rows of zeros stay.
class Normalizer final : public Kernel {
 public:
  static Capability capability(const NodeSpec& node) {
    return require_dtype(node, 0, FeatureTypes{});
  }
  explicit Normalizer(const NodeSpec& node) {
    const std::string name = node.get_string("norm", "MAX");
    if (name != "MAX" && name != "L1" && name != "L2") {
      fail("norm '" + name + "' is not one of MAX, L1, L2");
    }
    norm_ = name == "MAX" ? Norm::max : name == "L1" ? Norm::l1 : Norm::l2;
  }

  void run(RunContext& c) const override {
    const Tensor x = c.input(0);
    const Rows rows = rows_of(x);
    float* y = c.output(0, DType::float32, x.shape()).data<float>();
    visit(FeatureTypes{}, x.dtype(), [&](auto tag) {
      using T = typename decltype(tag)::type;
      const T* from = x.data<T>();
      const int64_t n = rows.columns;
      c.parallel_for(rows.count, 4.0 * static_cast<double>(n), [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          const double norm = norm_of(from + i * n, n), divisor = norm == 0 ? 1 : norm;
          for (int64_t j = i * n; j < (i + 1) * n; ++j) {
            y[j] = static_cast<float>(static_cast<double>(from[j]) / divisor);
          }
        }
      });
    });
  }

 private:
  enum class Norm : uint8_t { max, l1, l2 };

  template <class T>
  double norm_of(const T* x, int64_t n) const {
    double result = 0;
    for (int64_t i = 0; i < n; ++i) {
      const double v = std::fabs(static_cast<double>(x[i]));
      if (norm_ == Norm::max) {
        result = v > result || std::isnan(v) ? v : result;  // nothing is above NaN
      } else {
        result += norm_ == Norm::l1 ? v : v * v;
      }
    }
    return norm_ == Norm::l2 ? std::sqrt(result) : result;
  }

  Norm norm_ = Norm::max;
};
BASCULE_KERNEL_IN("ai.onnx.ml", "Normalizer", Normalizer);

// A new last axis with a one where the category stands. Fractions are cut off before the look-up.
class OneHotEncoder final : public Kernel {
 public:
  static Capability capability(const NodeSpec& node) {
    return require_dtype(node, 0, Types<float, double, int64_t, int32_t, std::string>{});
  }
  explicit OneHotEncoder(const NodeSpec& node)
      : categories_(node, "cats_int64s", "cats_strings"), zeros_(node.get_int("zeros", 1) != 0) {
    if ((node.dtype(0) == DType::string) != (categories_.dtype() == DType::string)) {
      fail(std::string("an input of type ") + name_of(node.dtype(0)) + " and categories of type " +
           name_of(categories_.dtype()));
    }
    int64_t place = 0;
    for (const int64_t category : categories_.integers()) integers_[category] = place++;
    for (const std::string& category : categories_.strings()) strings_[category] = place++;
  }

  void run(RunContext& c) const override {
    const Tensor& x = c.input(0);
    const int64_t n = categories_.count();
    Shape shape = x.shape();
    shape.push_back(n);
    auto* places = c.workspace<int64_t>(x.size());
    visit(Types<float, double, int64_t, int32_t, std::string>{}, x.dtype(), [&](auto tag) {
      using T = typename decltype(tag)::type;
      c.parallel_for(x.size(), 40, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) places[i] = find(x.data<T>()[i]);
      });
    });
    const int64_t unknown = std::find(places, places + x.size(), -1) - places;
    if (!zeros_ && unknown < x.size()) {
      invalid("element " + std::to_string(unknown) +
              " of the input is no category, and zeros is 0");
    }
    float* y = c.output(0, DType::float32, shape).data<float>();
    std::fill_n(y, x.size() * n, 0.0f);
    for (int64_t i = 0; i < x.size(); ++i) {
      if (places[i] >= 0) y[i * n + places[i]] = 1;
    }
  }

 private:
  int64_t find(const std::string& value) const {
    const auto found = strings_.find(value);
    return found == strings_.end() ? -1 : found->second;
  }
  template <class T>
  int64_t find(const T& value) const {
    if constexpr (std::is_floating_point_v<T>) {
      if (!(value >= T(-0x1p63) && value < T(0x1p63))) return -1;
    }
    const auto found = integers_.find(static_cast<int64_t>(value));
    return found == integers_.end() ? -1 : found->second;
  }

  Labels categories_;
  bool zeros_;
  std::unordered_map<int64_t, int64_t> integers_;
  std::unordered_map<std::string, int64_t> strings_;
};
BASCULE_KERNEL_IN("ai.onnx.ml", "OneHotEncoder", OneHotEncoder);

// (x - offset) * scale, rounded to float32 at the end.
class Scaler final : public Kernel {
 public:
  static Capability capability(const NodeSpec& node) {
    return require_dtype(node, 0, FeatureTypes{});
  }
  explicit Scaler(const NodeSpec& node)
      : offset_(node.get_floats("offset", {0})), scale_(node.get_floats("scale", {1})) {
    if (offset_.empty()) offset_ = {0};
    if (scale_.empty()) scale_ = {1};
  }

  void run(RunContext& c) const override {
    const Tensor x = c.input(0);
    const int64_t columns = last_axis(x);
    check_length("offset", offset_.size(), columns);
    check_length("scale", scale_.size(), columns);
    float* y = c.output(0, DType::float32, x.shape()).data<float>();
    const size_t offset_step = offset_.size() > 1, scale_step = scale_.size() > 1;
    visit(FeatureTypes{}, x.dtype(), [&](auto tag) {
      using T = typename decltype(tag)::type;
      using Work = std::conditional_t<std::is_same_v<T, float>, float, double>;
      const T* from = x.data<T>();
      c.parallel_for(
          columns == 0 ? 0 : x.size() / columns, 2.0 * static_cast<double>(columns),
          [&](int64_t begin, int64_t end) {
            for (int64_t at = begin * columns; at < end * columns; at += columns) {
              for (int64_t j = 0; j < columns; ++j) {
                const auto i = static_cast<size_t>(j);
                const Work moved =
                    static_cast<Work>(from[at + j]) - static_cast<Work>(offset_[i * offset_step]);
                y[at + j] = static_cast<float>(moved * static_cast<Work>(scale_[i * scale_step]));
              }
            }
          });
    });
  }

 private:
  std::vector<float> offset_;
  std::vector<float> scale_;
};
BASCULE_KERNEL_IN("ai.onnx.ml", "Scaler", Scaler);

}  // namespace
}  // namespace bascule
