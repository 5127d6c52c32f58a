// SPDX-License-Identifier: Apache-2.0
// One operator that multiplies by FACTOR, of which there are several libraries.
#include <bascule/operator.h>

BASCULE_OPERATORS(library) {
  library
      .add("test.factor", "Scale", 1,
           [](bascule::Call& call) {
             const bascule::Tensor x = call.input(0);
             const std::span<const float> from = x.elements<float>();
             const std::span<float> to = call.output<float>(0, x.shape());
             for (size_t i = 0; i < to.size(); ++i) to[i] = from[i] * FACTOR;
           })
      .input("x", bascule::DType::float32)
      .output("y", bascule::DType::float32);
}
