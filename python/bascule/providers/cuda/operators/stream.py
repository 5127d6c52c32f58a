# SPDX-License-Identifier: Apache-2.0
"""How products of a few rows that stream their weights (``stream.cuh``) are cut into work."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bascule.providers.cuda.call import Call
from bascule.providers.cuda.device import Argument

MOST_ROWS = 8
THREADS = 512
_WARPS = THREADS // 32
_TILE = 16
"""The columns of a warp."""
_OVERHEAD = 0.5
"""What the end of a round of tiles costs, in reads of a warp."""
_MOST_STAGED = 64 << 10
"""Bytes of A that a block keeps in shared memory."""
_OWN_SHARED = 9 << 10
"""Bytes that a kernel has beside what it is given."""
_SHALLOW = 2


@dataclass(frozen=True, slots=True)
class Weights:
    """How a warp reads weights: as in ``struct Weights`` of a kernel."""

    together: int
    """The part of K that it reads at once."""
    depth: int
    entry_bytes: int


@dataclass(frozen=True, slots=True)
class Work:
    """A grid of blocks of THREADS, and how many warps of a block share K."""

    blocks: int
    slices: int
    depth: int
    shared: int

    @property
    def arguments(self) -> tuple[Argument, ...]:
        """As kernels take it."""
        return np.int32(self.slices), np.int32(self.depth)


def work_of(
    call: Call, weights: Weights, rows: int, n: int, k: int, itemsize: int, gated: bool = False
) -> Work | None:
    """The work of a product, or None where its rows do not fit into shared memory."""
    groups = -(-k // weights.together)
    staged = rows * groups * weights.together * itemsize + 64  # and zeros
    if not 0 < rows <= MOST_ROWS or staged > _MOST_STAGED:
        return None
    queue = _WARPS * weights.entry_bytes
    room = call.device.shared_memory - staged - _OWN_SHARED
    depth = next((d for d in (weights.depth, _SHALLOW) if d * queue <= room), 0)
    if not depth:
        return None
    tiles = 2 * -(-n // 2 // _TILE) if gated else -(-n // _TILE)
    processors = call.device.processors

    def cost(slices: int) -> float:
        at_once = _WARPS // slices * processors
        return -(-tiles // at_once) * (-(-groups // slices) + _OVERHEAD)

    # A tile and its gate are made by one block.
    slices = min((s for s in (16, 8, 4, 2, 1) if not gated or s < _WARPS), key=cost)
    blocks = min(-(-tiles // (_WARPS // slices)), processors)
    return Work(blocks, slices, depth, staged + depth * queue)
