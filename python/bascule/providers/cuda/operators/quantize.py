# SPDX-License-Identifier: Apache-2.0
"""QuantizeLinear, DequantizeLinear and DynamicQuantizeLinear."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from bascule.ir.dtype import DataType
from bascule.ir.graph import Node
from bascule.providers.cuda.call import Call
from bascule.providers.cuda.operators.elementwise import launch, program_of, refusal
from bascule.providers.cuda.registry import kernel
from bascule.providers.cuda.tensor import Tensor

_RANGE_THREADS = 256
_RANGE_BLOCKS = 256


@kernel("DequantizeLinear", "QuantizeLinear", accepts=refusal)
def quantize(call: Call, x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    program = program_of(call)
    block_size = int(call.attribute("block_size", 0))
    if zero is not None and zero.size != scale.size:
        raise call.error(f"the zero point has shape {zero.shape}, the scale {scale.shape}")
    if block_size < 0:
        raise call.error(f"block_size is {block_size}")
    shape, parameter_shape = x.shape, scale.shape
    given: list[Tensor | None] = [x, scale, zero]
    if block_size == 0 and scale.size == 1:
        parameter_shape = ()
    else:
        axis = int(call.attribute("axis", 1))
        if not -x.rank <= axis < x.rank:
            raise call.error(f"axis {axis} is out of range for shape {x.shape}")
        axis %= x.rank
        _check_scale(call, x.shape, scale.shape, axis, block_size)
        if block_size == 0:
            parameter_shape = (-1, *(1,) * (x.rank - axis - 1))
        elif x.shape[axis] % block_size == 0:
            shape = (*x.shape[:axis], -1, block_size, *x.shape[axis + 1 :])
            parameter_shape = (*scale.shape[: axis + 1], 1, *scale.shape[axis + 1 :])
        else:
            given[1:] = [_repeated(call, t, axis, block_size, x.shape[axis]) for t in (scale, zero)]
            parameter_shape = x.shape
    shape = _filled(shape, x.size)
    parameter_shape = _filled(parameter_shape, scale.size)
    operands = []
    for index in program.operands:
        tensor = given[index]
        assert tensor is not None
        operands.append(tensor.reshaped(shape if index == 0 else parameter_shape))
    if x.size == 0:
        return call.empty(x.shape, program.results[0])
    return launch(call, program, shape, operands)[0].reshaped(x.shape)


def _filled(shape: tuple[int, ...], size: int) -> tuple[int, ...]:
    """`shape` with the size that its -1 stands for."""
    known = math.prod(dim for dim in shape if dim != -1)
    return tuple(size // max(known, 1) if dim == -1 else dim for dim in shape)


def _check_scale(
    call: Call, x: tuple[int, ...], scale: tuple[int, ...], axis: int, block_size: int
) -> None:
    expected: tuple[int, ...] = (x[axis],)
    if block_size:
        expected = (*x[:axis], -(-x[axis] // block_size), *x[axis + 1 :])
    if scale != expected:
        raise call.error(f"scale has shape {scale}, expected {expected} for axis {axis} of {x}")


def _repeated(
    call: Call, tensor: Tensor | None, axis: int, block_size: int, length: int
) -> Tensor | None:
    """One element for each of x, where the last block is cut short. Any type: bytes are moved."""
    if tensor is None:
        return None
    words: dict[int, Any] = {1: np.uint8, 2: np.uint16, 4: np.uint32}
    plain = tensor.viewed(DataType.from_numpy(words[tensor.itemsize]))
    xp = call.device.xp
    repeated = xp.repeat(call.array(plain), block_size, axis=axis)
    cut = repeated[(slice(None),) * axis + (slice(0, length),)]
    return call.tensor(cut).viewed(tensor.dtype)


def _is_float32(node: Node) -> str:
    value = node.input(0)
    return "" if value is not None and value.dtype is DataType.FLOAT else "the input is not float32"


@kernel("DynamicQuantizeLinear", accepts=_is_float32)
def dynamic_quantize(call: Call, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    y = call.empty(x.shape, DataType.UINT8)
    scale, zero = call.empty((), DataType.FLOAT), call.empty((), DataType.UINT8)
    needed = -(-x.size // (_RANGE_THREADS * 4))
    blocks = max(1, min(_RANGE_BLOCKS, needed))
    ranges = call.empty((blocks, 2), DataType.FLOAT)
    size = np.int64(x.size)
    call.launch("dynamic_quantize", "range_of_blocks", blocks, _RANGE_THREADS, x, size, ranges)
    call.launch(
        *("dynamic_quantize", "scale_and_zero", 1, _RANGE_BLOCKS),
        *(ranges, np.int32(blocks), scale, zero),
    )
    call.launch("dynamic_quantize", "quantize", needed, _RANGE_THREADS, x, size, scale, zero, y)
    return y, scale, zero
