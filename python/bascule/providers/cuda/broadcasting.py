# SPDX-License-Identifier: Apache-2.0
"""Where the operands of an elementwise kernel are: the struct Layout of kernels/elementwise.cuh."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

from bascule.providers.cuda.tensor import Tensor

MOST_DIMENSIONS = 10
_LONG = 1 << 31


def collapsed(
    shape: Sequence[int], operands: Sequence[Sequence[int]]
) -> tuple[list[int], list[list[int]]]:
    """The sizes of the result, innermost first, and each operand's strides in elements.

    Neighbouring dimensions that every operand goes through in one stride are joined; those of one
    element are left out.
    """
    rank = len(shape)
    strides: list[list[int]] = []
    for own in operands:
        padded = (1,) * (rank - len(own)) + tuple(own)
        step, steps = 1, []
        for size in reversed(padded):
            steps.append(step if size != 1 else 0)
            step *= size
        strides.append(steps)
    sizes: list[int] = []
    joined: list[list[int]] = [[] for _ in operands]
    for d, size in enumerate(reversed(shape)):
        if size == 1:
            continue
        if sizes and all(own[d] == to[-1] * sizes[-1] for own, to in zip(strides, joined)):
            sizes[-1] *= size
            continue
        sizes.append(size)
        for own, to in zip(strides, joined):
            to.append(own[d])
    return sizes, joined


def layout(
    shape: Sequence[int], operands: Sequence[Tensor], results: Sequence[Tensor], width: int
) -> bytes | None:
    """The struct; None when the result has dimensions that one launch cannot have."""
    count = math.prod(shape)
    dense = [tensor.size == count for tensor in operands]
    single = [tensor.size == 1 and count != 1 for tensor in operands]
    walked = [t for t, d, s in zip(operands, dense, single) if not (d or s)]
    sizes, walked_strides = collapsed(shape, [tensor.shape for tensor in walked])
    if not walked:
        sizes = []
    longest = max(sizes, default=0)
    if len(sizes) > MOST_DIMENSIONS or longest >= _LONG or count * longest >= 1 << 64:
        return None
    is_aligned = all(
        _is_aligned(tensor, width)
        for tensor in (*results, *(t for t, is_dense in zip(operands, dense) if is_dense))
    )
    is_whole = (
        bool(walked)
        and is_aligned
        and sizes[0] % width == 0
        and count // width < _LONG
        and all(own[0] == 0 or _is_aligned(t, width) for t, own in zip(walked, walked_strides))
    )
    remaining = iter(walked_strides)
    strides = [next(remaining) if not (d or s) else [] for d, s in zip(dense, single)]
    if is_whole:
        sizes = [sizes[0] // width, *sizes[1:]]
        strides = [[own[0] * width, *own[1:]] if own else own for own in strides]
    packed = struct.pack(
        "<q6I",
        count,
        *(_mask(dense), _mask(single), is_aligned, is_whole, len(sizes), 0),
    )
    for size in _padded(sizes, MOST_DIMENSIONS):
        packed += _divisor(size)
    for own in strides or [[]]:
        packed += struct.pack(f"<{MOST_DIMENSIONS}q", *_padded(own, MOST_DIMENSIONS))
    return packed


def _is_aligned(tensor: Tensor, width: int) -> bool:
    return tensor.address % min(16, width * tensor.itemsize) == 0


def _mask(flags: Sequence[bool]) -> int:
    return sum(1 << position for position, flag in enumerate(flags) if flag)


def _padded(numbers: Sequence[int], length: int) -> list[int]:
    return [*numbers, *[0] * (length - len(numbers))]


def _divisor(size: int) -> bytes:
    """The struct Divisor: x // size is (high half of x * multiplier + x) >> shift."""
    if size == 0:
        return bytes(24)
    shift = (size - 1).bit_length()
    multiplier = (1 << 32) * ((1 << shift) - size) // size + 1
    reciprocal = -(-(1 << 64) // size) if size > 1 else 0
    return struct.pack("<Q4I", reciprocal, size, multiplier, shift, 0)
