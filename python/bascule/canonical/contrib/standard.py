# SPDX-License-Identifier: Apache-2.0
"""Operators that the standard has as well, in a form that differs little."""

from __future__ import annotations

from bascule.canonical.contrib.axes import permute
from bascule.canonical.contrib.operator import ContribBuilder, Outputs, operator
from bascule.ir.graph import Value

_SAMPLING = {"bilinear": "linear", "nearest": "nearest", "bicubic": "cubic"}


@operator("GridSample")
def grid_sample(
    build: ContribBuilder,
    X: Value,
    Grid: Value,
    *,
    align_corners: int = 0,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
) -> Outputs:
    if mode not in _SAMPLING:
        raise build.invalid(f"attribute 'mode' is '{mode}', expected one of {list(_SAMPLING)}")
    return build.op(
        "GridSample",
        X,
        Grid,
        align_corners=align_corners,
        mode=_SAMPLING[mode],
        padding_mode=padding_mode,
    )


@operator("SampleOp")
def sample_op(build: ContribBuilder, X: Value) -> Outputs:
    return X


@operator("Unique")
def unique(build: ContribBuilder, x: Value) -> Outputs:
    """In the order of their first occurrence."""
    y, _, index, counts = build.ops("Unique", x, outputs=4, sorted=0)
    return y, index, counts


@operator("ExpandDims")
def expand_dims(build: ContribBuilder, X: Value, axis: Value) -> Outputs:
    return build.op("Unsqueeze", X, build.as_vector(build.int64(axis)))


@operator("Range")
def range_of(build: ContribBuilder, start: Value, limit: Value, delta: Value | None) -> Outputs:
    """Of tensors of one element."""
    if delta is None:
        delta = build.like(1, build.typed(start))
    return build.op("Range", *(build.as_scalar(build.typed(x)) for x in (start, limit, delta)))


@operator("Trilu")
def trilu(build: ContribBuilder, X: Value, k: Value | None, *, upper: int = 1) -> Outputs:
    return build.op("Trilu", X, k, upper=upper)


@operator("Pad")
def pad(
    build: ContribBuilder, data: Value, pads: Value, value: Value | None, *, mode: str = "constant"
) -> Outputs:
    """The pads may be a matrix of one row, and the value a vector of one element."""
    fill = None if value is None else build.as_scalar(build.typed(value))
    return build.op("Pad", data, build.as_vector(build.typed(pads)), fill, mode=mode)


@operator("GatherND")
def gather_nd(build: ContribBuilder, data: Value, indices: Value) -> Outputs:
    return build.op("GatherND", data, build.int64(indices))


@operator("UnfoldTensor")
def unfold_tensor(
    build: ContribBuilder, input: Value, *, size: int, dim: int = -1, step: int = 1
) -> Outputs:
    """All slices of a size along an axis, each at the end."""
    if size < 1 or step < 1:
        raise build.invalid(f"size ({size}) and step ({step}) must be positive")
    length = build.dim(input, dim)
    count = build.op("Div", build.op("Sub", length, build.ints(size)), build.ints(step))
    count = build.op("Add", count, build.ints(1))
    starts = build.op("Unsqueeze", build.numbers(count), build.ints(1))
    starts = build.op("Mul", starts, build.ints(step))
    steps = build.numbers(build.int_scalar(size))
    slices = build.op("Gather", input, build.op("Add", starts, steps), axis=dim)
    if dim == -1:
        return slices
    place = dim if dim < 0 else dim + 1
    return permute(build, slices, (place, place + 1), (0, 2, 1))
