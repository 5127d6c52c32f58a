// SPDX-License-Identifier: Apache-2.0
// Reductions of integers and booleans.
#include "reduction.cuh"

FOR_INTEGERS(SUM)
FOR_INTEGERS(OTHER)
OTHER(bool, bool)
