// SPDX-License-Identifier: Apache-2.0
// ConvTranspose of the standard and of domain `bascule`: Y = activation(X *' W + B).
//
// With stride s, the output pixels of one phase (those of equal position modulo s) read the same
// taps, and neighbours in a phase read neighbouring input pixels: each phase is a convolution
// without stride, that is a matrix product over tap pointers, whose results are s pixels apart.
// Nothing is scattered, and every output is written once.
#include <algorithm>
#include <type_traits>

#include "kernels/activation.h"
#include "kernels/conv/border.h"
#include "kernels/conv/layout.h"
#include "kernels/conv/overlaps.h"
#include "kernels/conv/transposed.h"
#include "kernels/gemm/convert.h"
#include "kernels/gemm/prepack_floats.h"
#include "kernels/gemm/product.h"
#include "runtime/kernel.h"

namespace bascule {

namespace {

int64_t count_taps(const ConvSizes& s, const Spatial& r) {
  int64_t count = 0;
  for_taps(s, r, [&](int64_t, int64_t, int64_t) { ++count; });
  return count;
}

// Elements of the packed weights.
template <class T>
int64_t packed_transposed_size(const ConvSizes& s) {
  if (std::is_same_v<T, float> && is_depthwise(s)) return packed_weights_size<T>(s);
  if (takes_overlaps<T>(s)) return overlaps_weights_size<T>(s);
  return s.group * packed_size<T>(s.taps() * s.group_in(), s.group_out());
}

// Packs [C, M / group, kernel...] by group and phase as panels of the matrix [(tap, c), m].
template <class T>
void pack_transposed(const ConvSizes& s, const T* w, T* packed) {
  if (std::is_same_v<T, float> && is_depthwise(s)) return pack_weights(s, w, packed);
  if (takes_overlaps<T>(s)) return pack_overlaps(s, w, packed);
  const GemmFunctions<T>& functions = gemm_functions<T>();
  const int64_t width = functions.panel_width;
  const int64_t columns = s.group_out();
  const int64_t rows = s.group_in();
  const int64_t taps = s.taps();
  const Phases phases(s);
  for (int64_t g = 0; g < s.group; ++g) {
    phases.for_each([&](const Spatial& r) {
      for (int64_t j = 0; j < columns; j += width) {
        for_taps(s, r, [&](int64_t kd, int64_t kh, int64_t kw) {
          const int64_t tap = (kd * s.kernel[1] + kh) * s.kernel[2] + kw;
          functions.pack_panel(w + (g * rows * columns + j) * taps + tap, columns * taps, taps,
                               rows, std::min(width, columns - j), packed);
          packed += rows * width;
        });
      }
    });
  }
}

// The border that all phases need.
Bordered transposed_border(const ConvSizes& s) {
  Bordered b;
  for (size_t axis = 0; axis < 3; ++axis) {
    int64_t least = 0;
    int64_t most = s.in[axis] - 1;
    for (int64_t k = 0; k < s.kernel[axis]; ++k) {
      const PhaseAxis phase(s, axis, k * s.dilation[axis] % s.stride[axis]);
      if (phase.count == 0) continue;
      const int64_t shift = phase.shift(s, axis, k);
      least = std::min(least, shift);
      most = std::max(most, shift + phase.count - 1);
    }
    b.before[axis] = -least;
    b.size[axis] = most - least + 1;
    b.copied |= b.size[axis] != s.in[axis];
  }
  return b;
}

// X [N, in..., C] -> Y [N, out..., M].
template <class T>
void run_transposed(RunContext& c, const Convolution<T>& v) {
  const ConvSizes& s = v.sizes;
  if constexpr (std::is_same_v<T, float>) {
    if (is_depthwise(s)) return run_transposed_depthwise(c, v);
  }
  if (takes_overlaps<T>(s)) return run_overlaps(c, v);
  const Bordered border = transposed_border(s);
  const int64_t channels = s.in_channels;
  const int64_t row = border.size[2] * channels;
  const int64_t rows = border.size[0] * border.size[1];
  T* copy = border.copied ? c.workspace<T>(rows * row) : nullptr;
  const T** taps = c.workspace<const T*>(s.taps());
  const int64_t width = gemm_functions<T>().panel_width;
  const Phases phases(s);
  for (int64_t n = 0; n < s.batch; ++n) {
    const T* image = v.x + n * s.in_pixels() * channels;
    if (copy != nullptr) {
      c.parallel_for(rows, static_cast<double>(row) / 8, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) copy_bordered_row(s, border, image, copy, i);
      });
      image = copy;
    }
    const T* w = v.w;
    for (int64_t group = 0; group < s.group; ++group) {
      phases.for_each([&](const Spatial& r) {
        const PhaseAxis depth(s, 0, r[0]);
        const PhaseAxis height(s, 1, r[1]);
        const PhaseAxis across(s, 2, r[2]);
        const int64_t k = count_taps(s, r) * s.group_in();
        GemmBlock<T> g{};
        g.a = taps;
        for_taps(s, r, [&](int64_t kd, int64_t kh, int64_t kw) {
          const int64_t z = border.before[0] + depth.shift(s, 0, kd);
          const int64_t y = border.before[1] + height.shift(s, 1, kh);
          const int64_t x = border.before[2] + across.shift(s, 2, kw);
          taps[g.taps++] = image + (z * border.size[1] + y) * row + x * channels;
        });
        g.tap_length = s.group_in();
        g.a_stride = channels;
        g.a_group_stride = row;
        g.groups = height.count;
        g.rows = across.count;
        g.b = w;
        g.b_stride = width;
        g.b_panel_stride = width * k;
        g.c_stride = s.stride[2] * s.out_channels;
        g.c_group_stride = s.stride[1] * s.out[2] * s.out_channels;
        g.columns = s.group_out();
        g.epilogue = v.epilogue;
        if (g.epilogue.bias != nullptr) g.epilogue.bias += group * s.group_out();
        for (int64_t i = 0; i < depth.count; ++i) {
          const int64_t z = depth.first + i * s.stride[0];
          g.a_offset = i * border.size[1] * row + group * s.group_in();
          g.c = v.y + group * s.group_out() +
                (((n * s.out[0] + z) * s.out[1] + height.first) * s.out[2] + across.first) *
                    s.out_channels;
          multiply(c, g);
        }
        w += packed_size<T>(k, s.group_out());
      });
    }
  }
}

class ConvTranspose final : public Kernel {
 public:
  static Capability capability(const NodeSpec& node) {
    if (const Capability typed = require_dtype(node, 0, FloatTypes{}); !typed.accepted()) {
      return typed;
    }
    const int rank = node.has_input(0) ? node.inputs[0].rank() : -1;
    if (rank > 5) return reject("more than three spatial axes");
    if (!has_activation(node.dtype(0), parse_activation(node))) {
      return reject("activation '" + node.get_string("activation", "") +
                    "' is not supported for type " + name_of(node.dtype(0)));
    }
    return accept;
  }

  explicit ConvTranspose(const NodeSpec& node)
      : attributes_(node), activation_(parse_activation(node)) {
    const Tensor* w = node.constant(1);
    if (w == nullptr || w->rank() < 3 || w->rank() > 5 || w->size() == 0) return;
    const ConvSizes sizes = attributes_.transposed_weights(w->shape());
    if (sizes.in_channels % sizes.group != 0) return;
    const auto pack = [&]<class T>(Tag<T>) {
      const int64_t size = packed_transposed_size<T>(sizes);
      packed_ = prepack_floats<T>(node, {1}, "W", size, *w, [&](const T* from, T* to) {
        pack_transposed<T>(sizes, from, to);
      });
    };
    if (w->dtype() == DType::float64) {
      pack(Tag<double>{});
    } else {
      pack(Tag<float>{});
    }
    w_shape_ = w->shape();
    node.release_constant(1);
  }

  void run(RunContext& c) const override {
    const Tensor& x = c.input(0);
    const Shape& w_shape = packed_.size() > 0 ? w_shape_ : c.input(1).shape();
    const ConvSizes sizes = attributes_.transposed(x.shape(), w_shape);
    if (c.has_input(2) && c.input(2).shape() != Shape{sizes.out_channels}) {
      fail("bias has shape " + c.input(2).shape().text() + ", expected " +
           Shape{sizes.out_channels}.text());
    }
    Tensor& y = c.output(0, x.dtype(), attributes_.output_shape(sizes, x.rank()));
    if (y.size() == 0) return;
    if (x.dtype() == DType::float64) {
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
  template <class T, class Elements>
  void run_typed(RunContext& c, const ConvSizes& s, T* y, Elements&& elements) const {
    Convolution<T> v{};
    v.sizes = s;
    v.x = elements(c.input(0));
    if (packed_.size() > 0) {
      v.w = packed_.data<T>();
    } else {
      T* packed = c.workspace<T>(packed_transposed_size<T>(s));
      pack_transposed<T>(s, elements(c.input(1)), packed);
      v.w = packed;
    }
    v.epilogue.bias = c.has_input(2) ? elements(c.input(2)) : nullptr;
    set_activation(v.epilogue, activation_);
    v.y = y;
    if (attributes_.channels_last()) {
      run_transposed(c, v);
      return;
    }
    v.x = to_channels_last(c, v.x, s.batch, s.in_channels, s.in_pixels());
    const bool same = s.out_channels == 1 || s.out_pixels() == 1;
    if (!same) v.y = c.workspace<T>(s.batch * s.out_channels * s.out_pixels());
    run_transposed(c, v);
    if (!same) transpose_images(c, v.y, y, s.batch, s.out_pixels(), s.out_channels);
  }

  ConvAttributes attributes_;
  Activation activation_;
  Tensor packed_;  // empty: the weights are not constant
  Shape w_shape_;
};
BASCULE_KERNEL("ConvTranspose", ConvTranspose);
BASCULE_KERNEL_IN("bascule", "ConvTranspose", ConvTranspose);

}  // namespace
}  // namespace bascule
