# SPDX-License-Identifier: Apache-2.0
"""Softmax, LogSoftmax and Hardmax along one axis."""

from __future__ import annotations

import numpy as np

from bascule.providers.cuda.call import Call, type_name
from bascule.providers.cuda.operators.rows import (
    is_aligned,
    lines_along,
    power_of_two,
    row_team,
    team_grid,
)
from bascule.providers.cuda.registry import FLOATS, kernel
from bascule.providers.cuda.tensor import Tensor

_COLUMN_THREADS = 256


@kernel("Softmax", "LogSoftmax", dtypes=FLOATS)
def softmax(call: Call, x: Tensor) -> Tensor:
    outer, n, inner = lines_along(call, x.shape, call.attribute("axis", -1))
    y = call.like(x)
    if x.size == 0:
        return y
    logarithm = np.int32(call.node.op_type == "LogSoftmax")
    name = type_name(x.dtype)
    if inner == 1:
        kind, grid, block = row_team(call, outer, n, x.itemsize)
        sizes = (np.int64(outer), np.int64(n), np.int32(is_aligned(x, n)))
        call.launch(
            f"softmax.{name}", f"softmax_{kind}_{name}", grid, block, x, y, *sizes, logarithm
        )
        return y
    lanes = min(16, power_of_two(-(-n // 2)))
    grid = -(-outer * inner // (_COLUMN_THREADS // lanes))
    columns = (np.int64(outer), np.int64(n), np.int64(inner), np.int32(lanes), logarithm)
    call.launch(f"softmax.{name}", f"softmax_columns_{name}", grid, _COLUMN_THREADS, x, y, *columns)
    return y


@kernel("Hardmax", dtypes=FLOATS)
def hardmax(call: Call, x: Tensor) -> Tensor:
    outer, n, inner = lines_along(call, x.shape, call.attribute("axis", -1))
    y = call.like(x)
    if x.size > 0:
        grid, block = team_grid(call, outer * inner, 32)
        sizes = (np.int64(outer * inner), np.int64(n), np.int64(inner))
        name = type_name(x.dtype)
        call.launch(f"softmax.{name}", f"hardmax_{name}", grid, block, x, y, *sizes)
    return y
