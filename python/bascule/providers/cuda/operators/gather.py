# SPDX-License-Identifier: Apache-2.0
"""Operators that pick elements, or put them, by index."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from bascule import errors
from bascule.ir.dtype import DataType
from bascule.ir.graph import Node
from bascule.providers.cuda.call import Call, type_name
from bascule.providers.cuda.device import Struct
from bascule.providers.cuda.operators.entries import ENTRY, sort_entries, sort_length
from bascule.providers.cuda.operators.shape import axis_of
from bascule.providers.cuda.operators.strided import BLOCK, blocks, pack, strides_of, widest
from bascule.providers.cuda.registry import FIXED_WIDTH, NUMBERS, kernel
from bascule.providers.cuda.tensor import Tensor

_INDICES = (DataType.INT32, DataType.INT64)
_JOINED = NUMBERS | {DataType.BOOL}


def _takes_indices(node: Node) -> str:
    return _index_reason(node, _INDICES)


def _takes_tuples(node: Node) -> str:
    return _index_reason(node, (DataType.INT64,))


def _index_reason(node: Node, dtypes: Sequence[DataType]) -> str:
    indices = node.input(1)
    if indices is not None and indices.dtype in dtypes:
        return ""
    return f"the indices are not {' or '.join(dtype.onnx_name for dtype in dtypes)}"


def _scatters_elements(node: Node) -> str:
    return _takes_indices(node) or _reduction_reason(node)


def _scatters_tuples(node: Node) -> str:
    return _takes_tuples(node) or _reduction_reason(node)


def _reduction_reason(node: Node) -> str:
    reduction = node.attributes.get("reduction", "none")
    if reduction not in ("none", "add", "mul", "max", "min"):
        return f"unknown reduction {reduction}"
    data = node.input(0)
    if reduction == "none" or (data is not None and data.dtype in _JOINED):
        return ""
    return f"no reduction of {data.dtype if data is not None else None}"


def _check_constant(call: Call, sizes: Sequence[int]) -> None:
    """Refuse constant indices beyond axes of these sizes; their last axis is over the sizes.

    What is computed on the device is not looked at: a run would have to wait for it.
    """

    def ends(keeping: Call) -> list[tuple[int, int]]:
        value = keeping.node.input(1)
        if value is None or value.constant is None or not value.constant.size:
            return []
        indices = np.asarray(value.constant.numpy()).reshape(-1, len(sizes))
        return list(zip(indices.min(0).tolist(), indices.max(0).tolist()))

    for (least, most), size in zip(call.prepared("ends of indices", ends), sizes):
        if least < -size or most >= size:
            wrong = least if least < -size else most
            message = f"indices element out of data bounds, idx={wrong} must be within the "
            inside = f"inclusive range [{-size},{size - 1}]"
            raise call.error(message + inside, errors.InvalidArgument)


@kernel("Gather", dtypes=FIXED_WIDTH, accepts=_takes_indices)
def gather(call: Call, x: Tensor, indices: Tensor) -> Tensor:
    axis = axis_of(call, call.attribute("axis", 0), x.rank)
    _check_constant(call, x.shape[axis : axis + 1])
    return gathered(call, x, indices, axis)


def gathered(call: Call, x: Tensor, indices: Tensor, axis: int) -> Tensor:
    """Slices of `x` along an axis, by their indices."""
    y = call.empty((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]), x.dtype)
    if not y.size:
        return y
    size, item = x.shape[axis], x.itemsize
    if size == 0:
        raise call.error(f"there is nothing to pick along axis {axis} of {list(x.shape)}")
    inner = math.prod(x.shape[axis + 1 :])
    width = widest(item, x.address, y.address, inner * item)
    numbers = (math.prod(x.shape[:axis]), size, inner * item // width, indices.size)
    name = f"gather_{width}_{type_name(indices.dtype)}"
    grid = blocks(y.nbytes // width)
    call.launch("gather", name, grid, BLOCK, x, indices, y, *map(np.int64, numbers))
    return y


# --- where indices point


def _targets(
    call: Call,
    count: int,
    x: Tensor,
    own: Sequence[int],
    axis: int = 0,
    skipped: int = 0,
    length: int = 0,
) -> Struct:
    if x.rank > 16:
        raise call.error(f"{x.rank} axes")
    per_batch = max(1, count // max(1, math.prod(x.shape[:skipped])))
    numbers = count, x.rank, axis, length, skipped, per_batch, math.prod(x.shape[skipped:])
    return Struct(pack(numbers, x.shape, strides_of(x.shape), own))


def _element_offsets(call: Call, x: Tensor, indices: Tensor) -> Tensor:
    """For each index, the number of the element that it names."""
    axis = axis_of(call, call.attribute("axis", 0), x.rank)
    fits = indices.rank == x.rank and all(
        i == axis or a <= b for i, (a, b) in enumerate(zip(indices.shape, x.shape))
    )
    if not fits or (x.size == 0 and indices.size):
        raise call.error(f"indices of shape {list(indices.shape)} for data {list(x.shape)}")
    _check_constant(call, x.shape[axis : axis + 1])
    offsets = call.empty((indices.size,), DataType.INT64)
    targets = _targets(call, indices.size, x, indices.shape, axis=axis)
    name = f"element_offsets_{type_name(indices.dtype)}"
    call.launch("gather", name, blocks(indices.size), BLOCK, indices, offsets, targets)
    return offsets


def _tuple_offsets(call: Call, x: Tensor, indices: Tensor, skipped: int) -> tuple[Tensor, int]:
    """For each tuple, the number of the first element that it names; how many axes it indexes."""
    length = indices.shape[-1] if indices.rank else -1
    if (
        not 0 <= length <= x.rank - skipped
        or indices.shape[:skipped] != x.shape[:skipped]
        or indices.rank <= skipped
    ):
        raise call.error(f"indices of shape {list(indices.shape)} for data {list(x.shape)}")
    count = math.prod(indices.shape[:-1])
    if count and 0 in x.shape[skipped : skipped + length]:
        raise call.error(f"there is nothing to index in shape {list(x.shape)}")
    if length:
        _check_constant(call, x.shape[skipped : skipped + length])
    offsets = call.empty((count,), DataType.INT64)
    targets = _targets(call, count, x, (), skipped=skipped, length=length)
    call.launch("gather", "tuple_offsets", blocks(count), BLOCK, indices, offsets, targets)
    return offsets, length


def _gather_slices(call: Call, x: Tensor, offsets: Tensor, y: Tensor, inner: int) -> Tensor:
    width = widest(x.itemsize, x.address, y.address, inner * x.itemsize)
    unit = width // x.itemsize
    numbers = np.int64(offsets.size), np.int64(inner // unit), np.int64(unit)
    name, grid = f"gather_slices_{width}", blocks(y.size // unit)
    call.launch("gather", name, grid, BLOCK, x, offsets, y, *numbers)
    return y


@kernel("GatherElements", dtypes=FIXED_WIDTH, accepts=_takes_indices)
def gather_elements(call: Call, x: Tensor, indices: Tensor) -> Tensor:
    y = call.empty(indices.shape, x.dtype)
    return _gather_slices(call, x, _element_offsets(call, x, indices), y, 1)


@kernel("GatherND", dtypes=FIXED_WIDTH, accepts=_takes_tuples)
def gather_nd(call: Call, x: Tensor, indices: Tensor) -> Tensor:
    skipped = call.attribute("batch_dims", 0)
    offsets, length = _tuple_offsets(call, x, indices, skipped)
    rest = x.shape[skipped + length :]
    y = call.empty((*indices.shape[:-1], *rest), x.dtype)
    return _gather_slices(call, x, offsets, y, math.prod(rest)) if y.size else y


# --- scattering


@kernel("ScatterElements", dtypes=FIXED_WIDTH, accepts=_scatters_elements)
def scatter_elements(call: Call, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    if indices.shape != updates.shape:
        raise call.error(f"indices {list(indices.shape)} and updates {list(updates.shape)}")
    return _scatter(call, x, updates, _element_offsets(call, x, indices), 1)


@kernel("ScatterND", dtypes=FIXED_WIDTH, accepts=_scatters_tuples)
def scatter_nd(call: Call, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    offsets, length = _tuple_offsets(call, x, indices, 0)
    if updates.shape != (*indices.shape[:-1], *x.shape[length:]):
        raise call.error(f"updates of shape {list(updates.shape)} for data {list(x.shape)}")
    return _scatter(call, x, updates, offsets, math.prod(x.shape[length:]))


def _scatter(call: Call, x: Tensor, updates: Tensor, offsets: Tensor, inner: int) -> Tensor:
    y = call.copied(x)
    count = offsets.size
    if not updates.size:
        return y
    if count > 2**31 - 2:
        raise call.error(f"{count} updates are too many")
    sizes = np.int64(count), np.int64(inner)
    reduction = call.attribute("reduction", "none")
    if reduction == "none":
        # Of several updates of one place the last one counts, as if they came in order.
        winners = call.zeros((x.size // inner,), DataType.INT32)
        call.launch("gather", "find_winners", blocks(count), BLOCK, offsets, winners, *sizes)
        name, order = f"scatter_slices_{x.itemsize}", (offsets, winners)
        call.launch("gather", name, blocks(updates.size), BLOCK, updates, *order, y, *sizes)
        return y
    padded = sort_length(count)
    entries = call.workspace(padded * ENTRY)
    lengths = np.int64(count), np.int64(padded)
    call.launch("gather", "scatter_entries", blocks(padded), BLOCK, offsets, entries, *lengths)
    sort_entries(call, entries, 1, padded)
    name = f"scatter_{reduction}_{type_name(x.dtype)}"
    call.launch("gather", name, blocks(updates.size), BLOCK, updates, entries, y, *sizes)
    return y


# --- others


def _takes_one_hot(node: Node) -> str:
    values = node.input(2)
    return "" if values is not None and values.dtype in FIXED_WIDTH else "the values are strings"


@kernel("OneHot", dtypes=NUMBERS, host=(1,), accepts=_takes_one_hot)
def one_hot(call: Call, indices: Tensor, depth: Any, values: Tensor) -> Tensor:
    size = int(np.asarray(depth).reshape(-1)[0])
    if size < 0 or values.size != 2:
        raise call.error(f"depth {size} with {values.size} values")
    axis = axis_of(call, call.attribute("axis", -1), indices.rank + 1)
    y = call.empty((*indices.shape[:axis], size, *indices.shape[axis:]), values.dtype)
    places = call.empty(indices.shape, DataType.INT64)
    name = f"hot_places_{type_name(indices.dtype)}"
    lengths = np.int64(indices.size), np.int64(size)
    call.launch("gather", name, blocks(indices.size), BLOCK, indices, places, *lengths)
    numbers = math.prod(indices.shape[:axis]), size, math.prod(indices.shape[axis:])
    name = f"one_hot_{values.itemsize}"
    call.launch("gather", name, blocks(y.size), BLOCK, places, values, y, *map(np.int64, numbers))
    return y


def sent(call: Call, numbers: Any) -> Tensor:
    """Numbers that hold for this run only, on the device."""
    array = np.ascontiguousarray(numbers, np.int64)
    tensor = call.empty(array.shape, DataType.INT64)
    if array.nbytes:
        call.device.upload(tensor.address, array)
    return tensor


@kernel("Compress", dtypes=FIXED_WIDTH, synchronizes=True)
def compress(call: Call, x: Tensor, condition: Tensor) -> Tensor:
    axis = call.attribute("axis")
    if axis is None:
        x, axis = x.reshaped((x.size,)), 0
    axis = axis_of(call, axis, x.rank)
    chosen = np.flatnonzero(call.download(condition)[: x.shape[axis]])
    return gathered(call, x, sent(call, chosen), axis)
