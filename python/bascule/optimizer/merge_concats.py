# SPDX-License-Identifier: Apache-2.0
"""Merge a Concat into the Concat along the same axis that reads it.

Before:
    g (float[2,N] a, float[3,N] b, float[4,N] c) => (float[9,N] y) {
        t = Concat<axis = -2>(b, c)
        y = Concat<axis = 0>(a, t)
    }
After:
    g (float[2,N] a, float[3,N] b, float[4,N] c) => (float[9,N] y) {
        y = Concat<axis = 0>(a, b, c)
    }
Keeps:
    g (float[2,2] a, float[2,2] b) => (float[4,4] y) {
        t = Concat<axis = 0>(a, b)
        y = Concat<axis = 1>(t, t)
    }
"""

from __future__ import annotations

from bascule.ir.graph import Node, Value
from bascule.optimizer.pattern import op
from bascule.optimizer.rewrite import Match, rule


@rule(op.Concat(...))
def merge_concats(match: Match) -> Value | None:
    node = match.root
    axis = _axis(node)
    inputs: list[Value | None] = []
    for value in node.inputs:
        inner = None if value is None else value.producer
        if (
            value is not None
            and inner is not None
            and inner.is_op("Concat")
            and inner.graph is node.graph
            and value.only_use() is node
            and axis is not None
            and _axis(inner) == axis
        ):
            inputs += inner.inputs
        else:
            inputs.append(value)
    if len(inputs) == len(node.inputs):
        return None
    return match.build.node("Concat", inputs, node.attributes, type=node.output.type).output


def _axis(node: Node) -> int | None:
    axis, rank = int(node.attributes["axis"]), node.output.rank
    return axis if axis >= 0 else None if rank is None else axis + rank
