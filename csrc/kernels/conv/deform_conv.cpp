// SPDX-License-Identifier: Apache-2.0
// DeformConv: each tap of each output pixel looks at a place of its own, between pixels, and may be
// weighted. The samples of some pixels make the columns of a matrix that the weights are multiplied
// with.
#include <algorithm>

#include "kernels/conv/geometry.h"
#include "kernels/gemm/gemm.h"
#include "kernels/work_view.h"
#include "runtime/kernel.h"

namespace bascule {
namespace {

// The pixels around a place in one channel, with linear weights; those outside count as zero.
template <class T>
struct Corners {
  int64_t offset[8];
  T weight[8];
  int count = 0;

  Corners(const ConvSizes& s, const std::array<T, 3>& place, T factor) {
    std::array<int64_t, 3> low{};
    std::array<T, 3> part{};
    for (size_t axis = 0; axis < 3; ++axis) {
      // Also refuses NaN and what no integer can hold.
      if (!(place[axis] > -1 && place[axis] < static_cast<T>(s.in[axis]))) return;
      low[axis] = place[axis] < 0 ? -1 : static_cast<int64_t>(place[axis]);
      part[axis] = place[axis] - static_cast<T>(low[axis]);
    }
    // Without a depth the odd corners, those behind, have no share.
    const unsigned step = part[0] == 0 ? 2 : 1;
    for (unsigned corner = 0; corner < 8; corner += step) {
      int64_t at = 0;
      T share = factor;
      bool inside = true;
      for (size_t axis = 0; axis < 3; ++axis) {
        const bool high = (corner >> axis & 1) != 0;
        const int64_t index = low[axis] + (high ? 1 : 0);
        share *= high ? part[axis] : 1 - part[axis];
        inside &= index >= 0 && index < s.in[axis];
        at = at * s.in[axis] + index;
      }
      if (!inside || share == 0) continue;
      offset[count] = at;
      weight[count++] = share;
    }
  }
  T sample(const T* channel) const {
    if (count == 4) {
      return weight[0] * channel[offset[0]] + weight[1] * channel[offset[1]] +
             weight[2] * channel[offset[2]] + weight[3] * channel[offset[3]];
    }
    T sum = 0;
    for (int i = 0; i < count; ++i) sum += weight[i] * channel[offset[i]];
    return sum;
  }
};

class DeformConv final : public Kernel {
 public:
  static Capability capability(const NodeSpec& node) {
    return require_dtype(node, 0, FloatTypes{});
  }
  explicit DeformConv(const NodeSpec& node)
      : attributes_(node), offset_groups_(node.get_int("offset_group", 1)) {
    if (offset_groups_ < 1) fail("offset_group is " + std::to_string(offset_groups_));
  }

  void run(RunContext& c) const override {
    const Tensor& x = c.input(0);
    const ConvSizes s = attributes_.conv(x.shape(), c.input(1).shape());
    if (s.in_channels % offset_groups_ != 0) {
      invalid(std::to_string(s.in_channels) + " channels are not a multiple of offset_group, " +
              std::to_string(offset_groups_));
    }
    const int axes = x.rank() - 2;
    const Shape y_shape = attributes_.output_shape(s, x.rank());
    Shape expected = y_shape;
    expected[1] = offset_groups_ * s.taps() * axes;
    expect(c, 2, expected, "offset");
    expect(c, 3, {s.out_channels}, "B");
    expected[1] = offset_groups_ * s.taps();
    expect(c, 4, expected, "mask");
    visit_work_type(x.dtype(), [&](auto tag) {
      using T = typename decltype(tag)::type;
      const auto optional = [&](int i) -> const T* {
        return c.has_input(i) ? work_view<T>(c, c.input(i)) : nullptr;
      };
      Tensor& y = c.output(0, x.dtype(), y_shape);
      T* to = work_target<T>(c, y);
      compute<T>(c, s, axes, {optional(0), optional(1), optional(2), optional(3), optional(4), to});
      store_work(c, to, y);
    });
  }

 private:
  template <class T>
  struct Data {
    const T* x;
    const T* w;
    const T* offset;
    const T* bias;
    const T* mask;
    T* y;
  };

  static void expect(RunContext& c, int i, const Shape& shape, const char* name) {
    if (!c.has_input(i) || c.input(i).shape() == shape) return;
    invalid(std::string(name) + " has shape " + c.input(i).shape().text() + ", expected " +
            shape.text());
  }

  template <class T>
  void compute(RunContext& c, const ConvSizes& s, int axes, const Data<T>& d) const {
    const int64_t depth = s.group_in() * s.taps(), pixels = s.out_pixels();
    if (s.batch * s.out_channels * pixels == 0) return;
    // Some panels of pixels at a time.
    const int64_t columns = std::min(4 * gemm_functions<T>().panel_width, pixels);
    const int64_t chunks = (pixels + columns - 1) / columns;
    const int64_t pieces = s.batch * chunks, parts = std::min<int64_t>(c.threads(), pieces);
    const int64_t packed = packed_size<T>(depth, columns);
    const int64_t size = round_up(packed + depth * columns, 16);
    T* space = c.workspace<T>(parts * size);
    auto* corners = c.workspace<Corners<T>>(parts * columns);
    const double work = static_cast<double>(pieces * columns * s.group) *
                        static_cast<double>(depth) * static_cast<double>(s.group_out() / 8 + 20);
    c.parallel_for(parts, work / static_cast<double>(parts), [&](int64_t begin, int64_t end) {
      for (int64_t part = begin; part < end; ++part) {
        T* panels = space + part * size;
        for (int64_t i = pieces * part / parts; i < pieces * (part + 1) / parts; ++i) {
          const int64_t first = i % chunks * columns;
          const int64_t count = std::min(columns, pixels - first);
          for (int64_t group = 0; group < s.group; ++group) {
            piece(s, axes, d, i / chunks, group, first, count, panels, panels + packed,
                  corners + part * columns);
          }
        }
      }
    });
  }

  // `count` pixels from `first` of one group of one image.
  template <class T>
  void piece(const ConvSizes& s, int axes, const Data<T>& d, int64_t image, int64_t group,
             int64_t first, int64_t count, T* panels, T* samples, Corners<T>* corners) const {
    const int64_t pixels = s.out_pixels(), taps = s.taps(), depth = s.group_in() * taps;
    const int64_t per_offset = s.in_channels / offset_groups_;
    const int64_t first_channel = group * s.group_in();
    for (int64_t channel = first_channel; channel < first_channel + s.group_in();) {
      // The channels that share their offsets are sampled together.
      const int64_t offsets = channel / per_offset;
      const int64_t last = std::min((offsets + 1) * per_offset, first_channel + s.group_in());
      for (int64_t tap = 0; tap < taps; ++tap) {
        const int64_t plane = (image * offset_groups_ + offsets) * taps + tap;
        const Spatial in_kernel = position(s.kernel, tap);
        Spatial at = position(s.out, first);
        for (int64_t j = 0; j < count; ++j) {
          const int64_t pixel = first + j;
          corners[j] =
              Corners<T>(s, place(s, axes, d.offset + plane * axes * pixels + pixel, in_kernel, at),
                         d.mask != nullptr ? d.mask[plane * pixels + pixel] : T{1});
          step(s.out, at);
        }
        for (int64_t k = channel; k < last; ++k) {
          const T* from = d.x + (image * s.in_channels + k) * s.in_pixels();
          T* to = samples + ((k - first_channel) * taps + tap) * count;
          for (int64_t j = 0; j < count; ++j) to[j] = corners[j].sample(from);
        }
      }
      channel = last;
    }
    pack_panels<T>(samples, count, 1, depth, count, panels);
    const int64_t out = group * s.group_out();
    const T* weights = d.w + out * depth;
    T* y = d.y + (image * s.out_channels + out) * pixels + first;
    GemmBlock<T> block = matrix_block<T>(&weights, s.group_out(), depth, depth, panels, y, count);
    block.c_stride = pixels;
    multiply(block);
    for (int64_t row = 0; d.bias != nullptr && row < s.group_out(); ++row) {
      for (int64_t j = 0; j < count; ++j) y[row * pixels + j] += d.bias[out + row];
    }
  }

  static Spatial position(const Spatial& size, int64_t index) {
    return {index / (size[1] * size[2]), index / size[2] % size[1], index % size[2]};
  }
  // To the next position.
  static void step(const Spatial& size, Spatial& at) {
    if (++at[2] < size[2]) return;
    at[2] = 0;
    if (++at[1] < size[1]) return;
    at[1] = 0;
    ++at[0];
  }

  // Where a tap of a pixel looks; `offset` is that of the first axis.
  template <class T>
  static std::array<T, 3> place(const ConvSizes& s, int axes, const T* offset,
                                const Spatial& in_kernel, const Spatial& at) {
    std::array<T, 3> result{};
    for (size_t axis = 0; axis < 3; ++axis) {
      result[axis] = static_cast<T>(at[axis] * s.stride[axis] - s.pad[axis] +
                                    in_kernel[axis] * s.dilation[axis]);
    }
    for (int i = 0; i < axes; ++i) {
      result[static_cast<size_t>(3 - axes + i)] += offset[i * s.out_pixels()];
    }
    return result;
  }

  ConvAttributes attributes_;
  int64_t offset_groups_;
};
BASCULE_KERNEL("DeformConv", DeformConv);

}  // namespace
}  // namespace bascule
