# SPDX-License-Identifier: Apache-2.0
"""Replace a Transpose that only moves axes of size 1 by a Reshape, which copies nothing.

Before:
    g (float[N,1,4,1] x) => (float[1,N,1,4] y) { y = Transpose<perm = [1, 0, 3, 2]>(x) }
After:
    g (float[N,1,4,1] x) => (float[1,N,1,4] y) <int64[4] shape = {1, -1, 1, 4}> {
        y = Reshape(x, shape)
    }
Keeps:
    g (float[N,S,1] x) => (float[S,1,N] y) { y = Transpose<perm = [1, 2, 0]>(x) }
"""

from __future__ import annotations

import numpy as np

from bascule.ir.graph import Value
from bascule.optimizer.merge_transposes import permutation
from bascule.optimizer.pattern import op, values
from bascule.optimizer.rewrite import Match, rule
from bascule.optimizer.shapes import certain_shape, reshape_sizes

(x,) = values("x")


@rule(op.Transpose(x))
def simplify_transpose(match: Match) -> Value | None:
    axes, shape = permutation(match.root), certain_shape(match[x])
    if axes is None or shape is None:
        return None
    moved = [axis for axis in axes if shape[axis] != 1]
    if moved != sorted(moved):
        return None
    sizes = reshape_sizes(shape, tuple(shape[axis] for axis in axes))
    if sizes is None:
        return None
    return match.build.Reshape(
        match[x], np.array(sizes, dtype=np.int64), type=match.root.output.type
    )
