// SPDX-License-Identifier: Apache-2.0
// instruction sets: base avx2 avx512
// 16-bit floats to float32 and back. Rounds to nearest, ties to even.
#include "simd/vec.h"

namespace bascule::BASCULE_ISA {
#if defined(__F16C__)
void widen_f16(const uint16_t* from, float* to, int64_t n) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    _mm256_storeu_ps(to + i,
                     _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i))));
  }
  for (; i < n; ++i) to[i] = _cvtsh_ss(from[i]);
}
void narrow_f16(const float* from, uint16_t* to, int64_t n) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i),
                     _mm256_cvtps_ph(_mm256_loadu_ps(from + i), 0));
  }
  for (; i < n; ++i) to[i] = _cvtss_sh(from[i], 0);
}
#endif
void widen_bf16(const uint16_t* from, float* to, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t word = static_cast<uint32_t>(from[i]) << 16;
    __builtin_memcpy(to + i, &word, sizeof(word));
  }
}
void narrow_bf16(const float* from, uint16_t* to, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    uint32_t word;
    __builtin_memcpy(&word, from + i, sizeof(word));
    const uint32_t rounded = (word + 0x7fffu + ((word >> 16) & 1)) >> 16;
    const uint32_t quiet = (word >> 16) | 0x40;
    to[i] = static_cast<uint16_t>((word & 0x7fffffffu) > 0x7f800000u ? quiet : rounded);
  }
}
}  // namespace bascule::BASCULE_ISA

#if BASCULE_ONCE
#include "kernels/gemm/convert.h"
#include "simd/isa.h"
namespace bascule {
namespace base {
#if !defined(__F16C__)
void widen_f16(const uint16_t* from, float* to, int64_t n) {
  const auto* halves = reinterpret_cast<const Float16*>(from);
  for (int64_t i = 0; i < n; ++i) to[i] = halves[i];
}
void narrow_f16(const float* from, uint16_t* to, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] = Float16(from[i]).bits;
}
#endif
}  // namespace base
BASCULE_PER_ISA(void widen_f16(const uint16_t* from, float* to, int64_t n);
                void narrow_f16(const float* from, uint16_t* to, int64_t n);
                void widen_bf16(const uint16_t* from, float* to, int64_t n);
                void narrow_bf16(const float* from, uint16_t* to, int64_t n));

void widen_row(DType dtype, const std::byte* from, float* to, int64_t n) {
  static const auto f16 = BASCULE_PICK(widen_f16);
  static const auto bf16 = BASCULE_PICK(widen_bf16);
  (dtype == DType::float16 ? f16 : bf16)(reinterpret_cast<const uint16_t*>(from), to, n);
}

void narrow_row(DType dtype, const float* from, std::byte* to, int64_t n) {
  static const auto f16 = BASCULE_PICK(narrow_f16);
  static const auto bf16 = BASCULE_PICK(narrow_bf16);
  (dtype == DType::float16 ? f16 : bf16)(from, reinterpret_cast<uint16_t*>(to), n);
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
