# SPDX-License-Identifier: Apache-2.0
"""Tensors made of few numbers: ConstantOfShape, EyeLike, Range and the windows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from bascule.ir.constant import Constant
from bascule.ir.dtype import DataType
from bascule.ir.graph import Node
from bascule.providers.cuda.call import Call, type_name
from bascule.providers.cuda.device import Argument, Struct
from bascule.providers.cuda.registry import FLOATS, NUMBERS, kernel
from bascule.providers.cuda.tensor import Tensor

_THREADS = 256
_MOST_BLOCKS = 4096
_MOST_ELEMENTS = 1 << 56


def blocks_for(count: int) -> int:
    """How many blocks of 256 threads that take one element each in turns."""
    return min(-(-count // _THREADS), _MOST_BLOCKS)


def filled(call: Call, shape: tuple[int, ...], value: np.ndarray[Any, Any]) -> Tensor:
    """A tensor of one element, repeated."""
    dtype = DataType.from_numpy(value.dtype)
    data = value.tobytes()
    if not any(data):
        return call.zeros(shape, dtype)
    y = call.empty(shape, dtype)
    call.launch(
        *("fill", f"constant_{len(data)}", blocks_for(y.size), _THREADS),
        *(y, np.int64(y.size), _element(data)),
    )
    return y


def _element(data: bytes) -> Argument:
    """An element as an unsigned number of its width."""
    if len(data) == 16:
        return Struct(data)
    number: np.generic = np.frombuffer(data, f"u{len(data)}")[0]
    return number


@kernel("ConstantOfShape", host=(0,))
def constant_of_shape(call: Call, sizes: Any) -> Tensor:
    given = call.attribute("value")
    value = given.numpy() if isinstance(given, Constant) else np.zeros(1, np.float32)
    if value.size != 1:
        raise call.error(f"attribute value has shape {value.shape}, expected one element")
    shape = tuple(int(size) for size in np.asarray(sizes).reshape(-1))
    if min(shape, default=0) < 0:
        raise call.error(f"the shape {list(shape)} has a negative size")
    return filled(call, shape, value.reshape(()))


@kernel("EyeLike")
def eye_like(call: Call, x: Tensor) -> Tensor:
    if x.rank != 2:
        raise call.error(f"the input has shape {list(x.shape)}, expected a matrix")
    rows, columns = x.shape
    k = int(call.attribute("k", 0))
    y = call.zeros(x.shape, call.dtype())
    first = -k * columns if k < 0 else k
    count = min(rows + min(k, 0), columns - max(k, 0))
    if count > 0:
        one = np.ones((), y.dtype.numpy).tobytes()
        call.launch(
            *("fill", f"diagonal_{len(one)}", blocks_for(count), _THREADS),
            *(y, np.int64(first), np.int64(columns + 1), np.int64(count), _element(one)),
        )
    return y


_SIGNED = (DataType.INT8, DataType.INT16, DataType.INT32, DataType.INT64)


@kernel("Range", host=(0, 1, 2), dtypes=FLOATS | {*_SIGNED})
def range_(call: Call, *numbers: Any) -> Tensor:
    values = [np.asarray(number) for number in numbers]
    dtype = call.dtype()
    if any(value.size != 1 or value.dtype != dtype.numpy for value in values):
        raise call.error("start, limit and delta must be scalars of one type")
    is_float = dtype.is_float
    start, limit, delta = (float(v.item()) if is_float else int(v.item()) for v in values)
    if delta == 0:
        raise call.error("delta must not be 0")
    count = -((limit - start) // -delta) if not is_float else _steps(start, limit, delta)
    if not count < _MOST_ELEMENTS:
        raise call.error("too many elements")
    y = call.empty((max(int(count), 0),), dtype)
    wide = np.dtype(np.float32) if is_float and dtype.bits == 16 else dtype.numpy
    call.launch(
        *("fill", f"range_{type_name(dtype)}", blocks_for(y.size), _THREADS),
        *(y, np.int64(y.size), wide.type(start), wide.type(delta)),
    )
    return y


def _steps(start: float, limit: float, delta: float) -> float:
    steps = (limit - start) / delta
    return math.ceil(steps) if math.isfinite(steps) else (0.0 if steps < 0 else math.inf)


_WINDOWS = {
    "BlackmanWindow": (0.42, 0.5, 0.08),
    "HammingWindow": (25.0 / 46.0, 21.0 / 46.0, 0.0),
    "HannWindow": (0.5, 0.5, 0.0),
}


def _window_refusal(node: Node) -> str:
    return "" if node.output.dtype in NUMBERS else "the output type is not a number"


@kernel(*_WINDOWS, host=(0,), accepts=_window_refusal)
def window(call: Call, size: Any) -> Tensor:
    count = int(np.asarray(size).item())
    if count < 0:
        raise call.error(f"the size of a window is {count}")
    periodic = call.attribute("periodic", 1) != 0
    a, b, c = _WINDOWS[call.node.op_type]
    n = count if periodic else count - 1
    if count == 1 and not periodic:  # a single point is the top of the window
        n, a, b, c = 1, 1.0, 0.0, 0.0
    y = call.empty((count,), call.dtype())
    call.launch(
        *("fill", f"window_{type_name(y.dtype)}", blocks_for(count), _THREADS),
        *(y, np.int64(count), np.float64(n), np.float64(a), np.float64(b), np.float64(c)),
    )
    return y
