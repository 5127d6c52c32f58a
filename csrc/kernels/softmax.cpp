// SPDX-License-Identifier: Apache-2.0
// instruction sets: base avx2 avx512
// Softmax over one axis, float32. Per row: maximum, then exp(x - maximum) and sum, then scale.
#include "simd/vec.h"  // and nothing else above BASCULE_ONCE

namespace bascule::BASCULE_ISA {
// y[i] = x[i] * scale for n floats, which may be the same memory.
void scale_row(const float* x, float* y, int64_t n, float scale) {
  for_vectors(n, [&](int64_t i, int64_t count) {
    store(y + i, load(x + i, count, 0) * set(scale), count);
  });
}
}  // namespace bascule::BASCULE_ISA

#if BASCULE_ONCE  // from here on: compiled once, for the baseline, free to use the standard library
#include "runtime/kernel.h"
namespace bascule {
BASCULE_PER_ISA(void scale_row(const float* x, float* y, int64_t n, float scale));
struct ScaleTest final : Kernel {
  static Capability capability(const NodeSpec& node) {
    return require_dtype(node, 0, Types<float>{});
  }
  void run(RunContext& c) const override {
    const Tensor& x = c.input(0);
    Tensor& y = c.output(0, x.dtype(), x.shape());
    c.parallel_for(x.size(), 1, [&](int64_t begin, int64_t end) {
      row(x.data<float>() + begin, y.data<float>() + begin, end - begin, 2.0f);
    });
  }
  decltype(&base::scale_row) row = BASCULE_PICK(scale_row);
};
BASCULE_KERNEL_IN("test", "Scale", ScaleTest, InPlace{0, 0});
}  // namespace bascule
#endif
