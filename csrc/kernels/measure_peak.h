// SPDX-License-Identifier: Apache-2.0
// What this machine can do at most, by running nothing else: the yardstick of the benchmarks.
#pragma once

#include <cstdint>

#include "simd/isa.h"

namespace bascule {

// Floating-point operations of one step of multiply_add_chains.
BASCULE_PER_ISA(int64_t operations_of_a_step());
// `steps` multiply-adds in each of several independent chains that stay in registers.
BASCULE_PER_ISA(float multiply_add_chains(int64_t steps));
// The sum of `count` floats; a multiple of 256, aligned.
BASCULE_PER_ISA(float read_all(const float* x, int64_t count));

// float32 GFLOP/s of `threads` threads with the instruction set in use (a multiply-add counts 2),
// measured for `seconds`.
double peak_gflops(int threads, double seconds);

// GB/s of `threads` threads that read `bytes` of memory over and over for `seconds`.
double read_bandwidth(int threads, double seconds, int64_t bytes);

}  // namespace bascule
