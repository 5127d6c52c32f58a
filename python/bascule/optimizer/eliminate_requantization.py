# SPDX-License-Identifier: Apache-2.0
"""Leave out DequantizeLinear and QuantizeLinear around what only moves or picks elements.

Before:
    g (uint8[2,3] x) => (uint8[3,2] y) <float s = {0.5}, uint8 z = {7}> {
        f = DequantizeLinear(x, s, z)
        t = Transpose<perm = [1, 0]>(f)
        y = QuantizeLinear(t, s, z)
    }
After:
    g (uint8[2,3] x) => (uint8[3,2] y) { y = Transpose<perm = [1, 0]>(x) }
Before:
    g (int8[1,2,4,4] a, int8[1,2,4,4] b) => (int8[1,2,4,8] y) <float s = {0.5}, int8 z = {-3}> {
        f = DequantizeLinear(a, s, z)
        g = DequantizeLinear(b, s, z)
        c = Concat<axis = 3>(f, g)
        y = QuantizeLinear(c, s, z)
    }
After:
    g (int8[1,2,4,4] a, int8[1,2,4,4] b) => (int8[1,2,4,8] y) { y = Concat<axis = 3>(a, b) }
Keeps:
    g (uint8[2,3] x) => (uint8[3,2] y) <float s = {0.5}, uint8 z = {7}, uint8 w = {8}> {
        f = DequantizeLinear(x, s, z)
        t = Transpose<perm = [1, 0]>(f)
        y = QuantizeLinear(t, s, w)
    }
"""

from __future__ import annotations

from bascule.ir.graph import Value
from bascule.optimizer.pattern import op, values
from bascule.optimizer.quantization import dequantized, quantized
from bascule.optimizer.rewrite import Match, rule

x, scale = values("x", "scale")

_MOVE = op[
    "DepthToSpace",
    "Expand",
    "Flatten",
    "Gather",
    "GatherElements",
    "GatherND",
    "MaxPool",
    "Reshape",
    "Slice",
    "SpaceToDepth",
    "Squeeze",
    "Tile",
    "Transpose",
    "Unsqueeze",
](x, ...)
_CONCAT = op.Concat(x, ...)


@rule(op.QuantizeLinear(_MOVE, scale, ...))
def eliminate_requantization(match: Match) -> Value | None:
    before, after, node = dequantized(match[x]), quantized(match.root), match.node(_MOVE)
    if before is None or after is None or not after.same_as(before):
        return None
    inputs = [before.value, *node.inputs[1:]]
    type = match.root.output.type
    return match.build.node(node.op_type, inputs, node.attributes, type=type).output


@rule(op.QuantizeLinear(_CONCAT, scale, ...))
def eliminate_concat_requantization(match: Match) -> Value | None:
    after, node = quantized(match.root), match.node(_CONCAT)
    parts = [dequantized(value) for value in node.inputs]
    if after is None or not all(part is not None and after.same_as(part) for part in parts):
        return None
    inputs = [part.value for part in parts if part is not None]
    return match.build.Concat(*inputs, type=match.root.output.type, **node.attributes)


@rule(op.QuantizeLinear(x, scale, ...))
def eliminate_quantize(match: Match) -> Value | None:
    """Numbers that just came from the same integers."""
    before, after = dequantized(match[x]), quantized(match.root)
    return (
        before.value if before is not None and after is not None and after.same_as(before) else None
    )
