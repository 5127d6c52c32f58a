// SPDX-License-Identifier: Apache-2.0
// Reductions of floating-point numbers.
#include "reduction.cuh"

#define LOGSUMEXP(name, T) KERNELS(logsumexp, LogSumExpFold, name, T)
FOR_FLOATS(SUM)
FOR_FLOATS(OTHER)
FOR_FLOATS(LOGSUMEXP)
