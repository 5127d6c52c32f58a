// SPDX-License-Identifier: Apache-2.0
// HannWindow, HammingWindow, BlackmanWindow and MelWeightMatrix: tables for signal processing,
// computed in double.
#include <cmath>
#include <numbers>

#include "runtime/kernel.h"

namespace bascule {
namespace {

DType output_datatype(const NodeSpec& node) {
  const int64_t dtype = node.get_int("output_datatype", 1);
  return dtype > 0 && dtype < dtype_count ? static_cast<DType>(dtype) : DType::undefined;
}

Capability number_output(const NodeSpec& node) {
  if (contains(NumericTypes{}, output_datatype(node))) return accept;
  return reject("the output type is not supported");
}

template <class T>
T rounded(double value) {
  return T(static_cast<Compute<T>>(value));
}

// a - b cos(2 pi i / n) + c cos(4 pi i / n), n the size, less one when not periodic.
template <int kind>
struct Window final : Kernel {
  static Capability capability(const NodeSpec& node) { return number_output(node); }
  explicit Window(const NodeSpec& node)
      : dtype(output_datatype(node)), periodic(node.get_int("periodic", 1) != 0) {}
  void run(RunContext& c) const override {
    const int64_t size = c.input(0).to_int();
    if (size < 0) invalid("the size of a window must not be negative");
    Tensor& y = c.output(0, dtype, {size});
    constexpr double a = kind == 0 ? 0.5 : kind == 1 ? 25.0 / 46.0 : 0.42;
    constexpr double b = kind == 0 ? 0.5 : kind == 1 ? 21.0 / 46.0 : 0.5;
    constexpr double d = kind == 2 ? 0.08 : 0.0;
    const auto n = static_cast<double>(periodic ? size : size - 1);
    visit(NumericTypes{}, dtype, [&](auto tag) {
      using T = typename decltype(tag)::type;
      for (int64_t i = 0; i < size; ++i) {
        const double angle = 2 * std::numbers::pi * static_cast<double>(i) / n;
        // A single point is the top of the window.
        const double value =
            size == 1 && !periodic ? 1.0 : a - b * std::cos(angle) + d * std::cos(2 * angle);
        y.data<T>()[i] = rounded<T>(value);
      }
    });
  }
  DType dtype;
  bool periodic;
};
using HannWindow = Window<0>;
using HammingWindow = Window<1>;
using BlackmanWindow = Window<2>;
BASCULE_KERNEL("HannWindow", HannWindow);
BASCULE_KERNEL("HammingWindow", HammingWindow);
BASCULE_KERNEL("BlackmanWindow", BlackmanWindow);

// Triangles, evenly spaced on the mel scale, over the bins of a spectrum.
struct MelWeightMatrix final : Kernel {
  static Capability capability(const NodeSpec& node) { return number_output(node); }
  explicit MelWeightMatrix(const NodeSpec& node) : dtype(output_datatype(node)) {}
  void run(RunContext& c) const override {
    const int64_t bands = c.input(0).to_int(), length = c.input(1).to_int();
    const double rate = c.input(2).to_double();
    const double low = c.input(3).to_double(), high = c.input(4).to_double();
    constexpr int64_t most = int64_t{1} << 24;
    if (bands < 0 || bands > most || length < 0 || length > most || !(rate > 0) || !(low >= 0) ||
        !(high >= low) || !(high <= rate)) {
      invalid("MelWeightMatrix: the numbers of bands and points, the rate or the edges do not fit");
    }
    const int64_t bins = length / 2 + 1;
    const auto mel = [](double hertz) {
      return 2595 * std::log1p(hertz / 700) / std::numbers::ln10;
    };
    const double first = mel(low);
    const double step = (mel(high) - first) / static_cast<double>(bands + 2);
    const auto edge = [&](int64_t i) {
      const double hertz =
          700 * std::expm1((first + step * static_cast<double>(i)) / 2595 * std::numbers::ln10);
      return static_cast<int64_t>(std::floor(static_cast<double>(length + 1) * hertz / rate));
    };
    Tensor& y = c.output(0, dtype, {bins, bands});
    visit(NumericTypes{}, dtype, [&](auto tag) {
      using T = typename decltype(tag)::type;
      T* out = y.data<T>();
      std::fill_n(out, y.size(), rounded<T>(0));
      const auto set = [&](int64_t bin, int64_t band, double value) {
        if (bin >= 0 && bin < bins) out[bin * bands + band] = rounded<T>(value);
      };
      for (int64_t band = 0; band < bands; ++band) {
        const int64_t left = edge(band), top = edge(band + 1), right = edge(band + 2);
        if (left == top) set(top, band, 1);
        for (int64_t i = left; i <= top && left < top; ++i) {
          set(i, band, static_cast<double>(i - left) / static_cast<double>(top - left));
        }
        for (int64_t i = top; i < right; ++i) {
          set(i, band, static_cast<double>(right - i) / static_cast<double>(right - top));
        }
      }
    });
  }
  DType dtype;
};
BASCULE_KERNEL("MelWeightMatrix", MelWeightMatrix);

}  // namespace
}  // namespace bascule
