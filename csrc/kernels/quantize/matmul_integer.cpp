// SPDX-License-Identifier: Apache-2.0
// MatMulInteger of 8-bit integers.
#include <cstring>

#include "kernels/quantize/integer_product.h"

namespace bascule {
namespace {

class MatMulInteger final : public Kernel {
 public:
  static Capability capability(const NodeSpec& node) {
    const Capability typed = require_dtype(node, 0, ByteTypes{});
    return typed.accepted() ? require_dtype(node, 1, ByteTypes{}) : typed;
  }
  explicit MatMulInteger(const NodeSpec& node) : product_(node, 1) {}

  void run(RunContext& c) const override {
    const MatMulShapes shapes(c.input(0).shape(), product_.b_shape(c, 1));
    auto* y = c.output(0, DType::int32, shapes.y).data<int32_t>();
    const Tensor *a_zero = optional_input(c, 2), *b_zero = optional_input(c, 3);
    if (product_.is_one_matrix() && (a_zero == nullptr || a_zero->size() == 1)) {
      const IntegerFinish finish = product_.finish(c, a_zero, b_zero);
      return product_.run_rows(c, shapes, finish, nullptr, reinterpret_cast<uint8_t*>(y));
    }
    product_.run(
        c, shapes, 1, a_zero, b_zero,
        [&](int64_t, int64_t, int64_t, int64_t, int64_t columns, const int32_t* sums, int64_t at) {
          std::memcpy(y + at, sums, static_cast<size_t>(columns) * sizeof(int32_t));
        });
  }

 private:
  IntegerProduct product_;
};
BASCULE_KERNEL("MatMulInteger", MatMulInteger);

}  // namespace
}  // namespace bascule
