# SPDX-License-Identifier: Apache-2.0
"""GridSample and AffineGrid."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from bascule.ir.dtype import DataType
from bascule.ir.graph import Node
from bascule.providers.cuda.call import Call, type_name
from bascule.providers.cuda.device import Argument, Struct
from bascule.providers.cuda.registry import FLOATS, NUMBERS, kernel
from bascule.providers.cuda.tensor import Tensor

_THREADS = 256
_MODES = ("nearest", "linear", "cubic")
_PADDINGS = ("zeros", "border", "reflection")
_KINDS = (DataType.FLOAT, DataType.DOUBLE, DataType.FLOAT16, DataType.BFLOAT16)
_COMPLEX = frozenset((DataType.COMPLEX64, DataType.COMPLEX128))

Array = np.ndarray[Any, Any]


def _launch(call: Call, part: str, name: str, threads: int, *arguments: Argument) -> None:
    blocks = min(-(-threads // _THREADS), 1 << 20)
    call.launch(f"grid_sample.{part}", name, blocks, _THREADS, *arguments)


def _numbers(numbers: Sequence[int]) -> Struct:
    return Struct(struct.pack(f"<{len(numbers)}q", *numbers))


def _accepts_grid(node: Node) -> str:
    grid = node.inputs[1]
    return "" if grid is not None and grid.dtype in FLOATS else "a grid of another type"


@kernel("GridSample", dtypes=NUMBERS | _COMPLEX | {DataType.BOOL}, accepts=_accepts_grid)
def grid_sample(call: Call, x: Tensor, grid: Tensor) -> Tensor:
    """X at the places of a grid, in [-1, 1] from border to border."""
    axes = x.rank - 2
    if (
        not 1 <= axes <= 3
        or grid.rank != x.rank
        or grid.shape[0] != x.shape[0]
        or grid.shape[-1] != axes
    ):
        raise call.error(f"a grid of shape {grid.shape} does not fit an input of shape {x.shape}")
    mode, padding = call.attribute("mode", "linear"), call.attribute("padding_mode", "zeros")
    if mode not in _MODES or padding not in _PADDINGS:
        raise call.error(f"mode '{mode}' or padding_mode '{padding}' is not known")
    y = call.empty((*x.shape[:2], *grid.shape[1:-1]), x.dtype)
    if y.size and not x.size:
        raise call.error("the input has no elements to read")
    sizes = (
        *(*x.shape[:2], axes, math.prod(grid.shape[1:-1])),
        *(*(1,) * (3 - axes), *x.shape[2:]),
        *(_MODES.index(mode), _PADDINGS.index(padding)),
        int(call.attribute("align_corners", 0) != 0),
        _KINDS.index(grid.dtype),
    )
    if mode == "nearest":
        width = np.int64(x.itemsize)
        _launch(call, "nearest", "grid_nearest", y.size, x, grid, y, _numbers(sizes), width)
    else:
        name = type_name(x.dtype)
        _launch(call, name, f"grid_sample_{name}", y.size, x, grid, y, _numbers(sizes))
    return y


@kernel("AffineGrid", dtypes=FLOATS, host=(1,))
def affine_grid(call: Call, theta: Tensor, size: Array) -> Tensor:
    """Evenly spaced places of an image, moved by one affine matrix per image."""
    sizes = [int(n) for n in size.tolist()]
    axes = len(sizes) - 2
    if axes not in (2, 3) or theta.shape != (sizes[0], axes, axes + 1) or min(sizes) < 0:
        raise call.error(f"matrices of shape {theta.shape} do not fit size {sizes}")
    y = call.empty((sizes[0], *sizes[2:], axes), theta.dtype)
    align = int(call.attribute("align_corners", 0) != 0)
    numbers = (sizes[0], axes, align, *(1,) * (3 - axes), *sizes[2:])
    name = f"affine_grid_{type_name(theta.dtype)}"
    _launch(call, "affine", name, y.size // axes, theta, y, _numbers(numbers))
    return y
