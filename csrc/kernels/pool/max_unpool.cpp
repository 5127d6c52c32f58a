// SPDX-License-Identifier: Apache-2.0
// MaxUnpool: puts values back where MaxPool took them from, zero elsewhere.
#include <algorithm>

#include "kernels/pool/geometry.h"
#include "runtime/kernel.h"

namespace bascule {
namespace {

class MaxUnpool final : public Kernel {
 public:
  static Capability capability(const NodeSpec& node) {
    return require_dtype(node, 0, FloatTypes{});
  }

  explicit MaxUnpool(const NodeSpec& node) : attributes_(node) {}

  void run(RunContext& c) const override {
    const Tensor& x = c.input(0);
    const Tensor& indices = c.input(1);
    if (indices.shape() != x.shape()) {
      fail("indices have shape " + indices.shape().text() + ", expected " + x.shape().text());
    }
    const int rank = x.rank() - 2;
    if (rank != static_cast<int>(attributes_.kernel.size())) {
      fail("the input has shape " + x.shape().text() + ", and 'kernel_shape' " +
           std::to_string(attributes_.kernel.size()) + " values");
    }
    // The indices count in the tensor that MaxPool read, which output_shape may enlarge.
    Shape inferred = x.shape();
    for (int i = 0; i < rank; ++i) {
      const auto at = static_cast<size_t>(i);
      const int64_t stride = attributes_.strides.empty() ? 1 : attributes_.strides[at];
      inferred[i + 2] = (x.dim(i + 2) - 1) * stride + attributes_.kernel[at];
      if (!attributes_.pads.empty()) {
        inferred[i + 2] -= attributes_.pads[at] + attributes_.pads[at + attributes_.kernel.size()];
      }
    }
    Shape shape = inferred;
    if (c.has_input(2)) {
      shape = Shape(c.input(2).to_ints());
      bool fits = shape.rank() == inferred.rank();
      for (int i = 0; fits && i < shape.rank(); ++i) fits = shape[i] >= inferred[i];
      if (!fits) {
        invalid("output_shape is " + shape.text() + ", expected at least " + inferred.text());
      }
    }
    Tensor& y = c.output(0, x.dtype(), shape);
    const int64_t size = inferred.size();
    const int64_t* places = indices.data<int64_t>();
    for (int64_t i = 0; i < x.size(); ++i) {
      if (places[i] < 0 || places[i] >= size) {
        invalid("index " + std::to_string(places[i]) + " is out of range for " +
                std::to_string(size) + " elements");
      }
    }
    const Shape from = inferred.strides();
    const Shape to = shape.strides();
    std::fill_n(y.raw(), y.bytes(), std::byte{0});
    visit(FloatTypes{}, x.dtype(), [&](auto tag) {
      using T = typename decltype(tag)::type;
      for (int64_t i = 0; i < x.size(); ++i) {
        int64_t place = 0;
        for (int axis = 0; axis < shape.rank(); ++axis) {
          place += places[i] / from[axis] % inferred[axis] * to[axis];
        }
        y.data<T>()[place] = x.data<T>()[i];
      }
    });
  }

 private:
  PoolAttributes attributes_;
};
BASCULE_KERNEL("MaxUnpool", MaxUnpool);

}  // namespace
}  // namespace bascule
