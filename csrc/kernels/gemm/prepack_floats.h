// SPDX-License-Identifier: Apache-2.0
// Packing a constant of floats for products in T, float or double.
#pragma once

#include <initializer_list>
#include <string>
#include <type_traits>
#include <utility>

#include "kernels/gemm/convert.h"
#include "runtime/prepack.h"

namespace bascule {

// prepack() of `size` elements with pack(elements of the constant, packed elements); 16-bit floats
// are widened first.
template <class T, class Pack>
Tensor prepack_floats(const NodeSpec& node, std::initializer_list<size_t> inputs,
                      const std::string& name, int64_t size, const Tensor& constant, Pack&& pack) {
  return prepack(node, inputs, name, dtype_of<T>, Shape{size}, [&](Tensor& to) {
    if (constant.dtype() == dtype_of<T>) return pack(constant.data<T>(), to.data<T>());
    if constexpr (std::is_same_v<T, float>) {
      Tensor wide = Tensor::allocate(DType::float32, constant.shape());
      widen_row(constant.dtype(), constant.raw(), wide.data<float>(), constant.size());
      pack(std::as_const(wide).data<float>(), to.data<float>());
    }
  });
}

}  // namespace bascule
