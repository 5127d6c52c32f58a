// SPDX-License-Identifier: Apache-2.0
// DynamicQuantizeLinear: a scale and a zero point so that 0..255 span the values and zero. NaN does
// not count for the range, and becomes 0.
#include "quantized.cuh"

struct Smaller {
  __device__ float operator()(float a, float b) const { return b < a ? b : a; }
};
struct Larger {
  __device__ float operator()(float a, float b) const { return b > a ? b : a; }
};

// ranges[2 b] and [2 b + 1] become the least and the largest of what block b reads, and of zero.
extern "C" __global__ void range_of_blocks(const float* x, int64_t count, float* ranges) {
  wait_for_previous_kernels();
  float low = 0, high = 0;
  for (int64_t i = thread_number(); i < count; i += thread_count()) {
    low = Smaller()(low, x[i]);
    high = Larger()(high, x[i]);
  }
  low = block_reduce(low, 0.0f, Smaller());
  high = block_reduce(high, 0.0f, Larger());
  if (threadIdx.x == 0) {
    ranges[2 * blockIdx.x] = low;
    ranges[2 * blockIdx.x + 1] = high;
  }
}

// One block of at least as many threads as there are ranges.
extern "C" __global__ void scale_and_zero(const float* ranges, int blocks, float* scale,
                                          uint8_t* zero) {
  wait_for_previous_kernels();
  const int i = threadIdx.x;
  const float low = block_reduce(i < blocks ? ranges[2 * i] : 0.0f, 0.0f, Smaller());
  const float high = block_reduce(i < blocks ? ranges[2 * i + 1] : 0.0f, 0.0f, Larger());
  if (i != 0) return;
  const float step = high == low ? 1.0f : (high - low) / 255.0f;
  *scale = step;
  *zero = op::clamped<uint8_t>(rintf(-low / step));
}

extern "C" __global__ void quantize(const float* x, int64_t count, const float* scale,
                                    const uint8_t* zero, uint8_t* y) {
  wait_for_previous_kernels();
  const float step = *scale;
  const uint8_t moved = *zero;
  for (int64_t i = thread_number(); i < count; i += thread_count()) {
    y[i] = op::quantize_linear<uint8_t, float>(x[i], step, moved, true);
  }
}
