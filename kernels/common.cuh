// SPDX-License-Identifier: Apache-2.0
// What all kernels share: element types, the type that sums are taken in, reductions over a block.
//
// A kernel is a template over the element type, with one extern "C" wrapper per type whose name
// ends in NumPy's name of the type (softmax_rows_float16), made by the FOR_ macros below. Sums have
// a fixed order: no atomics on floating-point numbers.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#ifdef __CUDACC_RTC__
typedef signed char int8_t;
typedef short int16_t;
typedef int int32_t;
typedef unsigned char uint8_t;
typedef unsigned short uint16_t;
typedef unsigned int uint32_t;
#ifdef _WIN32
typedef long long int64_t;
typedef unsigned long long uint64_t;
#else  // as in the system's headers, so that NVRTC takes what nvcc takes
typedef long int64_t;
typedef unsigned long uint64_t;
#endif
typedef uint64_t uintptr_t;
#define INT8_MIN (-128)
#define INT16_MIN (-32768)
#define INT32_MIN (-2147483647 - 1)
#define INT64_MIN (-9223372036854775807LL - 1)
#define INT8_MAX 127
#define INT16_MAX 32767
#define INT32_MAX 2147483647
#define INT64_MAX 9223372036854775807LL
#define UINT8_MAX 255
#define UINT16_MAX 65535
#define UINT32_MAX 4294967295U
#define UINT64_MAX 18446744073709551615ULL
#define FLT_MAX 3.40282346638528859812e+38f
#define DBL_MAX 1.79769313486231570815e+308
#define INFINITY __int_as_float(0x7f800000)
#define NAN __int_as_float(0x7fffffff)
#else
#include <float.h>
#include <math.h>
#include <stdint.h>
#endif

using float16 = __half;
using bfloat16 = __nv_bfloat16;

// A file that begins with "// parts: float32 float16 ..." is compiled once for each of these words,
// so that a session compiles no more than it uses. IN_PART(float32, code) is `code` in that part
// and nothing in the others; the element types below are in the parts of their names.
#ifdef BASCULE_PARTS
#define BASCULE_SECOND(a, b, ...) b
#define BASCULE_MARK_1 0,
#define BASCULE_IS_1(value) BASCULE_IS_MARKED(BASCULE_MARK_##value)
#define BASCULE_IS_MARKED(mark) BASCULE_SECOND(mark 1, 0, 0)
#define BASCULE_KEEP_1(...) __VA_ARGS__
#define BASCULE_KEEP_0(...)
#define BASCULE_KEEP_IF(flag) BASCULE_KEEP_AS(flag)
#define BASCULE_KEEP_AS(flag) BASCULE_KEEP_##flag
#define BASCULE_IN(value) BASCULE_KEEP_IF(BASCULE_IS_1(value))
#define IN_PART(part, ...) BASCULE_IN(BASCULE_PART_##part)(__VA_ARGS__)
#else
#define IN_PART(part, ...) __VA_ARGS__
#endif

// X(name, type) for each element type of a group.
#define FOR_TYPE(X, name, T) IN_PART(name, X(name, T))
#define FOR_FLOATS(X)           \
  FOR_TYPE(X, float32, float)   \
  FOR_TYPE(X, float64, double)  \
  FOR_TYPE(X, float16, float16) \
  FOR_TYPE(X, bfloat16, bfloat16)
#define FOR_SIGNED(X)         \
  FOR_TYPE(X, int8, int8_t)   \
  FOR_TYPE(X, int16, int16_t) \
  FOR_TYPE(X, int32, int32_t) \
  FOR_TYPE(X, int64, int64_t)
#define FOR_UNSIGNED(X)         \
  FOR_TYPE(X, uint8, uint8_t)   \
  FOR_TYPE(X, uint16, uint16_t) \
  FOR_TYPE(X, uint32, uint32_t) \
  FOR_TYPE(X, uint64, uint64_t)
#define FOR_INTEGERS(X) FOR_SIGNED(X) FOR_UNSIGNED(X)
#define FOR_NUMBERS(X) FOR_FLOATS(X) FOR_INTEGERS(X)
// Moving elements needs only their width: X(bytes, type).
#define FOR_WIDTHS(X) X(1, uint8_t) X(2, uint16_t) X(4, uint32_t) X(8, uint64_t) X(16, ulonglong2)

#ifdef BASCULE_EMULATED
#define DYNAMIC_SHARED(name) unsigned char* name = bascule_emulator::dynamic_shared()
#else
#define DYNAMIC_SHARED(name) extern __shared__ __align__(16) unsigned char name[]
#endif

// The type in which elements of type T are computed with: float for the narrow ones.
template <typename T>
struct Wide {
  using type = T;
};
template <>
struct Wide<float16> {
  using type = float;
};
template <>
struct Wide<bfloat16> {
  using type = float;
};
template <typename T>
using wide_t = typename Wide<T>::type;

__device__ inline float widen(float16 x) { return __half2float(x); }
__device__ inline float widen(bfloat16 x) { return __bfloat162float(x); }
template <typename T>
__device__ inline T widen(T x) {
  return x;
}

// To the element type, to nearest even.
template <typename T, typename W>
__device__ inline T narrow(W x) {
  return static_cast<T>(x);
}
template <>
__device__ inline float16 narrow<float16, float>(float x) {
  return __float2half_rn(x);
}
template <>
__device__ inline bfloat16 narrow<bfloat16, float>(float x) {
  return __float2bfloat16_rn(x);
}
template <>
__device__ inline float16 narrow<float16, double>(double x) {
  return __double2half(x);
}
template <>
__device__ inline bfloat16 narrow<bfloat16, double>(double x) {
  return __double2bfloat16(x);
}

// The first statement of kernels that may be started while those before them still run
// (programmatic dependent launch). Nothing in memory may be touched before it, not even to read
// what is constant to a kernel: its memory may have had another use. A kernel that has something
// else to do first, such as to fetch weights, which nobody ever writes, says that it waits `later`,
// and does so. From compute capability 9.0 on; else nothing.
__device__ inline void wait_for_previous_kernels(bool later = false) {
#if !defined(BASCULE_EMULATED) && defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  if (later) return;
  asm volatile("griddepcontrol.wait;" ::: "memory");
  // Not before: the next kernel would take memory's time from this one.
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}

// Number of this thread in the whole grid, and of threads in it, along x.
__device__ inline int64_t thread_number() {
  return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}
__device__ inline int64_t thread_count() { return static_cast<int64_t>(gridDim.x) * blockDim.x; }

struct Sum {
  template <typename T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};
// NaN wins, as in NumPy's maximum.
struct Largest {
  template <typename T>
  __device__ T operator()(T a, T b) const {
    return a != a || a > b ? a : b;
  }
};

// `value` of all 32 threads of the warp, joined; every thread gets the result.
template <typename T, typename Join>
__device__ inline T warp_reduce(T value, Join join) {
  for (int step = 16; step > 0; step /= 2) {
    value = join(value, __shfl_xor_sync(0xffffffffu, value, step));
  }
  return value;
}

// `value` of all threads of a block (a multiple of 32 threads, along x), joined; every thread gets
// the result. All threads must call it.
template <typename T, typename Join>
__device__ inline T block_reduce(T value, T neutral, Join join) {
  __shared__ T of_warps[32];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  value = warp_reduce(value, join);
  if (lane == 0) of_warps[warp] = value;
  __syncthreads();
  value = warp_reduce(lane < warps ? of_warps[lane] : neutral, join);
  __syncthreads();  // of_warps may be used again
  return value;
}
