# SPDX-License-Identifier: Apache-2.0
"""Resize: nearest copies elements; linear and cubic run axis by axis."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from bascule.ir.dtype import DataType
from bascule.ir.graph import Node
from bascule.ir.resize import resized_length
from bascule.providers.cuda.call import Call, type_name
from bascule.providers.cuda.device import Struct
from bascule.providers.cuda.registry import FIXED_WIDTH, FLOATS, kernel
from bascule.providers.cuda.resampling import Axis, Sampling
from bascule.providers.cuda.tensor import Tensor

_THREADS = 256
_MOST_AXES = 8
_INDEX_LIMIT = 1 << 31
"""How many elements of an axis 32-bit indices reach."""
_SHORT = (DataType.INT8, DataType.UINT8, DataType.BOOL)
_LONG = (DataType.INT64, DataType.UINT64)
_COMPLEX = (DataType.COMPLEX64, DataType.COMPLEX128)
_INTEGERS = (*_SHORT, DataType.INT16, DataType.UINT16, DataType.INT32, DataType.UINT32)

Array = np.ndarray[Any, Any]


def _accepts(node: Node) -> str:
    x = node.inputs[0]
    if x is None or (x.rank is not None and x.rank > _MOST_AXES):
        return f"more than {_MOST_AXES} axes"
    if node.attributes.get("mode", "nearest") == "nearest":
        return ""
    if x.dtype in (*_LONG, *_COMPLEX):
        # Their two parts are resized alike.
        is_zero = node.attributes.get("extrapolation_value", 0.0) == 0
        return "" if is_zero else f"an extrapolation_value for {x.dtype.onnx_name}"
    if x.dtype in (*FLOATS, *_INTEGERS):
        return ""
    return f"no interpolation of {x.dtype.onnx_name if x.dtype else 'unknown'}"


@kernel("Resize", dtypes=FIXED_WIDTH, host=(1, 2, 3), accepts=_accepts)
def resize(
    call: Call,
    x: Tensor,
    region: Array | None = None,
    scales: Array | None = None,
    sizes: Array | None = None,
) -> Tensor:
    """X in another size."""
    if x.rank > _MOST_AXES:  # where the model does not say the rank
        raise call.error(f"the input has shape {x.shape}, expected at most {_MOST_AXES} axes")
    sampling = Sampling(call.node)
    axes = _axes(call, x, region, scales, sizes)
    shape = list(x.shape)
    for axis in axes:
        if axis.input == 0 and axis.output > 0:
            raise call.error(f"axis {axis.number} is empty and cannot be resized to {axis.output}")
        shape[axis.number] = axis.output
    axes = [axis for axis in axes if not sampling.keeps(axis)]
    if any(axis.input >= _INDEX_LIMIT for axis in axes):
        raise call.error(f"an axis of the input, {x.shape}, is too long to be resized")
    if not axes:
        return x.reshaped(shape)
    if math.prod(shape) == 0:
        return call.empty(shape, x.dtype)
    if sampling.mode == "nearest":
        return _copied(call, x, sampling, axes, shape)
    if x.dtype in _COMPLEX:
        y = call.empty(shape, x.dtype)
        call.copy(y, _interpolated(call, x.in_parts(), sampling, axes))
        return y
    if x.dtype in _LONG:
        return _joined(call, _interpolated(call, _halves(call, x), sampling, axes), x.dtype)
    return _interpolated(call, x, sampling, axes)


def _halves(call: Call, x: Tensor) -> Tensor:
    """Integers as pairs of float64, which hold half of the bits each."""
    halves = call.empty((*x.shape, 2), DataType.DOUBLE)
    name = type_name(x.dtype)
    arguments = (x, halves, np.int64(x.size))
    call.launch("resize", f"resize_split_{name}", _blocks(x.size), _THREADS, *arguments)
    return halves


def _joined(call: Call, halves: Tensor, dtype: DataType) -> Tensor:
    y = call.empty(halves.shape[:-1], dtype)
    name = type_name(dtype)
    arguments = (halves, y, np.int64(y.size))
    call.launch("resize", f"resize_join_{name}", _blocks(y.size), _THREADS, *arguments)
    return y


# --- the axes


def _axes(
    call: Call, x: Tensor, region: Array | None, scales: Array | None, sizes: Array | None
) -> list[Axis]:
    numbers = call.attribute("axes")
    listed = [int(n) for n in (range(x.rank) if numbers is None else numbers)]
    if any(not -x.rank <= n < x.rank for n in listed):
        raise call.error(f"attribute 'axes' is {listed}, and the input has {x.rank} axes")
    listed = [n % x.rank for n in listed]
    if len(set(listed)) != len(listed):
        raise call.error(f"attribute 'axes' names an axis of {listed} twice")
    by_scale = scales is not None and scales.size > 0
    by_size = sizes is not None and sizes.size > 0
    if by_scale == by_size and listed:
        raise call.error("expected either scales or sizes")
    given = scales if by_scale else sizes
    if given is not None and given.size != len(listed):
        raise call.error(f"{given.size} scales or sizes for {len(listed)} axes")
    if not listed:
        return []
    assert given is not None
    lengths = [x.shape[n] for n in listed]
    found = _scaled(call, lengths, given) if by_scale else _sized(call, lengths, given)
    ends = [(0.0, 1.0)] * len(listed)
    if call.attribute("coordinate_transformation_mode") == "tf_crop_and_resize":
        if region is None or region.size != 2 * len(listed):
            raise call.error(f"roi must have {2 * len(listed)} elements")
        corners = region.astype(np.float64)
        ends = list(zip(corners[: len(listed)].tolist(), corners[len(listed) :].tolist()))
    return [
        Axis(number, length, *scale, by_scale, *end)
        for number, length, scale, end in zip(listed, lengths, found, ends)
    ]


def _scaled(call: Call, lengths: Sequence[int], scales: Array) -> list[tuple[int, float, float]]:
    """Output lengths, and scales as fractions."""
    found = []
    for length, scale in zip(lengths, scales.astype(np.float64).tolist()):
        if not (scale > 0 and scale * length <= 1e12):
            raise call.error(f"a scale is {scale}")
        found.append((resized_length(length, scale), scale, 1.0))
    return found


def _sized(call: Call, lengths: Sequence[int], sizes: Array) -> list[tuple[int, float, float]]:
    """Output lengths, and scales as fractions, all the same if axes must keep their quotient."""
    wanted = [int(size) for size in sizes.tolist()]
    if min(wanted) < 0:
        raise call.error(f"sizes is {wanted}")
    found = [(size, float(size), float(max(length, 1))) for size, length in zip(wanted, lengths)]
    policy = call.attribute("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch":
        return found
    choose = min if policy == "not_larger" else max
    _, over, under = choose(found, key=lambda fraction: fraction[1] / fraction[2])
    return [(int(over * length / under + 0.5), over, under) for length in lengths]


# --- the work


def _blocks(threads: int) -> int:
    return min(-(-threads // _THREADS), 1 << 20)


def _copied(
    call: Call, x: Tensor, sampling: Sampling, axes: Sequence[Axis], shape: Sequence[int]
) -> Tensor:
    y = call.empty(shape, x.dtype)
    places, tables, count = [-1] * _MOST_AXES, [], 0
    for axis in axes:
        indices, _ = sampling.taps(axis)
        places[axis.number] = count
        count += axis.output
        tables.append(indices[0])
    padding = [1] * (_MOST_AXES - x.rank)
    numbers = [x.rank, *x.shape, *padding, *shape, *padding, *places]
    outside = np.full(1, call.attribute("extrapolation_value", 0.0)).astype(x.dtype.numpy)
    call.launch(
        "resize.nearest",
        f"resize_nearest_{x.itemsize}",
        _blocks(y.size),
        _THREADS,
        x,
        y,
        call.upload(np.concatenate(tables)),
        call.upload(outside),
        Struct(struct.pack(f"<{len(numbers)}q", *numbers)),
        np.int64(y.size),
    )
    return y


def _interpolated(call: Call, x: Tensor, sampling: Sampling, axes: list[Axis]) -> Tensor:
    short = x.dtype not in (DataType.DOUBLE, *_INTEGERS) or x.dtype in _SHORT
    wide = DataType.FLOAT if short else DataType.DOUBLE
    # Shrink first; of equal axes the last one first.
    axes = sorted(axes, key=lambda axis: (axis.output / axis.input, -axis.number))
    current, shape = x, list(x.shape)
    for place, axis in enumerate(axes):
        is_last = place == len(axes) - 1
        outer, inner = math.prod(shape[: axis.number]), math.prod(shape[axis.number + 1 :])
        shape[axis.number] = axis.output
        y = call.empty(shape, x.dtype if is_last else wide)
        try:
            indices, weights = sampling.taps(axis)
        except ValueError as error:
            raise call.error(str(error)) from error
        assert weights is not None
        start, end = ("element" if t.dtype is x.dtype else "wide" for t in (current, y))
        call.launch(
            "resize",
            f"resize_{start}_{end}_{type_name(x.dtype)}",
            _blocks(y.size),
            _THREADS,
            current,
            y,
            call.upload(indices),
            call.upload(weights.astype(wide.numpy)),
            np.int64(outer),
            np.int64(axis.input),
            np.int64(axis.output),
            np.int64(inner),
            np.int64(len(indices)),
            np.float64(call.attribute("extrapolation_value", 0.0)),
        )
        current = y
    return current
