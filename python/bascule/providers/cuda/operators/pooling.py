# SPDX-License-Identifier: Apache-2.0
"""Pools over windows and over whole planes."""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np

from bascule.ir.dtype import DataType
from bascule.providers.cuda.call import Call, type_name
from bascule.providers.cuda.device import Argument, Struct
from bascule.providers.cuda.registry import FLOATS, NUMBERS, kernel
from bascule.providers.cuda.tensor import Tensor
from bascule.providers.cuda.windows import Pool, pool_of

_THREADS = 256
_VECTORS = (DataType.FLOAT, DataType.FLOAT16, DataType.BFLOAT16)
_GRID_LIMIT = 2**31 - 1


def _windows(call: Call, x: Tensor) -> tuple[Pool, tuple[int, ...], Struct]:
    """The windows over X, the shape of Y, and the argument of the kernels."""
    if x.rank < 3:
        raise call.error(f"the input has shape {x.shape}, expected 3 axes or more")
    channels_last = bool(call.attribute("channels_last", 0))
    spatial = x.shape[1:-1] if channels_last else x.shape[2:]
    channels = x.shape[-1] if channels_last else x.shape[1]
    pool = pool_of(call.node, spatial)
    out = pool.out[3 - len(spatial) :]
    shape = (x.shape[0], *out, channels) if channels_last else (x.shape[0], channels, *out)
    numbers = (x.shape[0], channels, int(channels_last), *pool.numbers)
    return pool, shape, Struct(struct.pack(f"<{len(numbers)}q", *numbers))


def _launch(call: Call, name: str, x: Tensor, y: Tensor, *arguments: Argument) -> None:
    blocks = min(-(-y.size // _THREADS), 1 << 20)
    call.launch("pooling", f"{name}_{type_name(x.dtype)}", blocks, _THREADS, x, y, *arguments)


@kernel("MaxPool", dtypes=NUMBERS)
@kernel("MaxPool", domain="bascule", dtypes=NUMBERS)
def max_pool(call: Call, x: Tensor) -> Any:
    """The largest element of each window, and where it is."""
    pool, shape, windows = _windows(call, x)
    y = call.empty(shape, x.dtype)
    if _max_of_image(call, pool, x, y):
        return y
    indices = call.empty(shape, DataType.INT64) if call.wants(1) else None
    order = np.int32(call.attribute("storage_order", 0) != 0)
    _launch(call, "max_pool", x, y, indices, windows, order)
    return y if indices is None else (y, indices)


def _max_of_image(call: Call, pool: Pool, x: Tensor, y: Tensor) -> bool:
    """Channels last, 16 bytes of them at a time; False when that does not fit."""
    lanes = 16 // x.itemsize
    if (
        not call.attribute("channels_last", 0)
        or call.wants(1)
        or x.dtype not in _VECTORS
        or x.rank != 4
        or x.shape[-1] % lanes
        or max(x.size, y.size, *pool.numbers) >= 1 << 30
    ):
        return False
    axes = (pool.kernel, pool.stride, pool.dilation, pool.pad)
    numbers = (x.shape[0], x.shape[-1], *pool.in_[1:], *pool.out[1:])
    flat = [size for sizes in axes for size in sizes[1:]]
    argument = Struct(struct.pack("<14i", *numbers, *flat))
    blocks = -(-(y.size // lanes) // 128)
    call.launch("pooling", f"max_pool_image_{type_name(x.dtype)}", blocks, 128, x, y, argument)
    return True


@kernel("AveragePool", dtypes=FLOATS)
@kernel("AveragePool", domain="bascule", dtypes=FLOATS)
def average_pool(call: Call, x: Tensor) -> Tensor:
    """The mean of each window."""
    _, shape, windows = _windows(call, x)
    y = call.empty(shape, x.dtype)
    counted = np.int32(call.attribute("count_include_pad", 0) != 0)
    _launch(call, "average_pool", x, y, windows, counted)
    return y


@kernel("LpPool", dtypes=FLOATS)
def lp_pool(call: Call, x: Tensor) -> Tensor:
    """The norm of each window."""
    _, shape, windows = _windows(call, x)
    y = call.empty(shape, x.dtype)
    _launch(call, "lp_pool", x, y, windows, np.float64(call.attribute("p", 2)))
    return y


def _global(call: Call, name: str, x: Tensor, *arguments: Argument) -> Tensor:
    if x.rank < 2:
        raise call.error(f"the input has shape {x.shape}, expected 2 axes or more")
    y = call.empty((*x.shape[:2], *(1,) * (x.rank - 2)), x.dtype)
    n = math.prod(x.shape[2:])
    if y.size > _GRID_LIMIT:
        raise call.error(f"{y.size} planes are too many")
    threads = 32 if n <= 256 else 256
    entry = f"{name}_{type_name(x.dtype)}"
    call.launch("pooling", entry, y.size, threads, x, y, np.int64(n), *arguments)
    return y


@kernel("GlobalAveragePool", dtypes=FLOATS)
def global_average_pool(call: Call, x: Tensor) -> Tensor:
    """The mean of each plane."""
    return _global(call, "global_average_pool", x)


@kernel("GlobalMaxPool", dtypes=FLOATS)
def global_max_pool(call: Call, x: Tensor) -> Tensor:
    """The largest element of each plane."""
    return _global(call, "global_max_pool", x)


@kernel("GlobalLpPool", dtypes=FLOATS)
def global_lp_pool(call: Call, x: Tensor) -> Tensor:
    """The norm of each plane."""
    return _global(call, "global_lp_pool", x, np.float64(call.attribute("p", 2)))
