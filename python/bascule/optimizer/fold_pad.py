# SPDX-License-Identifier: Apache-2.0
"""Fold a Pad by zeros into the padding of the convolution or average pool that reads it.

Before:
    g (float[N,2,5,5] x) => (float[N,3,5,5] y)
    <int64[8] pads = {0, 0, 1, 1, 0, 0, 1, 1}, float[3,2,3,3] w = {
      1,0,1,0,1,0,1,0,1, 1,0,1,0,1,0,1,0,1, 1,0,1,0,1,0,1,0,1, 1,0,1,0,1,0,1,0,1,
      1,0,1,0,1,0,1,0,1, 1,0,1,0,1,0,1,0,1}> {
        t = Pad(x, pads)
        y = Conv(t, w)
    }
After:
    g (float[N,2,5,5] x) => (float[N,3,5,5] y)
    <float[3,2,3,3] w = {
      1,0,1,0,1,0,1,0,1, 1,0,1,0,1,0,1,0,1, 1,0,1,0,1,0,1,0,1, 1,0,1,0,1,0,1,0,1,
      1,0,1,0,1,0,1,0,1, 1,0,1,0,1,0,1,0,1}> {
        y = Conv<pads = [1, 1, 1, 1]>(x, w)
    }
Before:
    g (float[N,2,5,5] x) => (float[N,2,6,6] y) <int64[8] pads = {0, 0, 1, 1, 0, 0, 1, 1}> {
        t = Pad(x, pads)
        y = AveragePool<kernel_shape = [2, 2]>(t)
    }
After:
    g (float[N,2,5,5] x) => (float[N,2,6,6] y) {
        y = AveragePool<kernel_shape = [2, 2], pads = [1, 1, 1, 1], count_include_pad = 1>(x)
    }
Rejects, "the padding is not by zeros on spatial axes":
    g (float[N,2,5,5] x) => (float[N,3,6,6] y) <int64[8] pads = {0, 1, 1, 1, 0, 0, 1, 1}> {
        t = Pad(x, pads)
        y = AveragePool<kernel_shape = [2, 2]>(t)
    }
"""

from __future__ import annotations

from bascule.ir.graph import Node, Value
from bascule.optimizer.pattern import attribute_of, constant_of, op, shared, uniform_value, values
from bascule.optimizer.rewrite import Match, Reject, rule
from bascule.optimizer.shapes import integers

(x,) = values("x")
_PAD = shared(op.Pad(x, ...))


@rule(op["Conv", "AveragePool"](_PAD, ..., auto_pad="NOTSET"))
def fold_pad(match: Match) -> Value | Reject | None:
    node, rank = match.root, match[x].rank
    if rank is None:
        return None
    pads = _spatial_pads(match.node(_PAD), rank)
    if pads is None:
        return Reject("the padding is not by zeros on spatial axes", match[_PAD])
    own = node.attribute("pads") or [0] * len(pads)
    attributes = {**node.attributes, "pads": [a + b for a, b in zip(own, pads)]}
    if node.is_op("AveragePool"):
        if node.attribute("ceil_mode", 0) or (any(own) and not node.attribute("count_include_pad")):
            return Reject("the pool has padding of its own that does not count", node.output)
        kernel = node.attributes["kernel_shape"] * 2
        if any(pad >= size for pad, size in zip(attributes["pads"], kernel)):
            return Reject("the padding is as large as the window", match[_PAD])
        attributes["count_include_pad"] = 1
    return match.build.node(
        node.op_type, [match[x], *node.inputs[1:]], attributes, type=node.output.type
    ).output


def _spatial_pads(node: Node, rank: int) -> list[int] | None:
    """Begins and ends on the axes from 2 on; None if there is anything else to the padding."""
    sizes, axes = integers(node.input(1)), integers(node.input(3))
    if sizes is None or (axes is None and node.input(3) is not None):
        return None
    number = constant_of(node.input(2))
    if node.input(2) is not None and (number is None or uniform_value(number) != 0):
        return None
    if attribute_of(node, "mode") != "constant" or min(sizes, default=0) < 0:
        return None
    pads = [0] * (2 * rank)
    for index, axis in enumerate(axes if axes is not None else range(rank)):
        pads[axis % rank] = sizes[index]
        pads[axis % rank + rank] = sizes[index + len(sizes) // 2]
    if any(pads[:2]) or any(pads[rank : rank + 2]):
        return None
    return pads[2:rank] + pads[rank + 2 :]
