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


def held_lanes(n: int) -> int:
    """How many threads of a warp hold a row of `n` elements in their registers."""
    return 8 if n <= WARP_ROW // 4 else 16 if n <= WARP_ROW // 2 else 32


def held_threads(n: int) -> int:
    """Threads of a block that holds a row of `n` elements in its registers."""
    return min(1024, max(32, power_of_two(-(-n // _HELD))))


def is_aligned(x: Tensor, n: int) -> bool:
    """Whether every row of `n` elements starts at a multiple of 16 bytes."""
    return x.address % 16 == 0 and n * x.itemsize % 16 == 0
