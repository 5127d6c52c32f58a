# SPDX-License-Identifier: Apache-2.0
"""Blocks of a drawing: what can be one box, by module or because it is repeated.

A block is a run of nodes that follow each other in an order in which edges go forwards, so that
whatever blocks are one box, edges still do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bascule.tools.view.layout import Box

_LEAST = 3
"""Nodes of a repeated block."""

_LONGEST_PERIOD = 2000
_DEEPEST = 8


@dataclass(frozen=True, slots=True)
class Block:
    """Boxes `start` to `stop`, in block `parent`, or in none where that is -1."""

    start: int
    stop: int
    parent: int
    title: str


def blocks_of(boxes: Sequence[Box]) -> list[Block]:
    """The blocks, each behind its parent: modules where names tell of them, else repetitions."""
    found: list[Block] = []
    places = [index for index, box in enumerate(boxes) if box.kind == "node"]
    if not places:
        return found
    start, stop = places[0], places[-1] + 1
    if any(box.scope for box in boxes):
        _add_modules(boxes, start, stop, 0, -1, found)
    else:
        _add_repeated(boxes, start, stop, -1, 0, found)
    return found


def closed_blocks(boxes: Sequence[Box], blocks: Sequence[Block], most: int) -> list[int]:
    """The blocks that are one box: the innermost that leave at most `most` boxes, or else all."""
    depths: list[int] = []
    for block in blocks:
        depths.append(depths[block.parent] + 1 if block.parent >= 0 else 0)
    deepest = max(depths, default=-1)
    for limit in range(deepest, 0, -1):
        hidden = sum(
            block.stop - block.start - 1 for block, depth in zip(blocks, depths) if depth == limit
        )
        if len(boxes) - hidden <= most:
            return [index for index, depth in enumerate(depths) if depth >= limit]
    return list(range(len(blocks)))


def members(boxes: Sequence[Box], block: Block) -> list[str]:
    """The names of its nodes."""
    return [name for box in boxes[block.start : block.stop] for name in box.members]


def operators(boxes: Sequence[Box], block: Block) -> str:
    """How often it has each operator, the commonest first."""
    counts = Counter(box.title for box in boxes[block.start : block.stop])
    return ", ".join(f"{name} {count}" for name, count in counts.most_common())


def _add_modules(
    boxes: Sequence[Box], start: int, stop: int, depth: int, parent: int, found: list[Block]
) -> None:
    position = start
    while position < stop:
        part = boxes[position].scope[depth : depth + 1]
        end = position + 1
        while end < stop and boxes[end].scope[depth : depth + 1] == part:
            end += 1
        if part:
            inner = parent
            if end - position > 1 and (position, end) != (start, stop):
                inner = len(found)
                found.append(Block(position, end, parent, part[0]))
            _add_modules(boxes, position, end, depth + 1, inner, found)
        position = end


def _add_repeated(
    boxes: Sequence[Box], start: int, stop: int, parent: int, depth: int, found: list[Block]
) -> None:
    kinds = {title: n for n, title in enumerate(dict.fromkeys(b.title for b in boxes))}
    signs = np.array([kinds[box.title] for box in boxes])
    pending = [(start, stop, parent, depth)]
    while pending:
        start, stop, parent, depth = pending.pop()
        for first, period, copies in _repetitions(signs, start, stop):
            for copy in range(copies):
                begin = first + copy * period
                title = f"block {copy + 1} of {copies}"
                found.append(Block(begin, begin + period, parent, title))
                if depth < _DEEPEST:
                    pending.append((begin, begin + period, len(found) - 1, depth + 1))


def _repetitions(
    signs: np.ndarray[tuple[int], np.dtype[np.int64]], start: int, stop: int
) -> Iterator[tuple[int, int, int]]:
    """Start, period and number of what is repeated without a gap, the largest parts first."""
    pending = [(start, stop)]
    while pending:
        start, stop = pending.pop()
        part = signs[start:stop]
        best = (0, 0, 0, 0)  # nodes, -period, start, copies
        for period in range(_LEAST, min(len(part) // 2, _LONGEST_PERIOD) + 1):
            if len(part) // period * period < best[0]:
                continue
            differ = np.flatnonzero(part[period:] != part[:-period])
            edges = np.concatenate(([-1], differ, [len(part) - period]))
            gaps = np.diff(edges) - 1
            longest = int(gaps.argmax())
            copies = (int(gaps[longest]) + period) // period
            begin = int(edges[longest]) + 1
            if copies > 1 and len(set(part[begin : begin + period].tolist())) > 1:
                best = max(best, (copies * period, -period, begin, copies))
        nodes, period, begin, copies = best
        if copies:
            yield start + begin, -period, copies
            pending += [(start, start + begin), (start + begin + nodes, stop)]
