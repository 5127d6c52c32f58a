# SPDX-License-Identifier: Apache-2.0
"""How many threads work on rows, and on lines along an axis."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bascule.ir.dtype import DataType
from bascule.providers.cuda.call import Call
from bascule.providers.cuda.operators.shape import axis_of
from bascule.providers.cuda.tensor import Tensor

WARP_ROW = 1024
"""Longer rows take a block: a thread of a warp holds 32 elements at most."""
HELD_ROW = 8192
"""Longer rows do not stay in the registers of a block."""
_TEAM = 256
_HELD = 8
"""How many elements of a row a thread of a block holds."""
_SPREAD = 1024
"""Threads of a multiprocessor up to which each thread gets one pack of a row."""


def lines_along(call: Call, shape: Sequence[int], axis: int) -> tuple[int, int, int]:
    """(outer, n, inner): the sizes before, at and behind an axis."""
    axis = axis_of(call, axis, len(shape))
    return math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])


def size_of(dtype: DataType) -> int:
    return dtype.numpy.itemsize


def power_of_two(n: int) -> int:
    """The smallest that is not below `n`."""
    return 1 << max(n - 1, 0).bit_length()


def row_lanes(n: int, width: int) -> int:
    """How many threads work on a row of `n` elements that are taken `width` at a time."""
    return _TEAM if n > WARP_ROW else min(32, power_of_two(-(-n // width)))


def team_grid(call: Call, teams: int, lanes: int) -> tuple[int, int]:
    """(blocks, threads of each) for teams of `lanes` threads: small blocks where teams are few."""
    block = 256
    while block > max(32, lanes) and teams * lanes < 2 * call.device.processors * block:
        block //= 2
    return -(-teams // (block // lanes)), block


def row_team(call: Call, rows: int, n: int, itemsize: int) -> tuple[str, int, int]:
    """(kind of kernel, blocks, threads of each) for rows of `n` elements held in registers.

    The kinds for rows of up to WARP_ROW elements give the same bits: many rows go to parts of
    warps, where a thread holds several packs of 16 bytes, few rows to a thread for each pack.
    """
    if n > WARP_ROW:
        return "block" if n <= HELD_ROW else "long", rows, held_threads(n)
    packs = -(-n * itemsize // 16)
    if rows * packs > _SPREAD * call.device.processors:
        lanes = 8 if n <= WARP_ROW // 4 else 16 if n <= WARP_ROW // 2 else 32
        return (f"warp_{lanes}", *team_grid(call, rows, lanes))
    if packs <= 32 and n <= WARP_ROW // 4:
        lanes = 16 if packs <= 16 else 32
        return (f"spread_{lanes}", *team_grid(call, rows, lanes))
    return "spread_block", rows, -(-packs // 32) * 32


def held_threads(n: int) -> int:
    """Threads of a block that holds a row of `n` elements in its registers."""
    return min(1024, max(32, power_of_two(-(-n // _HELD))))


def is_aligned(x: Tensor, n: int) -> bool:
    """Whether every row of `n` elements starts at a multiple of 16 bytes."""
    return x.address % 16 == 0 and n * x.itemsize % 16 == 0
