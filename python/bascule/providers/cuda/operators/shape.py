# SPDX-License-Identifier: Apache-2.0
"""Operators that change only the shape: the same memory, seen anew."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from bascule.providers.cuda.call import Call
from bascule.providers.cuda.registry import FIXED_WIDTH, kernel
from bascule.providers.cuda.tensor import Tensor


def integers(array: Any) -> list[int]:
    """The numbers of a host input."""
    return [int(value) for value in np.asarray(array).reshape(-1)]


def axis_of(call: Call, axis: int, rank: int) -> int:
    """An axis that may count from the end, as one that does not."""
    if not -rank <= axis < rank:
        raise call.error(f"axis {axis} is not in [{-rank}, {rank - 1}]")
    return axis % rank


def axes_of(call: Call, axes: Any, rank: int) -> list[int]:
    """Axes of a host input, each given once."""
    found = [axis_of(call, axis, rank) for axis in integers(axes)]
    if len(set(found)) != len(found):
        raise call.error(f"an axis is given twice in {integers(axes)}")
    return found


@kernel("Reshape", dtypes=FIXED_WIDTH, host=(1,))
def reshape(call: Call, x: Tensor, shape: Any) -> Tensor:
    wanted = integers(shape)
    sizes = list(wanted)
    copied: set[int] = set()
    if not call.attribute("allowzero", 0):
        for i, size in enumerate(wanted):
            if size == 0:
                if i >= x.rank:
                    raise call.error(f"shape {wanted} copies size {i} of shape {list(x.shape)}")
                sizes[i] = x.shape[i]
                copied.add(i)
    if sizes.count(-1) > 1 or min(sizes, default=0) < -1:
        raise call.error(f"shape {wanted} has negative sizes")
    if -1 in sizes:
        given, others = x.size, math.prod(size for size in sizes if size != -1)
        if given == others == 0:  # any size would do: the one that it would be for another batch
            given, others = (
                math.prod(size for i, size in enumerate(shape) if size != -1 and i not in copied)
                for shape in (x.shape, sizes)
            )
        if given == others == 0:  # or without the zeros
            given, others = (
                math.prod(size for size in shape if size not in (0, -1))
                for shape in (x.shape, sizes)
            )
        sizes[sizes.index(-1)] = given // others if others else -1
    if min(sizes, default=0) < 0 or math.prod(sizes) != x.size:
        raise call.error(
            "The input tensor cannot be reshaped to the requested shape. "
            f"Input shape: {list(x.shape)}, requested shape: {wanted}"
        )
    return x.reshaped(sizes)


@kernel("Flatten", dtypes=FIXED_WIDTH)
def flatten(call: Call, x: Tensor) -> Tensor:
    axis = call.attribute("axis", 1)
    if axis != x.rank:
        axis = axis_of(call, axis, x.rank)
    return x.reshaped((math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))


@kernel("Squeeze", dtypes=FIXED_WIDTH, host=(1,))
def squeeze(call: Call, x: Tensor, axes: Any = None) -> Tensor:
    if axes is None:
        return x.reshaped([size for size in x.shape if size != 1])
    dropped = axes_of(call, axes, x.rank)
    for axis in dropped:
        if x.shape[axis] != 1:
            raise call.error(f"axis {axis} of shape {list(x.shape)} has not size 1")
    return x.reshaped([size for axis, size in enumerate(x.shape) if axis not in dropped])


@kernel("Unsqueeze", dtypes=FIXED_WIDTH, host=(1,))
def unsqueeze(call: Call, x: Tensor, axes: Any) -> Tensor:
    rank = x.rank + np.asarray(axes).size
    made = axes_of(call, axes, rank)
    sizes = iter(x.shape)
    return x.reshaped([1 if axis in made else next(sizes) for axis in range(rank)])
