# SPDX-License-Identifier: Apache-2.0
"""ArgMax and ArgMin."""

from __future__ import annotations

import math

import numpy as np

from bascule.ir.dtype import DataType
from bascule.providers.cuda.call import Call, type_name
from bascule.providers.cuda.operators.reduction import COLUMN_PIECE, ROW_PIECE
from bascule.providers.cuda.operators.rows import lines_along, row_lanes, team_grid
from bascule.providers.cuda.operators.shape import axis_of
from bascule.providers.cuda.registry import NUMBERS, kernel
from bascule.providers.cuda.tensor import Tensor

_THREADS = 256


@kernel("ArgMax", "ArgMin", dtypes=NUMBERS)
def arg_reduce(call: Call, x: Tensor) -> Tensor:
    shape = x.shape or (1,)  # a scalar is a line of one element
    axis = axis_of(call, call.attribute("axis", 0), len(shape))
    outer, n, inner = lines_along(call, shape, axis)
    if n == 0 and outer * inner > 0:
        raise call.error("the axis is empty: there is no index to give")
    kept = (1,) if call.attribute("keepdims", 1) and x.rank > 0 else ()
    y = call.empty((*shape[:axis], *kept, *shape[axis + 1 :]), DataType.INT64)
    piece = ROW_PIECE if inner == 1 else COLUMN_PIECE
    pieces = math.ceil(n / piece)
    indices = y if pieces <= 1 else call.empty((outer, pieces, inner), DataType.INT64)
    flags = (
        np.int32(call.node.op_type == "ArgMax"),
        np.int32(call.attribute("select_last_index", 0) != 0),
    )
    sizes = [np.int64(size) for size in (outer, n, inner, pieces, piece)]
    name = type_name(x.dtype)
    if inner == 1:
        lanes = row_lanes(min(n, piece), 1)
        grid, block = team_grid(call, outer * pieces, lanes)
        rows = (*sizes[:2], *sizes[3:], np.int32(lanes), *flags)
        call.launch("arg_reduce", f"arg_rows_{name}", grid, block, x, indices, *rows)
    else:
        grid = -(-indices.size // _THREADS)
        columns = (*sizes, *flags)
        call.launch("arg_reduce", f"arg_columns_{name}", grid, _THREADS, x, indices, *columns)
    if indices is not y:
        grid = -(-y.size // _THREADS)
        last = (*sizes[:4], *flags)
        call.launch("arg_reduce", f"arg_join_{name}", grid, _THREADS, x, indices, y, *last)
    return y
