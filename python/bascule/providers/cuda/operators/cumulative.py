# SPDX-License-Identifier: Apache-2.0
"""CumSum and CumProd."""

from __future__ import annotations

from typing import Any

import numpy as np

from bascule.providers.cuda.call import Call, type_name
from bascule.providers.cuda.operators.rows import lines_along
from bascule.providers.cuda.registry import NUMBERS, kernel
from bascule.providers.cuda.tensor import Tensor

_SHORT = 32
"""Lines of so few elements, and so many lines side by side, take a thread each."""
_THREADS = 128


@kernel("CumSum", "CumProd", dtypes=NUMBERS, host=(1,))
def cumulative(call: Call, x: Tensor, axis: np.ndarray[Any, Any]) -> Tensor:
    if axis.size != 1:
        raise call.error("axis is not a single number")
    outer, n, inner = lines_along(call, x.shape, int(axis.reshape(())))
    y = call.like(x)
    if x.size == 0:
        return y
    flags = (
        np.int32(call.node.op_type == "CumProd"),
        np.int32(call.attribute("exclusive", 0) != 0),
        np.int32(call.attribute("reverse", 0) != 0),
    )
    lines, sizes = outer * inner, (np.int64(n), np.int64(inner))
    name = type_name(x.dtype)
    if n <= _SHORT or inner >= _SHORT:
        grid, first = -(-lines // _THREADS), (x, y, np.int64(lines))
        call.launch("cumulative", f"scan_lines_{name}", grid, _THREADS, *first, *sizes, *flags)
    else:
        threads = 128 if n <= 1024 else 1024
        call.launch("cumulative", f"scan_line_{name}", lines, threads, x, y, *sizes, *flags)
    return y
