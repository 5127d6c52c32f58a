// SPDX-License-Identifier: Apache-2.0
// Bernoulli, Multinomial and Dropout: choices drawn with given probabilities.
#include <algorithm>

#include "kernels/random/generator.h"
#include "runtime/kernel.h"

namespace bascule {
namespace {

using DrawnTypes = Types<float, double, Float16, BFloat16, int8_t, int16_t, int32_t, int64_t,
                         uint8_t, uint16_t, uint32_t, uint64_t, bool>;

DType wanted_dtype(const NodeSpec& node, DType fallback) {
  const int64_t dtype = node.get_int("dtype", static_cast<int64_t>(fallback));
  return dtype > 0 && dtype < dtype_count ? static_cast<DType>(dtype) : DType::undefined;
}

// 1 with the probability that the input gives, else 0.
struct Bernoulli final : Kernel {
  static Capability capability(const NodeSpec& node) {
    if (!contains(DrawnTypes{}, wanted_dtype(node, node.dtype(0)))) {
      return reject("the output type is not supported");
    }
    return require_dtype(node, 0, FloatTypes{});
  }
  explicit Bernoulli(const NodeSpec& node)
      : generator(node), dtype(wanted_dtype(node, node.dtype(0))) {}
  void run(RunContext& c) const override {
    const Tensor& x = c.input(0);
    bool* drawn = c.workspace<bool>(x.size());
    visit(FloatTypes{}, x.dtype(), [&](auto tag) {
      using T = typename decltype(tag)::type;
      using C = Compute<T>;
      const T* probability = x.data<T>();
      if (std::optional<SeededStream> stream = generator.seeded()) {
        for (int64_t i = 0; i < x.size(); ++i) {
          drawn[i] = stream->binomial(static_cast<double>(static_cast<C>(probability[i])));
        }
        return;
      }
      generator.uniform<C>(c, x.size(), 32, [&](int64_t i, auto number) {
        drawn[i] = number < static_cast<C>(probability[i]);
      });
    });
    Tensor& y = c.output(0, dtype, x.shape());
    visit(DrawnTypes{}, dtype, [&](auto tag) {
      using T = typename decltype(tag)::type;
      const T one = T(Compute<T>(1)), zero = T(Compute<T>(0));
      for (int64_t i = 0; i < x.size(); ++i) y.data<T>()[i] = drawn[i] ? one : zero;
    });
  }
  Generator generator;
  DType dtype;
};
BASCULE_KERNEL("Bernoulli", Bernoulli);

// Classes drawn with probabilities proportional to exp(input).
struct Multinomial final : Kernel {
  static Capability capability(const NodeSpec& node) {
    if (!contains(Types<int32_t, int64_t>{}, wanted_dtype(node, DType::int32))) {
      return reject("the output type is not int32 or int64");
    }
    return require_dtype(node, 0, FloatTypes{});
  }
  explicit Multinomial(const NodeSpec& node)
      : generator(node),
        dtype(wanted_dtype(node, DType::int32)),
        samples(node.get_int("sample_size", 1)) {
    if (samples < 1) invalid("sample_size must be positive, got " + std::to_string(samples));
  }
  void run(RunContext& c) const override {
    const Tensor& x = c.input(0);
    if (x.rank() != 2 || x.dim(1) < 1) {
      invalid("Multinomial: expected [batch, classes], got shape " + x.shape().text());
    }
    const int64_t batch = x.dim(0), classes = x.dim(1);
    double* sums = c.workspace<double>(classes);
    Tensor& y = c.output(0, dtype, {batch, samples});
    double* levels = c.workspace<double>(y.size());
    generator.uniform<double>(c, y.size(), 32,
                              [&](int64_t i, double number) { levels[i] = number; });
    for (int64_t row = 0; row < batch; ++row) {
      running_sums(x, row, sums);
      for (int64_t i = row * samples; i < (row + 1) * samples; ++i) {
        const double level = levels[i] * sums[classes - 1];
        const int64_t drawn = std::upper_bound(sums, sums + classes - 1, level) - sums;
        if (dtype == DType::int32) {
          y.data<int32_t>()[i] = static_cast<int32_t>(drawn);
        } else {
          y.data<int64_t>()[i] = drawn;
        }
      }
    }
  }

 private:
  static void running_sums(const Tensor& x, int64_t row, double* sums) {
    const int64_t classes = x.dim(1);
    visit(FloatTypes{}, x.dtype(), [&](auto tag) {
      using T = typename decltype(tag)::type;
      const T* from = x.data<T>() + row * classes;
      double top = static_cast<double>(static_cast<Compute<T>>(from[0]));
      for (int64_t i = 1; i < classes; ++i) {
        top = std::max(top, static_cast<double>(static_cast<Compute<T>>(from[i])));
      }
      double sum = 0;
      for (int64_t i = 0; i < classes; ++i) {
        sum += std::exp(static_cast<double>(static_cast<Compute<T>>(from[i])) - top);
        sums[i] = sum;
      }
    });
  }
  Generator generator;
  DType dtype;
  int64_t samples;
};
BASCULE_KERNEL("Multinomial", Multinomial);

// In training mode elements are zero with probability `ratio` and the others scaled up; else a
// view.
struct Dropout final : Kernel {
  using Dropped = Types<float, double, Float16, BFloat16, Float8E4M3FN, Float8E4M3FNUZ, Float8E5M2,
                        Float8E5M2FNUZ>;
  static Capability capability(const NodeSpec& node) {
    const Capability data = require_dtype(node, 0, Dropped{});
    return data.accepted() ? require_dtype(node, 1, Dropped{}) : data;
  }
  explicit Dropout(const NodeSpec& node) : generator(node) {}
  void run(RunContext& c) const override {
    const Tensor& x = c.input(0);
    const double ratio = c.has_input(1) ? c.input(1).to_double() : 0.5;
    const bool training = c.has_input(2) && *c.input(2).data<bool>();
    if (!(ratio >= 0 && ratio < 1)) invalid("Dropout: ratio must be in [0, 1)");
    bool* mask = c.wants_output(1) ? c.output(1, DType::boolean, x.shape()).data<bool>() : nullptr;
    if (!training || ratio == 0) {
      if (mask != nullptr) std::fill_n(mask, x.size(), true);
      return c.alias_output(0, x, x.shape());
    }
    Tensor& output = c.output(0, x.dtype(), x.shape());
    visit(Dropped{}, x.dtype(), [&](auto tag) {
      using T = typename decltype(tag)::type;
      using C = Compute<T>;
      const C scale = static_cast<C>(1 / (1 - ratio));
      generator.uniform<C>(c, x.size(), 32, [&](int64_t i, auto number) {
        const bool keep = number >= static_cast<decltype(number)>(ratio);
        output.data<T>()[i] = T(keep ? static_cast<C>(x.data<T>()[i]) * scale : C(0));
        if (mask != nullptr) mask[i] = keep;
      });
    });
  }
  Generator generator;
};
BASCULE_KERNEL("Dropout", Dropout);

}  // namespace
}  // namespace bascule
