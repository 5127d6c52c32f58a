# SPDX-License-Identifier: Apache-2.0
"""How products of a few rows with 16-bit weights (``stream_matmul.cu``) are cut into work."""

from __future__ import annotations

from dataclasses import dataclass

from bascule.providers.cuda.call import Call

MOST_ROWS = 8
THREADS = 512
_WARPS = THREADS // 32
_TILE = 16
"""The columns of a warp."""
_TOGETHER = 32
"""The part of K that a warp reads at once."""
_STAGE_BYTES = _WARPS * _TILE * 64
_DEPTHS = 5, 3
"""Stages; few where shared memory is short, as it is on GPUs for desktops."""
_OVERHEAD = 1.0
"""What the end of a round of tiles costs, in steps."""
_MOST_STAGED = 64 << 10
"""Bytes of A that a block keeps in shared memory."""
_OWN_SHARED = 9 << 10
"""Bytes that a kernel has beside what it is given."""


@dataclass(frozen=True, slots=True)
class Work:
    """A grid of blocks of THREADS; 2 to the power of `slices` warps of a block share columns."""

    blocks: int
    slices: int
    depth: int
    shared: int


def work_of(call: Call, rows: int, n: int, k: int) -> Work | None:
    """The work of a product, or None where it does not fit into shared memory."""
    groups = -(-k // _TOGETHER)
    staged = (rows * groups * _TOGETHER + 32) * 2
    room = call.device.shared_memory - staged - _OWN_SHARED
    depth = next((d for d in _DEPTHS if d * _STAGE_BYTES <= room), 0)
    if not 0 < rows <= MOST_ROWS or staged > _MOST_STAGED or not depth:
        return None
    tiles, processors = -(-n // _TILE), call.device.processors

    def cost(slices: int) -> float:
        at_once = (_WARPS >> slices) * processors
        return -(-tiles // at_once) * (-(-groups // (1 << slices)) + _OVERHEAD)

    # Long runs of memory are read faster.
    slices = min((4, 3, 2), key=cost)
    blocks = min(-(-tiles // (_WARPS >> slices)), processors)
    return Work(blocks, slices, depth, staged + depth * _STAGE_BYTES)
