# SPDX-License-Identifier: Apache-2.0
"""Merge a Transpose of the last two axes and the Reshapes that make it one of rank 3.

Before:
    g (float[N,2,S,8] x) => (float[N,2,8,S] y) <
        int64[1] all = {-1}, int64[1] width = {8}, int64[1] heads = {2}
    > {
        s = Shape<start = 2, end = 3>(x)
        sizes = Concat<axis = 0>(all, s, width)
        a = Reshape(x, sizes)
        b = Transpose<perm = [0, 2, 1]>(a)
        n = Shape<start = 0, end = 1>(x)
        sizes2 = Concat<axis = 0>(n, heads, width, s)
        c = Reshape(b, sizes2)
        y = Relu(c)
    }
After:
    g (float[N,2,S,8] x) => (float[N,2,8,S] y) {
        a = Transpose<perm = [0, 1, 3, 2]>(x)
        y = Relu(a)
    }
Keeps:
    g (float[2,3,4,8] x) => (float[2,3,8,4] y) <int64[3] a = {8, 3, 8}, int64[4] b = {2, 3, 8, 4}> {
        s = Reshape(x, a)
        t = Transpose<perm = [0, 2, 1]>(s)
        u = Reshape(t, b)
        y = Relu(u)
    }
"""

from __future__ import annotations

from bascule.ir.graph import Value
from bascule.optimizer.pattern import op, values
from bascule.optimizer.rewrite import Match, rule
from bascule.optimizer.symbolic import dims_of

(x,) = values("x")
_FLAT = op.Reshape(x, ...)


@rule(op.Reshape(op.Transpose(_FLAT, perm=[0, 2, 1]), ...))
def merge_batched_transpose(match: Match) -> Value | None:
    before, flat, after = (dims_of(v) for v in (match[x], match[_FLAT], match.root.output))
    if before is None or flat is None or after is None or len(before) < 3:
        return None
    *batch, rows, columns = before
    if flat[1:] != (rows, columns) or after != (*batch, columns, rows):
        return None
    rank = len(before)
    permutation = [*range(rank - 2), rank - 1, rank - 2]
    return match.build.Transpose(match[x], perm=permutation)
