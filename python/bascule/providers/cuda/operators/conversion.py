# SPDX-License-Identifier: Apache-2.0
"""Floating-point operands in the type that a kernel takes them in."""

from __future__ import annotations

import numpy as np

from bascule.ir.dtype import DataType
from bascule.providers.cuda.call import Call, type_name
from bascule.providers.cuda.tensor import Tensor

_THREADS = 256
_BLOCKS = 8192


def grid_of(threads: int) -> int:
    """Blocks of 256 threads for a kernel whose threads go on until all is done."""
    return min(-(-threads // _THREADS), _BLOCKS)


def work_type(*tensors: Tensor | None) -> DataType:
    """What elements are computed with: double if any tensor is of that type, else float."""
    is_double = any(t is not None and t.dtype is DataType.DOUBLE for t in tensors)
    return DataType.DOUBLE if is_double else DataType.FLOAT


def converted(call: Call, x: Tensor, dtype: DataType, constant: int | None = None) -> Tensor:
    """`x` as elements of another type; made once where it is input number `constant` of the node
    and the same in every run."""
    if x.dtype is dtype:
        return x
    if constant is not None and call.is_constant(constant):
        key = f"input {constant} as {dtype.name}"
        made: Tensor = call.prepared(key, lambda keeping: _convert(keeping, x, dtype))
        return made
    return _convert(call, x, dtype)


def _convert(call: Call, x: Tensor, dtype: DataType) -> Tensor:
    source = x
    if {x.dtype, dtype} == {DataType.FLOAT16, DataType.BFLOAT16}:
        source = _convert(call, x, DataType.FLOAT)
    y = call.empty(x.shape, dtype)
    name = f"{type_name(source.dtype)}_to_{type_name(dtype)}"
    grid = grid_of(x.size)
    call.launch("normalization", name, grid, _THREADS, source, y, np.int64(x.size))
    return y
