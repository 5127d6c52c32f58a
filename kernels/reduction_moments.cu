// SPDX-License-Identifier: Apache-2.0
// Means and sums of squared distances from them, for the normalizations.
#include "reduction.cuh"

#define MOMENTS(name, T) KERNELS(moments, MomentsFold, name, T)
FOR_FLOATS(MOMENTS)
