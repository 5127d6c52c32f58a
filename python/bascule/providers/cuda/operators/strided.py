# SPDX-License-Identifier: Apache-2.0
"""Copies from strided to strided memory, which most operators that move elements are."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from bascule.providers.cuda.call import Call
from bascule.providers.cuda.device import Struct
from bascule.providers.cuda.tensor import Tensor

BLOCK = 256
_MOST_AXES = 16
_Axis = tuple[int, int, int]
"""Of one axis: its size, and the steps along it in the source and the target."""


def blocks(threads: int) -> int:
    """How many blocks make at least so many threads."""
    return -(-threads // BLOCK)


def strides_of(shape: Sequence[int]) -> list[int]:
    """The strides of a dense tensor, in elements."""
    return [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]


def widest(itemsize: int, *places: int) -> int:
    """The widest element, in bytes, that divides all `places` (addresses, or sizes in bytes)."""
    width = math.gcd(16, *places)
    return max(width, itemsize)


def pack(values: Sequence[int], *lists: Sequence[int]) -> bytes:
    """64-bit numbers, and lists of up to 16 of them, as the members of a struct."""
    padded = [[*each, *[0] * (_MOST_AXES - len(each))] for each in lists]
    return np.array([*values, *(value for each in padded for value in each)], np.int64).tobytes()


def copy_strided(
    call: Call,
    x: Tensor,
    y: Tensor,
    sizes: Sequence[int],
    source: Sequence[int],
    target: Sequence[int],
    first: int = 0,
    place: int = 0,
) -> None:
    """y[place + index . target] = x[first + index . source] for every index within `sizes`."""
    if 0 in sizes:
        return
    axes = _joined(list(zip(sizes, source, target)))
    width = x.itemsize
    if axes and axes[-1][1:] == (1, 1):
        steps = [step * width for axis in axes[:-1] for step in axis[1:]]
        run = axes[-1][0] * width
        wide = widest(width, x.address, y.address, first * width, place * width, run, *steps)
        ratio = wide // width
        axes = [(size, a // ratio, b // ratio) for size, a, b in axes[:-1]] + [
            (axes[-1][0] // ratio, 1, 1)
        ]
        first, place, width = first // ratio, place // ratio, wide
    elif _copy_tiles(call, x, y, axes, first, place):
        return
    if len(axes) > _MOST_AXES:
        raise call.error(f"a copy along {len(axes)} axes")
    count = math.prod(size for size, _, _ in axes)
    offsets = np.int64(first), np.int64(place)
    call.launch(
        "movement", f"strided_copy_{width}", blocks(count), BLOCK, x, y, _struct(axes), *offsets
    )


def _joined(axes: list[_Axis]) -> list[_Axis]:
    """The axes in order of the target, where neighbours that can be walked as one are one."""
    joined: list[_Axis] = []
    for size, source, target in sorted(axes, key=lambda axis: -axis[2]):
        if size == 1:
            continue
        if joined and joined[-1][1] == source * size and joined[-1][2] == target * size:
            joined[-1] = (joined[-1][0] * size, source, target)
        else:
            joined.append((size, source, target))
    return joined


def _struct(axes: Sequence[_Axis]) -> Struct:
    lists = [[axis[i] for axis in axes] for i in range(3)]
    return Struct(pack([math.prod(lists[0]), len(axes)], *lists))


def _copy_tiles(
    call: Call, x: Tensor, y: Tensor, axes: list[_Axis], first: int, place: int
) -> bool:
    """Transpose through shared memory, if the axis of step 1 is another one in x than in y."""
    row = next((axis for axis in axes if axis[2] == 1), None)
    column = next((axis for axis in axes if axis[1] == 1), None)
    if row is None or column is None or min(row[0], column[0]) < 4 or row[0] * column[0] < 256:
        return False
    outer = [axis for axis in axes if axis is not row and axis is not column]
    if len(outer) > _MOST_AXES:
        return False
    side = 64 if x.itemsize < 4 else 32
    down, across = -(-row[0] // side), -(-column[0] // side)
    grid = down * across * math.prod(axis[0] for axis in outer)
    if grid > 2**31 - 1:
        return False
    head = pack([row[0], column[0], row[1], column[2], down, across])
    tiles = Struct(head + _struct(outer).data)
    offsets = np.int64(first), np.int64(place)
    call.launch("movement", f"transpose_tiles_{x.itemsize}", grid, (32, 8), x, y, tiles, *offsets)
    return True
