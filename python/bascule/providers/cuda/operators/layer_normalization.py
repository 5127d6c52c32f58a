# SPDX-License-Identifier: Apache-2.0
"""LayerNormalization, RMSNormalization, and both after the sum with a residual."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from bascule.ir.dtype import DataType
from bascule.ir.graph import FUSED_DOMAIN, Node
from bascule.providers.cuda.call import Call, type_name
from bascule.providers.cuda.operators.conversion import converted, work_type
from bascule.providers.cuda.operators.rows import is_aligned, row_team
from bascule.providers.cuda.operators.shape import axis_of
from bascule.providers.cuda.operators.strided import copy_strided, strides_of
from bascule.providers.cuda.registry import FLOATS, kernel
from bascule.providers.cuda.tensor import Tensor

_STASHES = {1: DataType.FLOAT, 16: DataType.BFLOAT16}


def _stash(node: Node) -> str:
    known = node.attributes.get("stash_type", 1) in _STASHES
    return "" if known else "stash_type is neither float nor bfloat16"


@kernel("LayerNormalization", dtypes=FLOATS, accepts=_stash)
def layer_normalization(
    call: Call, x: Tensor, scale: Tensor, bias: Tensor | None = None
) -> tuple[Tensor | None, ...]:
    axis = axis_of(call, call.attribute("axis", -1), x.rank)
    kept = (*x.shape[:axis], *[1] * (x.rank - axis))
    means = [call.empty(kept, DataType.FLOAT) if call.wants(k) else None for k in (1, 2)]
    y, _ = _normalized(call, x, None, scale, bias, axis, x.dtype, means)
    stash = _STASHES[call.attribute("stash_type", 1)]
    moments = (None if each is None else converted(call, each, stash) for each in means)
    return (y, *moments)[: len(call.node.outputs)]


@kernel("RMSNormalization", dtypes=FLOATS, accepts=_stash)
def rms_normalization(call: Call, x: Tensor, scale: Tensor) -> Tensor:
    axis = axis_of(call, call.attribute("axis", -1), x.rank)
    y, _ = _normalized(call, x, None, scale, None, axis, scale.dtype)
    return y


def normalized_rows(
    call: Call, x: Tensor, scale: Tensor, bias: Tensor | None = None, centers: bool = False
) -> Tensor:
    """The rows of x normalized, without their mean if `centers`; for a node with an epsilon."""
    axis = axis_of(call, -1, x.rank)
    y, _ = _normalized(call, x, None, scale, bias, axis, x.dtype, is_rms=not centers)
    return y


@kernel("SkipLayerNormalization", "SkipRMSNormalization", domain=FUSED_DOMAIN, dtypes=FLOATS)
def skip_normalization(
    call: Call, x: Tensor, skip: Tensor, scale: Tensor, bias: Tensor | None = None
) -> tuple[Tensor | None, ...]:
    axis = axis_of(call, -1, x.rank)
    return _normalized(call, x, skip, scale, bias, axis, x.dtype)[: len(call.node.outputs)]


def _normalized(
    call: Call,
    x: Tensor,
    skip: Tensor | None,
    scale: Tensor,
    bias: Tensor | None,
    axis: int,
    dtype: DataType,
    means: Sequence[Tensor | None] = (None, None),
    is_rms: bool | None = None,
) -> tuple[Tensor, Tensor | None]:
    """(the result, the sum with `skip` if that is wanted); of mixed types in the widest."""
    given = (x, skip, scale, bias)
    is_mixed = any(t is not None and t.dtype is not x.dtype for t in given)
    works = work_type(*given) if is_mixed else x.dtype
    wide = converted(call, x, works)
    first = 1 if skip is None else 2
    places = (1, first, first + 1)
    operands = [
        _row_operand(call, each, x.shape, axis, works, place)
        for each, place in zip(given[1:], places)
    ]
    y = call.empty(x.shape, works)
    has_sum = skip is not None and call.wants(1)
    sums = call.empty(x.shape, works) if has_sum else None
    n = math.prod(x.shape[axis:])
    rows = math.prod(x.shape[:axis])
    if is_rms is None:
        is_rms = "RMS" in call.node.op_type
    _launch(call, wide, operands, y, sums, means, rows, n, is_rms)
    return converted(call, y, dtype), None if sums is None else converted(call, sums, dtype)


def _row_operand(
    call: Call,
    operand: Tensor | None,
    shape: Sequence[int],
    axis: int,
    dtype: DataType,
    place: int,
) -> tuple[Tensor | None, int]:
    """An operand, and how far its rows are apart: 0 where all rows share one."""
    if operand is None:
        return None, 0
    operand = converted(call, operand, dtype, place)
    n = math.prod(shape[axis:])
    row = (*[1] * axis, *shape[axis:])
    is_row = operand.size == n and operand.rank <= len(row)
    if is_row and operand.shape == row[len(row) - operand.rank :]:
        return operand, 0
    if operand.shape == tuple(shape):
        return operand, n
    if operand.rank > len(shape) or any(
        size not in (1, whole) for size, whole in zip(operand.shape[::-1], shape[::-1])
    ):
        shapes = f"{operand.shape} of scale or bias does not broadcast to {tuple(shape)}"
        raise call.error(f"shape {shapes}")
    full = call.empty(shape, dtype)
    sizes = [1] * (len(shape) - operand.rank) + list(operand.shape)
    steps = [0 if size == 1 else step for size, step in zip(sizes, strides_of(sizes))]
    copy_strided(call, operand, full, shape, steps, strides_of(shape))
    return full, n


def _launch(
    call: Call,
    x: Tensor,
    operands: Sequence[tuple[Tensor | None, int]],
    y: Tensor,
    sums: Tensor | None,
    means: Sequence[Tensor | None],
    rows: int,
    n: int,
    is_rms: bool,
) -> None:
    tensors = (x, *(tensor for tensor, _ in operands), y, sums, *means)
    strides = (np.int64(stride) for _, stride in operands)
    aligned = all(t is None or is_aligned(t, n) for t in tensors[:6])
    flags = (np.int32(not is_rms), np.int32(aligned))
    epsilon = np.float32(call.attribute("epsilon", 1e-5))
    kind, grid, block = row_team(call, rows, n, x.itemsize)
    name = f"layer_{kind}_{type_name(x.dtype)}"
    sizes = (np.int64(rows), np.int64(n), *strides)
    call.launch("layer_normalization", name, grid, block, *tensors, *sizes, epsilon, *flags)
