# SPDX-License-Identifier: Apache-2.0
"""Determinants."""

from __future__ import annotations

import math

import numpy as np

from bascule.ir.dtype import DataType
from bascule.providers.cuda.call import Call, type_name
from bascule.providers.cuda.registry import FLOATS, kernel
from bascule.providers.cuda.tensor import Tensor


@kernel("Det", dtypes=FLOATS)
def determinant(call: Call, x: Tensor) -> Tensor:
    """The determinant of each matrix."""
    if x.rank < 2 or x.shape[-1] != x.shape[-2]:
        raise call.error(f"expected square matrices, got shape {x.shape}")
    n = x.shape[-1]
    y = call.empty(x.shape[:-2], x.dtype)
    count = math.prod(y.shape)
    work = call.empty((count, n, n), DataType.DOUBLE)
    name = f"determinant_{type_name(x.dtype)}"
    call.launch("linear_algebra", name, count, 256, x, y, work, np.int64(n))
    return y
