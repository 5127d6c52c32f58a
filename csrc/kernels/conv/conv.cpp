// SPDX-License-Identifier: Apache-2.0
// Conv of the standard and of domain `bascule`: Y = activation((scale X) * W + B + residual).
// Everything is computed with channels last; inputs with channels first are transposed on the way
// in and out.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "kernels/activation.h"
#include "kernels/conv/layout.h"
#include "kernels/conv/overlaps.h"
#include "kernels/conv/run.h"
#include "kernels/gemm/convert.h"
#include "kernels/gemm/prepack_floats.h"
#include "kernels/gemm/product.h"
#include "kernels/work_view.h"
#include "runtime/alternatives.h"
#include "runtime/kernel.h"
#include "runtime/read_ahead.h"

namespace bascule {

namespace {

// The forms of a 3x3 convolution, with the side of their tiles.
constexpr std::pair<const char*, int> forms[] = {{"direct", 0}, {"winograd2", 2}, {"winograd4", 4}};

class Conv final : public Kernel, public ReadsAhead {
 public:
  static Capability capability(const NodeSpec& node) {
    if (const Capability typed = require_dtype(node, 0, FloatTypes{}); !typed.accepted()) {
      return typed;
    }
    const int rank = node.has_input(0) ? node.inputs[0].rank() : -1;
    if (rank > 5) return reject("more than three spatial axes");
    if (node.has_input(4) && (node.dtype(0) == DType::float64 || node.dtype(4) != node.dtype(0))) {
      return reject("a scale of float64, or of another type than the input");
    }
    if (!has_activation(node.dtype(0), parse_activation(node))) {
      return reject("activation '" + node.get_string("activation", "") +
                    "' is not supported for type " + name_of(node.dtype(0)));
    }
    return accept;
  }

  // Forms that are not the one of choose_tile().
  static std::vector<std::string> alternatives(const NodeSpec& node, int) {
    std::vector<std::string> names;
    const Tensor* w = node.constant(1);
    if (w == nullptr || w->rank() != 4 || node.dtype(0) == DType::float64) return names;
    const std::optional<ConvSizes> sizes = known_sizes(node, ConvAttributes(node));
    if (!sizes || !takes_winograd(*sizes)) return names;
    for (const auto& [name, tile] : forms) {
      if (tile != winograd_tile(*sizes)) names.emplace_back(name);
    }
    return names;
  }

  explicit Conv(const NodeSpec& node) : attributes_(node), activation_(parse_activation(node)) {
    const Tensor* w = node.constant(1);
    if (w == nullptr || w->rank() < 3 || w->rank() > 5) return;
    const ConvSizes sizes = attributes_.conv_weights(w->shape());
    if (sizes.out_channels % sizes.group != 0 || w->size() == 0) return;
    if (is_product(node, sizes)) {
      float16_sums_ = sums_in_float16(node);
      const std::optional<ConvSizes> known = known_sizes(node, attributes_);
      by_parts_ = known && !multiplies_whole(node) &&
                  pays_by_parts(known->out_pixels(), sizes.in_channels, sizes.out_channels);
      const Tensor matrix = w->reshaped(Shape{sizes.out_channels, sizes.in_channels});
      product_ = PackedOperand::pack(node, {1}, matrix, true);
    } else if (w->dtype() == DType::float64) {
      packed_ = prepack_floats<double>(
          node, {1}, direct_form<double>(sizes), direct_size<double>(sizes), *w,
          [&](const double* from, double* to) { pack_direct(sizes, from, to); });
      finite_weights_ = is_dilated(node) && are_finite<double>(packed_);
    } else {
      const std::optional<ConvSizes> known = known_sizes(node, attributes_);
      winograd_tile_ = choose_tile(node, known);
      if (known && winograd_tile_ > 0) {
        const auto pixels = static_cast<double>(known->out[1]) * static_cast<double>(known->out[2]);
        // So many tiles use each weight too seldom for the memory to keep up.
        streams_ = pixels <= 24.0 * winograd_tile_ * winograd_tile_;
      } else if (known) {
        streams_ = known->out_pixels() == 1 && sizes.group == 1;
        spare_bytes_ = bascule::spare_bytes(*known);
      }
      if (known && winograd_tile_ == 0 && node.dtype(0) == DType::float32 &&
          !multiplies_whole(node)) {
        by_parts_ =
            pays_by_parts(known->out_pixels(), sizes.group_in() * sizes.taps(), sizes.group_out());
      }
      const int64_t size = winograd_tile_ > 0 ? winograd_weights_size(sizes, winograd_tile_)
                                              : direct_size<float>(sizes);
      const std::string form = winograd_tile_ > 0 ? "Winograd W " + std::to_string(winograd_tile_)
                                                  : direct_form<float>(sizes);
      packed_ = prepack_floats<float>(node, {1}, form, size, *w, [&](const float* from, float* to) {
        if (winograd_tile_ > 0) {
          pack_winograd(sizes, winograd_tile_, from, to);
        } else {
          pack_direct(sizes, from, to);
        }
      });
      finite_weights_ = is_dilated(node) && are_finite<float>(packed_);
    }
    w_shape_ = w->shape();
    node.release_constant(1);
  }

  std::span<const std::byte> streamed() const override {
    if (!streams_) return {};
    return {static_cast<const std::byte*>(packed_.raw()),
            static_cast<size_t>(packed_.size()) * sizeof(float)};
  }
  int64_t spare_bytes() const override { return spare_bytes_; }

  void run(RunContext& c) const override {
    const Tensor& x = c.input(0);
    const Shape& w_shape = w_shape_.rank() > 0 ? w_shape_ : c.input(1).shape();
    const ConvSizes sizes = attributes_.conv(x.shape(), w_shape);
    const Shape y_shape = attributes_.output_shape(sizes, x.rank());
    if (c.has_input(2) && c.input(2).shape() != Shape{sizes.out_channels}) {
      fail("bias has shape " + c.input(2).shape().text() + ", expected " +
           Shape{sizes.out_channels}.text());
    }
    if (c.has_input(3) && c.input(3).shape() != y_shape) {
      fail("residual has shape " + c.input(3).shape().text() + ", expected " + y_shape.text());
    }
    if (c.has_input(4)) {
      const Shape& shape = c.input(4).shape();
      if (!attributes_.channels_last() || attributes_.planes() || shape.rank() != x.rank() ||
          shape[0] != sizes.batch || shape[x.rank() - 1] != sizes.in_channels ||
          shape.size() != sizes.batch * sizes.in_channels) {
        fail("scale has shape " + shape.text() +
             ", expected a number for each image and channel of " + x.shape().text() +
             " with channels last");
      }
    }
    Tensor& y = c.output(0, x.dtype(), y_shape);
    if (y.size() == 0) return;
    if (product_.present()) {
      multiply(c, sizes, x, y);
    } else if (x.dtype() == DType::float64) {
      run_typed<double>(c, sizes, y.data<double>(),
                        [](const Tensor& t) { return t.data<double>(); });
    } else if (x.dtype() == DType::float32) {
      run_typed<float>(c, sizes, y.data<float>(), [](const Tensor& t) { return t.data<float>(); });
    } else {
      float* wide = c.workspace<float>(y.size());
      run_typed<float>(c, sizes, wide, [&](const Tensor& t) { return as_floats(c, t); });
      narrow(c, y.dtype(), wide, y.raw(), y.size());
    }
  }

 private:
  // The sizes of a node's convolution, for one image, as far as they are known.
  static std::optional<ConvSizes> known_sizes(const NodeSpec& node,
                                              const ConvAttributes& attributes) {
    if (node.inputs[0].rank() != 4) return std::nullopt;
    Shape x(*node.inputs[0].shape);
    x[0] = 1;
    for (const int64_t size : x) {
      if (size <= 0) return std::nullopt;
    }
    try {
      return attributes.conv(x, node.constant(1)->shape());
    } catch (const Error&) {
      return std::nullopt;  // run() says what does not fit
    }
  }

  // Packed weights of any form but Winograd's.
  template <class T>
  static std::string direct_form(const ConvSizes& s) {
    return conv_takes_overlaps<T>(s) ? "overlaps W" : "W";
  }
  template <class T>
  static int64_t direct_size(const ConvSizes& s) {
    return conv_takes_overlaps<T>(s) ? overlaps_weights_size<T>(s) : packed_weights_size<T>(s);
  }
  template <class T>
  static void pack_direct(const ConvSizes& s, const T* w, T* packed) {
    conv_takes_overlaps<T>(s) ? pack_conv_overlaps(s, w, packed) : pack_weights(s, w, packed);
  }

  static bool is_dilated(const NodeSpec& node) {
    const std::vector<int64_t> dilations = node.get_ints("dilations");
    return std::any_of(dilations.begin(), dilations.end(), [](int64_t d) { return d > 1; });
  }

  template <class T>
  static bool are_finite(const Tensor& t) {
    return std::all_of(t.data<T>(), t.data<T>() + t.size(), [](T v) { return std::isfinite(v); });
  }

  // Whether a convolution of 16-bit floats is a product of pixels with the weights: those then stay
  // 16 bits wide, and pixels are converted while they are in a cache.
  bool is_product(const NodeSpec& node, const ConvSizes& s) const {
    const std::vector<int64_t> pads = node.get_ints("pads");
    return is_half(node.dtype(0)) && attributes_.channels_last() && !attributes_.planes() &&
           !node.has_input(4) && s.taps() == 1 && s.group == 1 &&
           std::all_of(pads.begin(), pads.end(), [](int64_t pad) { return pad == 0; });
  }

  void multiply(RunContext& c, const ConvSizes& s, const Tensor& x, Tensor& y) const {
    Product p;
    p.dtype = x.dtype();
    p.m = s.batch * s.out_pixels();
    p.n = s.out_channels;
    p.k = s.in_channels;
    p.a = x.raw();
    if (s.in != s.out) {
      const auto* pixels = reinterpret_cast<const uint16_t*>(x.raw());
      p.a = reinterpret_cast<const std::byte*>(strided_pixels(c, s, pixels));
    }
    p.packed = &product_;
    p.float16_sums = float16_sums_;
    p.by_parts = by_parts_;
    p.bias = c.has_input(2) ? c.input(2).raw() : nullptr;
    p.residual = c.has_input(3) ? c.input(3).raw() : nullptr;
    p.activation = activation_;
    p.y = y.raw();
    run_product(c, p);
  }

  // The side of Winograd's tiles, or 0 for the direct form.
  static int choose_tile(const NodeSpec& node, const std::optional<ConvSizes>& sizes) {
    if (!sizes) return 0;
    const std::string chosen = chosen_alternative(node);
    for (const auto& [name, tile] : forms) {
      if (chosen == name && (tile == 0 || takes_winograd(*sizes))) return tile;
    }
    return winograd_tile(*sizes);
  }

  // `elements` gives a tensor's elements as T.
  template <class T, class Elements>
  void run_typed(RunContext& c, const ConvSizes& s, T* y, Elements&& elements) const {
    Convolution<T> v{};
    v.sizes = s;
    v.winograd_tile = winograd_tile_;
    v.overlaps = winograd_tile_ == 0 && conv_takes_overlaps<T>(s);
    v.by_parts = by_parts_;
    v.finite_weights = finite_weights_;
    // One thread alone has memory enough, and a larger batch time enough.
    if (s.batch == 1 && c.threads() > 1) v.ahead = ahead();
    v.x = elements(c.input(0));
    if (packed_.size() > 0) {
      v.w = packed_.data<T>();
    } else {
      T* packed = c.workspace<T>(direct_size<T>(s));
      pack_direct<T>(s, elements(c.input(1)), packed);
      v.w = packed;
    }
    v.epilogue.bias = c.has_input(2) ? elements(c.input(2)) : nullptr;
    v.epilogue.residual = c.has_input(3) ? elements(c.input(3)) : nullptr;
    set_activation(v.epilogue, activation_);
    v.y = y;
    if constexpr (std::is_same_v<T, float>) {
      if (c.has_input(4)) return run_scaled_convolution(c, elements(c.input(4)), v);
    }
    if (attributes_.planes()) {
      v.planes = std::is_same_v<T, float> && takes_planes(s) && winograd_tile_ == 0 && !v.overlaps;
      if (!v.planes) v.x = to_channels_last(c, v.x, s.batch, s.in_channels, s.in_pixels());
    }
    if (attributes_.channels_last() || (s.out_channels == 1 && s.in_channels == 1)) {
      run_convolution(c, v);
      return;
    }
    v.x = to_channels_last(c, v.x, s.batch, s.in_channels, s.in_pixels());
    v.epilogue.residual =
        to_channels_last(c, v.epilogue.residual, s.batch, s.out_channels, s.out_pixels());
    const bool same = s.out_channels == 1 || s.out_pixels() == 1;
    if (!same) v.y = c.workspace<T>(s.batch * s.out_channels * s.out_pixels());
    run_convolution(c, v);
    if (!same) transpose_images(c, v.y, y, s.batch, s.out_pixels(), s.out_channels);
  }

  ConvAttributes attributes_;
  Activation activation_;
  int winograd_tile_ = 0;
  bool streams_ = false;
  int64_t spare_bytes_ = 0;
  Tensor packed_;  // empty: the weights are not constant, or in product_
  PackedOperand product_;
  bool float16_sums_ = false;
  bool by_parts_ = false;
  bool finite_weights_ = false;  // looked at where kernels are dilated
  Shape w_shape_;                // of constant weights
};
BASCULE_KERNEL("Conv", Conv);
BASCULE_KERNEL_IN("bascule", "Conv", Conv);
BASCULE_ALTERNATIVES("", "Conv", &Conv::alternatives);
BASCULE_ALTERNATIVES("bascule", "Conv", &Conv::alternatives);

}  // namespace
}  // namespace bascule
