# SPDX-License-Identifier: Apache-2.0
"""Merge two Slices into one when they cut different axes.

Before:
    g (float[8,9] x) => (float[2,3] y)
    <int64[1] a = {1}, int64[1] b = {5}, int64[1] rows = {0}, int64[1] step = {2},
     int64[1] c = {-4}, int64[1] d = {-1}, int64[1] columns = {-1}> {
        t = Slice(x, a, b, rows, step)
        y = Slice(t, c, d, columns)
    }
After:
    g (float[8,9] x) => (float[2,3] y)
    <int64[2] starts = {1, -4}, int64[2] ends = {5, -1}, int64[2] axes = {0, 1},
     int64[2] steps = {2, 1}> {
        y = Slice(x, starts, ends, axes, steps)
    }
Keeps:
    g (float[8,9] x) => (float[2,9] y)
    <int64[1] a = {1}, int64[1] b = {5}, int64[1] c = {2}, int64[1] d = {9}, int64[1] rows = {0}> {
        t = Slice(x, a, b, rows)
        y = Slice(t, c, d, rows)
    }
"""

from __future__ import annotations

import numpy as np

from bascule.ir.graph import Node, Value
from bascule.optimizer.pattern import op, values
from bascule.optimizer.rewrite import Match, rule
from bascule.optimizer.shapes import integers

(x,) = values("x")
_FIRST = op.Slice(x, ...)


@rule(op.Slice(_FIRST, ...))
def merge_slices(match: Match) -> Value | None:
    rank = match[x].rank
    if rank is None:
        return None
    cuts: dict[int, tuple[int, int, int]] = {}
    for node in (match.node(_FIRST), match.root):
        found = _cuts(node, rank)
        if found is None or cuts.keys() & found.keys():
            return None
        cuts.update(found)
    starts, ends, steps = (np.array(column, dtype=np.int64) for column in zip(*cuts.values()))
    axes = np.array(list(cuts), dtype=np.int64)
    return match.build.Slice(match[x], starts, ends, axes, steps, type=match.root.output.type)


def _cuts(node: Node, rank: int) -> dict[int, tuple[int, int, int]] | None:
    """Start, end and step by axis; None if they are not constant."""
    lists = [integers(node.input(index)) for index in range(1, 5)]
    if any(found is None and node.input(i + 1) is not None for i, found in enumerate(lists)):
        return None
    starts, ends, axes, steps = lists
    if not starts or ends is None:
        return None
    axes = [axis % rank for axis in axes] if axes is not None else list(range(len(starts)))
    return dict(zip(axes, zip(starts, ends, steps or [1] * len(starts))))
