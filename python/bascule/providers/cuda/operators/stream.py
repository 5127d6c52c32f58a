# SPDX-License-Identifier: Apache-2.0
"""How products of a few rows that stream their weights (``stream.cuh``) are cut into work."""

from __future__ import annotations

from dataclasses import dataclass

from bascule.providers.cuda.call import Call

MOST_ROWS = 8
THREADS = 512
_WARPS = THREADS // 32
_TILE = 16
"""The columns of a warp."""
_STAGE_BYTES = _WARPS * _TILE * 64
_OVERHEAD = 1.0
"""What the end of a round of tiles costs, in steps."""
_MOST_STAGED = 64 << 10
"""Bytes of A that a block keeps in shared memory."""
_SHALLOW = 3
"""Stages where shared memory is short, as it is on GPUs for desktops."""
_OWN_SHARED = 9 << 10
"""Bytes that a kernel has beside what it is given."""


@dataclass(frozen=True, slots=True)
class Weights:
    """How weights are read: as in ``struct Weights`` of a kernel."""

    together: int
    """The part of K that a warp reads at once."""
    depth: int
    more_bytes: int = 0
    noted_of_group: int = 0
    """Numbers that it keeps of each such part of a row of A."""


@dataclass(frozen=True, slots=True)
class Work:
    """A grid of blocks of THREADS; 2 to the power of `slices` warps of a block share columns."""

    blocks: int
    slices: int
    depth: int
    shared: int


def work_of(
    call: Call, weights: Weights, rows: int, n: int, k: int, itemsize: int, gated: bool = False
) -> Work | None:
    """The work of a product, or None where it does not fit into shared memory."""
    groups = -(-k // weights.together)
    staged = (rows * groups * weights.together + 32) * itemsize
    staged += rows * groups * weights.noted_of_group * 4
    stage = _STAGE_BYTES + weights.more_bytes
    room = call.device.shared_memory - staged - _OWN_SHARED
    depth = next((d for d in (weights.depth, _SHALLOW) if d * stage <= room), 0)
    if not 0 < rows <= MOST_ROWS or staged > _MOST_STAGED or not depth:
        return None
    tiles = 2 * -(-n // 2 // _TILE) if gated else -(-n // _TILE)
    processors = call.device.processors

    def cost(slices: int) -> float:
        at_once = (_WARPS >> slices) * processors
        return -(-tiles // at_once) * (-(-groups // (1 << slices)) + _OVERHEAD)

    # A tile and its gate are made by one block. Long runs of memory are read faster.
    slices = min((4, 3, 2) if not gated else (3, 2), key=cost)
    blocks = min(-(-tiles // (_WARPS >> slices)), processors)
    return Work(blocks, slices, depth, staged + depth * stage)
