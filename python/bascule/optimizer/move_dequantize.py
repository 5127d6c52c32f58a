# SPDX-License-Identifier: Apache-2.0
"""Move what only rearranges quantized weights in front of their DequantizeLinear.

There it is done once, at load time; of a table, only the rows that are looked up are dequantized.

Before:
    g (float[2,2] x) => (float[2,3] y) <
        int8[3,2] q = {1, 2, 3, 4, 5, 6}, float[3] s = {0.5, 0.25, 2}
    > {
        w = DequantizeLinear<axis = 0>(q, s)
        t = Transpose(w)
        y = MatMul(x, t)
    }
After:
    g (float[2,2] x) => (float[2,3] y) <
        int8[3,2] q = {1, 2, 3, 4, 5, 6}, float[3] s = {0.5, 0.25, 2}
    > {
        t = Transpose(q)
        w = DequantizeLinear<axis = 1>(t, s)
        y = MatMul(x, w)
    }
Before:
    g (int64[N,S] i) => (float[N,S,2] y) <
        uint8[3,2] q = {1, 2, 3, 4, 5, 6}, float s = {0.5}, uint8 z = {3}
    > {
        w = DequantizeLinear(q, s, z)
        y = Gather(w, i)
    }
After:
    g (int64[N,S] i) => (float[N,S,2] y) <
        uint8[3,2] q = {1, 2, 3, 4, 5, 6}, float s = {0.5}, uint8 z = {3}
    > {
        t = Gather(q, i)
        y = DequantizeLinear(t, s, z)
    }
Keeps:
    g (int64[N] i) => (float[N,2] y) <int8[3,2] q = {1, 2, 3, 4, 5, 6}, float[3] s = {1, 2, 3}> {
        w = DequantizeLinear<axis = 0>(q, s)
        y = Gather(w, i)
    }
"""

from __future__ import annotations

from bascule.ir.graph import Node, Value
from bascule.ir.types import TensorType
from bascule.optimizer.merge_transposes import permutation
from bascule.optimizer.pattern import attribute_of, constants, op, shared
from bascule.optimizer.rewrite import Match, rule

q, scale = constants("q", "scale")
_DEQUANTIZE = shared(op.DequantizeLinear(q, scale, ..., block_size=0))


@rule(op["Transpose", "Gather", "Reshape", "Squeeze", "Unsqueeze", "Flatten"](_DEQUANTIZE, ...))
def move_dequantize(match: Match) -> Value | None:
    node, dequantize = match.root, match.node(_DEQUANTIZE)
    axis = _axis_after(node, match[q], match[scale], int(attribute_of(dequantize, "axis")))
    quantized, y = match[q].dtype, node.output.type
    if axis is None or quantized is None or not isinstance(y, TensorType):
        return None
    moved = match.build.node(
        node.op_type,
        [match[q], *node.inputs[1:]],
        node.attributes,
        type=TensorType(quantized, y.shape),
    ).output
    attributes = {**dequantize.attributes, "axis": axis}
    if match[scale].rank == 0:
        del attributes["axis"]
    return match.build.node(
        "DequantizeLinear", [moved, *dequantize.inputs[1:]], attributes, type=y
    ).output


def _axis_after(node: Node, q: Value, scale: Value, axis: int) -> int | None:
    """The axis of the scales after `node`; None if they could not be the same any more."""
    if scale.rank == 0:
        return 0
    axes = permutation(node) if node.is_op("Transpose") else None
    if axes is None or scale.rank != 1 or q.rank is None:
        return None
    return axes.index(axis % q.rank)
