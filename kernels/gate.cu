// SPDX-License-Identifier: Apache-2.0
// The gate behind a product whose columns are two halves.
#include "common.cuh"

// y[i] = swish(x) * gate, of the halves of each row of x.
#define GATE(name, T)                                                                    \
  extern "C" __global__ void gate_##name(const T* x, T* y, int64_t size, int64_t half) { \
    wait_for_previous_kernels();                                                         \
    for (int64_t i = thread_number(); i < size; i += thread_count()) {                   \
      const T* from = x + i / half * 2 * half + i % half;                                \
      const float value = widen(from[0]);                                                \
      y[i] = narrow<T>(value / (1 + expf(-value)) * widen(from[half]));                  \
    }                                                                                    \
  }
GATE(float32, float)
GATE(float16, float16)
GATE(bfloat16, bfloat16)
