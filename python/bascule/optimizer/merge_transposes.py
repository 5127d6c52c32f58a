# SPDX-License-Identifier: Apache-2.0
"""Merge two Transposes into one, and drop one that moves nothing.

Before:
    g (float[2,3,4] x) => (float[4,3,2] y) {
        t = Transpose<perm = [1, 0, 2]>(x)
        y = Transpose<perm = [2, 0, 1]>(t)
    }
After:
    g (float[2,3,4] x) => (float[4,3,2] y) { y = Transpose<perm = [2, 1, 0]>(x) }
"""

from __future__ import annotations

from bascule.ir.graph import Node, Value
from bascule.optimizer.pattern import op, shared, values
from bascule.optimizer.rewrite import Match, rule

(x,) = values("x")
_FIRST = shared(op.Transpose(x))


@rule(op.Transpose(_FIRST))
def merge_transposes(match: Match) -> Value | None:
    first = permutation(match.node(_FIRST))
    second = permutation(match.root)
    if first is None or second is None:
        return None
    both = [first[axis] for axis in second]
    if both == sorted(both):
        return match[x]
    return match.build.Transpose(match[x], perm=both)


def permutation(node: Node) -> list[int] | None:
    """The axes of the input in the order of the result; None when the rank is unknown.

    None, too, for what is no order of all axes, which the kernel refuses when it runs.
    """
    rank = node.inputs[0].rank if node.inputs[0] is not None else None
    if node.attribute("perm") is None:
        return None if rank is None else list(range(rank))[::-1]
    axes = list(node.attributes["perm"])
    fits = rank in (None, len(axes)) and sorted(axes) == list(range(len(axes)))
    return axes if fits else None
