// SPDX-License-Identifier: Apache-2.0
// What follows a matrix product, on its result in place, where the library cannot do it.
#include "activation.cuh"

namespace {

template <typename T, typename Activate>
__device__ void activate_vectors(T* y, int64_t size, int64_t n, const Epilogue<T>& epilogue,
                                 Activate activate) {
  constexpr int width = 16 / sizeof(T);
  for (int64_t i = thread_number() * width; i < size; i += thread_count() * width) {
    uint4 packed = *reinterpret_cast<const uint4*>(y + i);
    T* elements = reinterpret_cast<T*>(&packed);
    const int64_t column = epilogue.bias != nullptr ? i % n : 0;
#pragma unroll
    for (int j = 0; j < width; ++j) {
      elements[j] = activate(epilogue, widen(elements[j]), i + j, column + j);
    }
    *reinterpret_cast<uint4*>(y + i) = packed;
  }
}

template <typename T>
__device__ void activate_rows(T* y, int64_t size, int64_t n, bool in_vectors,
                              const Epilogue<T>& epilogue) {
  using W = wide_t<T>;
  if (!in_vectors) {
    for (int64_t i = thread_number(); i < size; i += thread_count()) {
      y[i] = epilogue(widen(y[i]), i, i % n);
    }
  } else if (epilogue.activation == activation_gelu && epilogue.bias == nullptr &&
             epilogue.residual == nullptr && epilogue.alpha == 1) {
    // Gelu alone, which follows most products that the library cannot finish.
    activate_vectors(y, size, n, epilogue, [](const Epilogue<T>&, W x, int64_t, int64_t) {
      return narrow<T>(activate<W>(activation_gelu, x, 0, 0));
    });
  } else {
    activate_vectors(y, size, n, epilogue,
                     [](const Epilogue<T>& epilogue, W x, int64_t index, int64_t column) {
                       return epilogue(x, index, column);
                     });
  }
}

}  // namespace

#define ACTIVATE(name, T)                                                                      \
  extern "C" __global__ void __launch_bounds__(256)                                            \
      activate_##name(T* y, int64_t size, int64_t n, int in_vectors, EPILOGUE_PARAMETERS(T)) { \
    wait_for_previous_kernels();                                                               \
    activate_rows<T>(y, size, n, in_vectors != 0, EPILOGUE(T));                                \
  }
FOR_FLOATS(ACTIVATE)
