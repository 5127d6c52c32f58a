// SPDX-License-Identifier: Apache-2.0
// CUDA C++ as host code: what a kernel may use of the language, and the intrinsic functions.
// Included ahead of every kernel source. runtime.h runs the threads.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <vector_functions.h>

#include <algorithm>
#include <climits>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <type_traits>

#include "runtime.h"

#undef __global__
#undef __device__
#undef __host__
#undef __constant__
#undef __shared__
#undef __launch_bounds__
#undef __grid_constant__
#undef __noinline__
#define __global__ __attribute__((used))
#define __device__
#define __host__
#define __constant__ static
// Blocks run one after the other, so one copy does. build.py writes it for `__shared__`.
#define BASCULE_SHARED(name, ...)                            \
  static bascule_emulator::Shared<__VA_ARGS__> name##_place; \
  auto& name = name##_place.value()
#define __launch_bounds__(...)
#define __grid_constant__
#define __noinline__ __attribute__((noinline))

static constexpr int warpSize = 32;
#define threadIdx (bascule_emulator::current->index)
#define blockIdx (bascule_emulator::block_index)
#define blockDim (bascule_emulator::block_size)
#define gridDim (bascule_emulator::grid_size)

using std::isfinite;
using std::isinf;
using std::isnan;
using std::signbit;

// --- barriers and warps

static inline void __syncthreads() { bascule_emulator::block_barrier(0); }
static inline int __syncthreads_count(int p) { return bascule_emulator::block_barrier(p != 0); }
static inline int __syncthreads_or(int p) { return __syncthreads_count(p) != 0; }
static inline int __syncthreads_and(int p) { return __syncthreads_count(p == 0) == 0; }
static inline void __syncwarp(unsigned mask = 0xffffffffu) {
  bascule_emulator::exchange(mask, 0, 0, bascule_emulator::lane());
}
static inline void __threadfence_block() {}
static inline void __threadfence() {}
static inline unsigned __activemask() { return bascule_emulator::active_lanes(); }

static inline unsigned __ballot_sync(unsigned mask, int predicate) {
  return bascule_emulator::exchange(mask, predicate != 0, 0, bascule_emulator::lane()).votes;
}
static inline int __any_sync(unsigned mask, int predicate) {
  return __ballot_sync(mask, predicate) != 0;
}
static inline int __all_sync(unsigned mask, int predicate) {
  return __ballot_sync(mask, predicate == 0) == 0;
}

namespace bascule_emulator {
template <typename T>
inline T shuffle(unsigned mask, T value, int source) {
  static_assert(sizeof(T) <= 8, "a shuffle moves at most 8 bytes");
  uint64_t bits = 0;
  memcpy(&bits, &value, sizeof(T));
  const uint64_t received = exchange(mask, true, bits, source).received;
  memcpy(&value, &received, sizeof(T));
  return value;
}
}  // namespace bascule_emulator

template <typename T>
inline T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
  const int lane = bascule_emulator::lane();
  return bascule_emulator::shuffle(mask, value, (lane & ~(width - 1)) | (source & (width - 1)));
}
template <typename T>
inline T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32) {
  const int lane = bascule_emulator::lane(), source = lane ^ bits;
  return bascule_emulator::shuffle(mask, value, source < (lane | (width - 1)) + 1 ? source : lane);
}
template <typename T>
inline T __shfl_up_sync(unsigned mask, T value, unsigned distance, int width = 32) {
  const int lane = bascule_emulator::lane(), source = lane - static_cast<int>(distance);
  return bascule_emulator::shuffle(mask, value, source >= (lane & ~(width - 1)) ? source : lane);
}
template <typename T>
inline T __shfl_down_sync(unsigned mask, T value, unsigned distance, int width = 32) {
  const int lane = bascule_emulator::lane(), source = lane + static_cast<int>(distance);
  return bascule_emulator::shuffle(mask, value, source <= (lane | (width - 1)) ? source : lane);
}

// --- atomics: threads take turns at barriers only, so plain code is atomic

#define BASCULE_ATOMIC(name, result)                                                \
  template <typename T, typename V>                                                 \
  inline T name(T* address, V operand) {                                            \
    static_assert(std::is_integral<T>::value, "floating-point sums have an order"); \
    const T old = *address, value = static_cast<T>(operand);                        \
    *address = static_cast<T>(result);                                              \
    return old;                                                                     \
  }
BASCULE_ATOMIC(atomicAdd, old + value)
BASCULE_ATOMIC(atomicSub, old - value)
BASCULE_ATOMIC(atomicExch, value)
BASCULE_ATOMIC(atomicMin, old < value ? old : value)
BASCULE_ATOMIC(atomicMax, old > value ? old : value)
BASCULE_ATOMIC(atomicAnd, old& value)
BASCULE_ATOMIC(atomicOr, old | value)
BASCULE_ATOMIC(atomicXor, old ^ value)
#undef BASCULE_ATOMIC
template <typename T, typename C, typename V>
inline T atomicCAS(T* address, C expected, V value) {
  const T old = *address;
  if (old == static_cast<T>(expected)) *address = static_cast<T>(value);
  return old;
}

// --- memory

template <typename T>
inline T __ldg(const T* address) {
  return *address;
}
template <typename T>
inline T __ldcs(const T* address) {
  return *address;
}
template <typename T>
inline T __ldcg(const T* address) {
  return *address;
}
template <typename T, typename V>
inline void __stcs(T* address, V value) {
  *address = value;
}
template <typename T, typename V>
inline void __stcg(T* address, V value) {
  *address = value;
}
static inline void __trap() { bascule_emulator::fail("__trap() was called"); }

// --- integers

static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
static inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz(static_cast<unsigned>(x)); }
static inline int __clzll(long long x) {
  return x == 0 ? 64 : __builtin_clzll(static_cast<unsigned long long>(x));
}
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline int __ffsll(long long x) { return __builtin_ffsll(x); }
static inline unsigned __brev(unsigned x) {
  unsigned result = 0;
  for (int bit = 0; bit < 32; ++bit) result |= ((x >> bit) & 1u) << (31 - bit);
  return result;
}
static inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>((static_cast<uint64_t>(a) * b) >> 32);
}
static inline int __mulhi(int a, int b) {
  return static_cast<int>((static_cast<int64_t>(a) * b) >> 32);
}
static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return static_cast<unsigned long long>((static_cast<unsigned __int128>(a) * b) >> 64);
}
static inline long long __mul64hi(long long a, long long b) {
  return static_cast<long long>((static_cast<__int128>(a) * b) >> 64);
}
static inline unsigned __byte_perm(unsigned a, unsigned b, unsigned selector) {
  const uint64_t bytes = (static_cast<uint64_t>(b) << 32) | a;
  unsigned result = 0;
  for (int i = 0; i < 4; ++i) {
    const unsigned choice = (selector >> (4 * i)) & 0xf;
    unsigned byte = static_cast<unsigned>(bytes >> (8 * (choice & 7))) & 0xff;
    if (choice & 8) byte = byte & 0x80 ? 0xff : 0;
    result |= byte << (8 * i);
  }
  return result;
}
static inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  return static_cast<unsigned>(((static_cast<uint64_t>(high) << 32) | low) >> (shift & 31));
}
static inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
  return static_cast<unsigned>((((static_cast<uint64_t>(high) << 32) | low) << (shift & 31)) >> 32);
}
template <typename T>
inline int __dp4a(T a, T b, int c) {
  using Byte = std::conditional_t<std::is_signed<T>::value, int8_t, uint8_t>;
  for (int i = 0; i < 4; ++i) {
    c += static_cast<Byte>(a >> (8 * i)) * static_cast<Byte>(b >> (8 * i));
  }
  return c;
}

namespace bascule_emulator {
template <typename To, typename From>
inline To same_bits(From value) {
  static_assert(sizeof(To) == sizeof(From), "the widths must agree");
  To result;
  memcpy(&result, &value, sizeof(To));
  return result;
}
}  // namespace bascule_emulator

static inline int __float_as_int(float x) { return bascule_emulator::same_bits<int>(x); }
static inline unsigned __float_as_uint(float x) { return bascule_emulator::same_bits<unsigned>(x); }
static inline float __int_as_float(int x) { return bascule_emulator::same_bits<float>(x); }
static inline float __uint_as_float(unsigned x) { return bascule_emulator::same_bits<float>(x); }
static inline long long __double_as_longlong(double x) {
  return bascule_emulator::same_bits<long long>(x);
}
static inline double __longlong_as_double(long long x) {
  return bascule_emulator::same_bits<double>(x);
}

// --- numbers: min and max as CUDA overloads them; what the host's library lacks

template <typename A, typename B>
constexpr std::common_type_t<A, B> min(A a, B b) {
  using T = std::common_type_t<A, B>;
  if constexpr (std::is_floating_point<T>::value) {
    return std::fmin(static_cast<T>(a), static_cast<T>(b));
  } else {
    return static_cast<T>(b) < static_cast<T>(a) ? static_cast<T>(b) : static_cast<T>(a);
  }
}
template <typename A, typename B>
constexpr std::common_type_t<A, B> max(A a, B b) {
  using T = std::common_type_t<A, B>;
  if constexpr (std::is_floating_point<T>::value) {
    return std::fmax(static_cast<T>(a), static_cast<T>(b));
  } else {
    return static_cast<T>(a) < static_cast<T>(b) ? static_cast<T>(b) : static_cast<T>(a);
  }
}
static inline float rsqrtf(float x) { return static_cast<float>(1 / std::sqrt(double{x})); }
static inline double rsqrt(double x) { return 1 / std::sqrt(x); }
static inline float __frsqrt_rn(float x) { return rsqrtf(x); }
static inline float __fsqrt_rn(float x) { return std::sqrt(x); }
static inline float __frcp_rn(float x) { return 1 / x; }
// The host's library has functions of these names that nobody can call.
#define __expf expf
#define __exp10f exp10f
#define __logf logf
#define __log2f log2f
#define __log10f log10f
#define __sinf sinf
#define __cosf cosf
#define __tanf tanf
#define __powf powf
static inline float __fdividef(float a, float b) { return a / b; }
static inline float __saturatef(float x) { return x > 0 ? (x < 1 ? x : 1) : 0; }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
static inline double __dadd_rn(double a, double b) { return a + b; }
static inline double __dsub_rn(double a, double b) { return a - b; }
static inline double __dmul_rn(double a, double b) { return a * b; }
static inline double __ddiv_rn(double a, double b) { return a / b; }
static inline double __fma_rn(double a, double b, double c) { return std::fma(a, b, c); }
static inline float sinpif(float x) { return static_cast<float>(std::sin(M_PI * x)); }
static inline float cospif(float x) { return static_cast<float>(std::cos(M_PI * x)); }
static inline float normcdff(float x) {
  return static_cast<float>(0.5 * std::erfc(-double{x} * M_SQRT1_2));
}
static inline double normcdf(double x) { return 0.5 * std::erfc(-x * M_SQRT1_2); }

// Conversions to an integer saturate, and NaN becomes 0, as the device's instructions do.
namespace bascule_emulator {
template <typename To, typename From>
inline To saturated(From x) {
  if (x != x) return 0;
  if (x <= static_cast<From>(std::numeric_limits<To>::min())) return std::numeric_limits<To>::min();
  if (x >= static_cast<From>(std::numeric_limits<To>::max())) return std::numeric_limits<To>::max();
  return static_cast<To>(x);
}
}  // namespace bascule_emulator
#define BASCULE_CONVERSIONS(prefix, from, name, to)            \
  static inline to prefix##2##name##_rn(from x) {              \
    return bascule_emulator::saturated<to>(std::nearbyint(x)); \
  }                                                            \
  static inline to prefix##2##name##_rz(from x) {              \
    return bascule_emulator::saturated<to>(std::trunc(x));     \
  }                                                            \
  static inline to prefix##2##name##_rd(from x) {              \
    return bascule_emulator::saturated<to>(std::floor(x));     \
  }                                                            \
  static inline to prefix##2##name##_ru(from x) {              \
    return bascule_emulator::saturated<to>(std::ceil(x));      \
  }
BASCULE_CONVERSIONS(__float, float, int, int)
BASCULE_CONVERSIONS(__float, float, uint, unsigned)
BASCULE_CONVERSIONS(__float, float, ll, long long)
BASCULE_CONVERSIONS(__float, float, ull, unsigned long long)
BASCULE_CONVERSIONS(__double, double, int, int)
BASCULE_CONVERSIONS(__double, double, uint, unsigned)
BASCULE_CONVERSIONS(__double, double, ll, long long)
BASCULE_CONVERSIONS(__double, double, ull, unsigned long long)
#undef BASCULE_CONVERSIONS
static inline float __int2float_rn(int x) { return static_cast<float>(x); }
static inline float __uint2float_rn(unsigned x) { return static_cast<float>(x); }
static inline float __ll2float_rn(long long x) { return static_cast<float>(x); }
static inline float __double2float_rn(double x) { return static_cast<float>(x); }
