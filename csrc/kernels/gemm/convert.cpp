// SPDX-License-Identifier: Apache-2.0
// instruction sets: base avx2 avx512
// 16-bit floats to float32 and back. Rounds to nearest, ties to even.
#include "simd/half.h"

namespace bascule::BASCULE_ISA {

void widen_rows(const uint16_t* from, int64_t from_stride, float* to, int64_t to_stride,
                int64_t rows, int64_t n, bool bfloat16) {
  const auto all = [&](auto widen) __attribute__((always_inline)) {
    for (int64_t r = 0; r < rows; ++r) {
      const uint16_t* row = from + r * from_stride;
      float* out = to + r * to_stride;
      for_vectors(n, [&](int64_t i, int64_t count) {
        store(out + i, widen(load_u16(row + i, count)), count);
      });
    }
  };
  if (bfloat16) {
    all([](U16 v) __attribute__((always_inline)) { return widen_bf16(v); });
  } else {
    all([](U16 v) __attribute__((always_inline)) { return widen_f16(v); });
  }
}

void narrow_rows(const float* from, int64_t from_stride, uint16_t* to, int64_t to_stride,
                 int64_t rows, int64_t n, bool bfloat16) {
  const auto all = [&](auto narrow) __attribute__((always_inline)) {
    for (int64_t r = 0; r < rows; ++r) {
      const float* row = from + r * from_stride;
      uint16_t* out = to + r * to_stride;
      for_vectors(n, [&](int64_t i, int64_t count) {
        store_u16(out + i, narrow(load(row + i, count, 0)), count);
      });
    }
  };
  if (bfloat16) {
    all([](F32 v) __attribute__((always_inline)) { return narrow_bf16(v); });
  } else {
    all([](F32 v) __attribute__((always_inline)) { return narrow_f16(v); });
  }
}

}  // namespace bascule::BASCULE_ISA

#if BASCULE_ONCE
#include "kernels/gemm/convert.h"
#include "simd/isa.h"
namespace bascule {
BASCULE_PER_ISA(void widen_rows(const uint16_t* from, int64_t from_stride, float* to,
                                int64_t to_stride, int64_t rows, int64_t n, bool bfloat16);
                void narrow_rows(const float* from, int64_t from_stride, uint16_t* to,
                                 int64_t to_stride, int64_t rows, int64_t n, bool bfloat16));

void widen_rows(DType dtype, const std::byte* from, int64_t from_stride, float* to,
                int64_t to_stride, int64_t rows, int64_t n) {
  static const auto widen = BASCULE_PICK(widen_rows);
  widen(reinterpret_cast<const uint16_t*>(from), from_stride, to, to_stride, rows, n,
        dtype == DType::bfloat16);
}

void narrow_rows(DType dtype, const float* from, int64_t from_stride, std::byte* to,
                 int64_t to_stride, int64_t rows, int64_t n) {
  static const auto narrow = BASCULE_PICK(narrow_rows);
  narrow(from, from_stride, reinterpret_cast<uint16_t*>(to), to_stride, rows, n,
         dtype == DType::bfloat16);
}

void widen(RunContext& c, DType dtype, const std::byte* from, float* to, int64_t n) {
  c.parallel_for(n, 0.5, [&](int64_t begin, int64_t end) {
    widen_row(dtype, from + begin * 2, to + begin, end - begin);
  });
}

void narrow(RunContext& c, DType dtype, const float* from, std::byte* to, int64_t n) {
  c.parallel_for(n, 0.5, [&](int64_t begin, int64_t end) {
    narrow_row(dtype, from + begin, to + begin * 2, end - begin);
  });
}

const float* as_floats(RunContext& c, const Tensor& tensor) {
  if (tensor.dtype() == DType::float32) return tensor.data<float>();
  float* to = c.workspace<float>(tensor.size());
  widen(c, tensor.dtype(), tensor.raw(), to, tensor.size());
  return to;
}
}  // namespace bascule
#endif
