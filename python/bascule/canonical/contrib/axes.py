# SPDX-License-Identifier: Apache-2.0
"""Moving axes of tensors whose rank may not be known."""

from __future__ import annotations

from typing import Any

from bascule.canonical.contrib.operator import ContribBuilder
from bascule.ir.graph import Value


def channels_first(build: ContribBuilder, x: Value, rank: int | None = None) -> Value:
    """``[N, spatial..., C]`` as ``[N, C, spatial...]``."""
    return permute(build, x, (1, -1), (0, 2, 1), rank)


def channels_last(build: ContribBuilder, x: Value, rank: int | None = None) -> Value:
    """``[N, C, spatial...]`` as ``[N, spatial..., C]``."""
    return permute(build, x, (1, 2), (0, 2, 1), rank)


def merge(build: ContribBuilder, x: Value, start: int, end: int | None) -> Value:
    """With the axes from `start` to `end`, which may be none, as one."""
    inner: dict[str, Any] = {"start": start} if end is None else {"start": start, "end": end}
    sizes = [
        build.op("Shape", x, end=start),
        build.op("ReduceProd", build.op("Shape", x, **inner), keepdims=1),
    ]
    if end is not None:
        sizes.append(build.op("Shape", x, start=end))
    return _reshape(build, x, *sizes)


def permute(
    build: ContribBuilder,
    x: Value,
    bounds: tuple[int, int],
    order: tuple[int, int, int],
    rank: int | None = None,
) -> Value:
    """The axes before, between and behind two bounds, each group as it is, in another order."""
    rank = build.typed(x).rank if rank is None else rank
    first, second = bounds
    if rank is not None:
        axes = list(range(rank))
        groups = (axes[:first], axes[first:second], axes[second:])
        return build.op("Transpose", x, perm=[axis for index in order for axis in groups[index]])
    shapes = (
        build.op("Shape", x, end=first),
        build.op("Shape", x, start=first, end=second),
        build.op("Shape", x, start=second),
    )
    flat = _reshape(build, x, *(build.op("ReduceProd", shape, keepdims=1) for shape in shapes))
    moved = build.op("Transpose", flat, perm=[*order])
    return _reshape(build, moved, *(shapes[index] for index in order))


def _reshape(build: ContribBuilder, x: Value, *sizes: Value) -> Value:
    return build.op("Reshape", x, build.op("Concat", *sizes, axis=0), allowzero=1)
